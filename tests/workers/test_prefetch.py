import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from har_cache.encoder.transform import CROP, Square, crop
from har_cache.errors import ClipError
from har_cache.workers import ring
from har_cache.workers.prefetch import FramePrefetcher, LoaderStats, Request

from ..helpers.videos import moving_frames, reference_frames, write_video

NUMBERS = (1, 4, 11)
MIDDLE, WHOLE, LARGER = Square(), Square(CROP, whole=True), Square(whole=True)


@pytest.fixture(scope="module")
def prefetcher() -> Iterator[FramePrefetcher]:
    with FramePrefetcher(frames=4, workers=2, ahead=3) as prefetcher:
        yield prefetcher


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("clips")
    return [write_video(folder / f"{n}.avi", moving_frames(n)) for n in range(12, 20)]


def expected(path: Path, numbers: tuple[int, ...] = NUMBERS) -> np.ndarray:
    crops = crop(torch.from_numpy(reference_frames(path)[list(numbers)]), 256)
    return crops.permute(0, 2, 3, 1).to(torch.uint8).numpy()


def read(prefetcher: FramePrefetcher, *requests: Request) -> list[np.ndarray | ClipError]:
    outcomes = prefetcher.read(requests, LoaderStats())
    return [outcome.copy() if isinstance(outcome, np.ndarray) else outcome for outcome in outcomes]


def test_frames_come_exact_and_in_the_order_asked_for(prefetcher: FramePrefetcher, clips: list[Path]) -> None:
    found = read(prefetcher, *((path, NUMBERS, MIDDLE) for path in clips))
    assert len(found) == len(clips)
    for array, path in zip(found, clips, strict=True):
        assert isinstance(array, np.ndarray) and (array == expected(path)).all()
    [other] = read(prefetcher, (clips[0], (0, 2, 3, 9), MIDDLE))
    assert isinstance(other, np.ndarray) and (other == expected(clips[0], (0, 2, 3, 9))).all()


def test_frames_come_as_the_squares_that_each_request_asks_for(prefetcher: FramePrefetcher, clips: list[Path]) -> None:
    middle, whole, larger = read(prefetcher, *((clips[0], NUMBERS, square) for square in (MIDDLE, WHOLE, LARGER)))
    frames = torch.from_numpy(reference_frames(clips[0])[list(NUMBERS)])
    assert isinstance(middle, np.ndarray) and (middle == expected(clips[0])).all()
    assert isinstance(whole, np.ndarray) and (whole == WHOLE.of(frames).numpy()).all()
    assert isinstance(larger, np.ndarray) and (larger == LARGER.of(frames).numpy()).all()
    assert middle.shape == larger.shape == (3, 256, 256, 3) and whole.shape == (3, 224, 224, 3)


def test_frames_are_counted_as_the_cache_counts_them(clips: list[Path]) -> None:
    with FramePrefetcher(frames=3, workers=1, ahead=1, sampling="every 3") as prefetcher:
        [found] = read(prefetcher, (clips[0], (0, 1, 3), MIDDLE))
    assert isinstance(found, np.ndarray) and (found == expected(clips[0], (0, 3, 9))).all()


def test_a_clip_that_fails_costs_itself(prefetcher: FramePrefetcher, clips: list[Path], tmp_path: Path) -> None:
    (tmp_path / "empty.avi").touch()
    found = read(
        prefetcher, (tmp_path / "empty.avi", NUMBERS, MIDDLE), (clips[0], (3, 99), WHOLE), (clips[1], NUMBERS, MIDDLE)
    )
    assert isinstance(found[0], ClipError) and isinstance(found[1], ClipError)
    assert "end before number 99" in str(found[1])
    assert isinstance(found[2], np.ndarray) and (found[2] == expected(clips[1])).all()


def test_a_killed_worker_costs_a_second_attempt_only(prefetcher: FramePrefetcher, clips: list[Path]) -> None:
    stats = LoaderStats()
    for i, array in enumerate(prefetcher.read([(path, NUMBERS, MIDDLE) for path in clips], stats)):
        assert isinstance(array, np.ndarray) and (array == expected(clips[i])).all()
        if i in (1, 4):
            worker = prefetcher._pool._workers[0].process
            assert worker.pid is not None
            os.kill(worker.pid, signal.SIGKILL)
            while worker.is_alive():
                time.sleep(0.001)
    assert stats.clips == len(clips) and stats.busy_s > 0 and stats.waited_s > 0


def test_reading_can_be_broken_off_and_begun_again(prefetcher: FramePrefetcher, clips: list[Path]) -> None:
    for _ in range(3):
        outcomes = prefetcher.read([(path, NUMBERS, MIDDLE) for path in clips], LoaderStats())
        next(outcomes)
        outcomes.close()  # type: ignore[attr-defined]
    found = read(prefetcher, *((path, NUMBERS, MIDDLE) for path in clips[::-1]))
    for array, path in zip(found, clips[::-1], strict=True):
        assert isinstance(array, np.ndarray) and (array == expected(path)).all()


SIZES = {"own": (320, 240), "shrunk": (360, 288), "square": (256, 256), "large": (640, 360)}


@pytest.fixture(scope="module")
def of_sizes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("sizes")
    return {name: write_video(folder / f"{name}.avi", moving_frames(12, *size)) for name, size in SIZES.items()}


def test_frames_come_as_decoded_where_that_is_wanted_and_they_are_not_large(
    of_sizes: dict[str, Path],
) -> None:
    with FramePrefetcher(frames=4, workers=1, ahead=2, as_decoded=True) as prefetcher:
        found = dict(
            zip(of_sizes, read(prefetcher, *((path, NUMBERS, MIDDLE) for path in of_sizes.values())), strict=True)
        )
    for name, path in of_sizes.items():
        theirs = reference_frames(path)[list(NUMBERS)] if name in ("own", "shrunk", "square") else expected(path)
        array = found[name]
        assert isinstance(array, np.ndarray) and array.shape == theirs.shape and (array == theirs).all()


def test_more_frames_than_are_read_at_once_come_all(clips: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ring, "PIECE_BYTES", 2 * 256 * 256 * 3)
    with FramePrefetcher(frames=5, workers=1, ahead=1) as prefetcher:
        [array] = read(prefetcher, (clips[0], (0, 2, 3, 9, 10), MIDDLE))
    assert isinstance(array, np.ndarray) and (array == expected(clips[0], (0, 2, 3, 9, 10))).all()
