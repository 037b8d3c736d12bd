import numpy as np
import pytest
from PIL import Image, ImageDraw

from har_cache.prediction import panel
from har_cache.prediction.panel import RunningPrediction, annotate, draw_chart, picture_height

from ..helpers.videos import moving_frames

SIZE = (120, 40)
LONG = "swinging_a_very_long_baseball_bat_at_nobody_in_particular"


def running(first: float, true: int | None, moments: int = 12, after: float | None = None) -> RunningPrediction:
    """Two classes; the first is this likely, and from the middle on `after`."""
    share = np.full(moments, first)
    share[moments // 2 :] = first if after is None else after
    return RunningPrediction(["a", "b"], np.stack([share, 1 - share], 1), np.arange(1, moments + 1) / moments, true)


def grey(chart: Image.Image) -> np.ndarray:
    return np.asarray(chart.convert("L"), np.int16)


def test_the_past_shows_nothing_of_the_future() -> None:
    rises, falls = (running(0.8, 0, after=after) for after in (0.9, 0.1))
    for moment in range(6):
        np.testing.assert_array_equal(draw_chart(rises, moment, SIZE, 1.0), draw_chart(falls, moment, SIZE, 1.0))
    assert (grey(draw_chart(rises, 11, SIZE, 1.0)) != grey(draw_chart(falls, 11, SIZE, 1.0))).any()


def test_the_filled_part_grows_with_time_and_is_as_high_as_the_probability() -> None:
    light = grey(draw_chart(running(0.75, 0), 5, SIZE, 1.0)) > 120
    columns = light[:, 5:50].sum(0)
    assert (np.abs(columns - 0.75 * SIZE[1]) <= 1).all()
    assert not light[:, 64:].any()


def test_right_and_wrong_differ_without_colour() -> None:
    right, wrong = (grey(draw_chart(running(0.9, true), 11, SIZE, 1.0))[12:28, 10:-10] for true in (0, 1))
    assert np.ptp(right[right > 100]) < 12  # plain
    assert wrong.std() > 25 and right.mean() > wrong.mean() + 50  # striped, and darker


def test_the_true_class_has_a_line_only_where_it_does_not_lead() -> None:
    chart = np.asarray(draw_chart(running(0.7, 1, after=0.2), 11, SIZE, 1.0))
    white = (chart > 235).all(2)
    rows = np.flatnonzero(white[:, 20])
    assert len(rows) and abs(rows.mean() - 0.7 * SIZE[1]) < 2  # at 0.3 from below
    assert not white[:, 70:].any()


@pytest.mark.parametrize("moments", [1, 2])
def test_a_clip_of_a_moment_has_a_chart_too(moments: int) -> None:
    assert draw_chart(running(0.6, None, moments), moments - 1, SIZE, 1.0).size == SIZE


@pytest.mark.parametrize(("width", "height"), [(320, 240), (176, 144), (640, 360), (90, 160), (321, 241)])
@pytest.mark.parametrize("film", [320, 640])
def test_every_shape_of_video_fits_and_sides_are_even(width: int, height: int, film: int) -> None:
    tall = picture_height(film, [(width, height), (320, 180)])
    frame = Image.fromarray(moving_frames(1, width, height)[0] // 2 + 100)
    picture = annotate(frame, running(0.6, 0), 3, (film, tall))
    assert picture.width == film and picture.height % 2 == 0 and picture.height > tall
    bright = np.asarray(picture)[:tall].min(2) > 60
    assert bright[:, film // 2].all() or bright[tall // 2].all()  # it reaches two opposite edges
    assert not bright.all() or abs(width / height - film / tall) < 0.02


def test_the_panel_says_what_is_right() -> None:
    frame = Image.new("RGB", (80, 60))
    panels = {true: np.asarray(annotate(frame, running(0.7, true), 11, (320, 240)))[240:] for true in (None, 0, 1)}
    assert (panels[0] != panels[1]).any() and (panels[0] != panels[None]).any()
    grey = {true: np.asarray(Image.fromarray(panel).convert("L"), int) for true, panel in panels.items()}
    corners = {true: image[9:12, 8:11] for true, image in grey.items()}  # a square has corners, a disc has none
    assert corners[1].mean() > 80 > corners[0].mean()


def test_names_of_any_length_keep_clear_of_the_probability(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[float, float]] = []
    plain = ImageDraw.ImageDraw.text

    def record(self: ImageDraw.ImageDraw, xy: tuple[float, float], text: str, *rest: object, anchor: str) -> None:
        box = self.textbbox(xy, text, rest[1], anchor=anchor)  # type: ignore[arg-type]
        drawn.append((box[0], box[2]))
        plain(self, xy, text, *rest, anchor=anchor)  # type: ignore[arg-type]

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", record)
    for name in ("hit", "swing_baseball", "somersault", "shoot_bow", LONG):
        drawn.clear()
        one = RunningPrediction([name, LONG], np.array([[0.996, 0.004]]), np.array([1.0]), 1)
        annotate(Image.new("RGB", (80, 60)), one, 0, (320, 240))
        (percent, name_box, second) = drawn
        assert name_box[1] < percent[0] and percent[1] <= 314 and second[1] <= 314
        assert name_box[0] >= 30


@pytest.mark.parametrize("true", [None, 0, 1])
def test_names_with_line_breaks_are_drawn_on_one_line(true: int | None) -> None:
    one = RunningPrediction(["a\nb", "\r\udcff\x1b"], np.array([[0.7, 0.3]]), np.array([1.0]), true, "1\n/2")
    shown = RunningPrediction(["a\\nb", "\\r\\xff\\x1b"], one.probabilities, one.shares, true, "1\\n/2")
    drawn, same = (annotate(Image.new("RGB", (80, 60)), each, 0, (320, 240)) for each in (one, shown))
    assert drawn.tobytes() == same.tobytes()


def test_usual_names_are_not_cut() -> None:
    brush = ImageDraw.Draw(Image.new("RGB", (320, 20)))
    for name in ("swing_baseball", "shoot_bow", "somersault", "ride_horse", "sword_exercise"):
        assert panel._fit(brush, name, 220, [17, 16, 15], True)[0] == name
    text, font = panel._fit(brush, LONG, 220, [17, 11], True)
    assert text.endswith("…") and len(text) > 15 and brush.textlength(text, font) <= 220
