import numpy as np
import pytest
from PIL import Image

from har_cache.prediction.timeline import Story, draw_chart

SIZE = (120, 40)


def story(first: float, true: int | None, moments: int = 12, after: float | None = None) -> Story:
    """Two classes; the first is this likely, and from the middle on `after`."""
    share = np.full(moments, first)
    share[moments // 2 :] = first if after is None else after
    return Story(["a", "b"], np.stack([share, 1 - share], 1), np.arange(1, moments + 1) / moments, true)


def grey(chart: Image.Image) -> np.ndarray:
    return np.asarray(chart.convert("L"), np.int16)


def test_the_past_shows_nothing_of_the_future() -> None:
    rises, falls = (story(0.8, 0, after=after) for after in (0.9, 0.1))
    for moment in range(6):
        np.testing.assert_array_equal(draw_chart(rises, moment, SIZE, 1.0), draw_chart(falls, moment, SIZE, 1.0))
    assert (grey(draw_chart(rises, 11, SIZE, 1.0)) != grey(draw_chart(falls, 11, SIZE, 1.0))).any()


def test_the_filled_part_grows_with_time_and_is_as_high_as_the_probability() -> None:
    light = grey(draw_chart(story(0.75, 0), 5, SIZE, 1.0)) > 120
    columns = light[:, 5:50].sum(0)
    assert (np.abs(columns - 0.75 * SIZE[1]) <= 1).all()
    assert not light[:, 64:].any()


def test_right_and_wrong_differ_without_colour() -> None:
    right, wrong = (grey(draw_chart(story(0.9, true), 11, SIZE, 1.0))[12:28, 10:-10] for true in (0, 1))
    assert np.ptp(right[right > 100]) < 12  # plain
    assert wrong.std() > 25 and right.mean() > wrong.mean() + 50  # striped, and darker


def test_the_true_class_has_a_line_only_where_it_does_not_lead() -> None:
    chart = np.asarray(draw_chart(story(0.7, 1, after=0.2), 11, SIZE, 1.0))
    white = (chart > 235).all(2)
    rows = np.flatnonzero(white[:, 20])
    assert len(rows) and abs(rows.mean() - 0.7 * SIZE[1]) < 2  # at 0.3 from below
    assert not white[:, 70:].any()


@pytest.mark.parametrize("moments", [1, 2])
def test_a_clip_of_a_moment_has_a_chart_too(moments: int) -> None:
    assert draw_chart(story(0.6, None, moments), moments - 1, SIZE, 1.0).size == SIZE
