from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from har_cache.cache.record import ClipRecord
from har_cache.errors import ClipError
from har_cache.model.config import HEAD
from har_cache.model.run import Run
from har_cache.prediction.predictor import Predictor
from har_cache.prediction.windows import find_windows

from ..model.test_load import write_run


def clip(times: list[float] | None, frames: int = 0, fps: float = 0.0) -> ClipRecord:
    return ClipRecord("a/1.avi", frames or len(times or ()), fps, times=None if times is None else np.array(times))


def test_windows_are_told_by_timestamps_from_the_first_frame_on() -> None:
    found = find_windows(clip([10.0, 10.4, 10.8, 11.2, 13.4]), 1.0)
    assert [window[2:] for window in found] == [(0, 3), (3, 1), (4, 1)]  # none from 12 to 13
    begins, ends = zip(*((begin, end) for begin, end, *_ in found), strict=True)
    assert begins == pytest.approx((10.0, 11.0, 13.0))
    assert ends == pytest.approx((11.0, 12.0, 14.0))
    assert find_windows(clip([0.0, 0.4]), 5)[0][:2] == pytest.approx((0.0, 0.8))  # with the time of its last frame


def test_a_time_that_rounding_makes_a_little_less_is_in_its_own_window() -> None:
    times = [i / 10 for i in range(9)]  # 0.3 / 0.1 is less than 3
    assert [count for *_, count in find_windows(clip(times), 0.1)] == [1] * 9


def test_without_timestamps_the_frame_rate_says_when_and_without_that_nothing() -> None:
    assert [window[2:] for window in find_windows(clip(None, 5, fps=2.0), 1.0)] == [(0, 2), (2, 2), (4, 1)]
    assert [window[2:] for window in find_windows(clip([np.nan] * 3, fps=2.0), 1.0)] == [(0, 2), (2, 1)]
    with pytest.raises(ClipError, match="neither timestamps nor a frame rate"):
        find_windows(clip([np.nan] * 3), 1.0)


@settings(max_examples=30)
@given(
    times=st.lists(st.integers(-50, 500), min_size=1, max_size=30).map(lambda found: [t / 10 for t in sorted(found)]),
    seconds=st.integers(1, 80).map(lambda tenths: tenths / 10),
)
def test_each_frame_is_in_one_window_and_in_its_time(times: list[float], seconds: float) -> None:
    found = find_windows(clip(times), seconds)
    assert [n for _, _, first, count in found for n in range(first, first + count)] == list(range(len(times)))
    for begin, end, first, count in found:
        assert begin - 1e-5 <= times[first] <= times[first + count - 1] <= end + 1e-5 <= begin + seconds + 1e-4


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    path = tmp_path_factory.mktemp("run") / "run"
    write_run(path, HEAD)
    return Predictor(Run.open(path))


def test_a_window_is_predicted_as_if_there_were_no_other_frames(predictor: Predictor) -> None:
    embeddings = np.random.default_rng(3).normal(size=(1, 25, 256)).astype(np.float16)
    embedded = ClipRecord("a/1.avi", 25, embeddings=embeddings, times=np.arange(25) / 10)
    found = predictor.windows(embedded, 1.0)
    assert [(window.first, window.frames) for window in found] == [(0, 10), (10, 10), (20, 5)]
    for window in found:
        alone = embeddings[:, window.first : window.first + window.frames]
        np.testing.assert_allclose(
            window.probabilities, predictor.probabilities(alone, [window.frames])[0], rtol=0, atol=1e-6
        )
    assert predictor.predict(Path("x.avi"), embedded).windows == ()
