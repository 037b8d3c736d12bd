import numpy as np
import pytest
from PIL import Image, ImageDraw

from har_cache.prediction import caption
from har_cache.prediction.caption import draw, picture_height
from har_cache.prediction.timeline import Story

from ..helpers.videos import moving_frames
from .test_timeline import story

LONG = "swinging_a_very_long_baseball_bat_at_nobody_in_particular"


@pytest.mark.parametrize(("width", "height"), [(320, 240), (176, 144), (640, 360), (90, 160), (321, 241)])
@pytest.mark.parametrize("film", [320, 640])
def test_every_shape_of_video_fits_and_sides_are_even(width: int, height: int, film: int) -> None:
    tall = picture_height(film, [(width, height), (320, 180)])
    frame = moving_frames(1, width, height)[0] // 2 + 100
    picture = draw(frame, story(0.6, 0), 3, (film, tall))
    assert picture.width == film and picture.height % 2 == 0 and picture.height > tall
    bright = np.asarray(picture)[:tall].min(2) > 60
    assert bright[:, film // 2].all() or bright[tall // 2].all()  # it reaches two opposite edges
    assert not bright.all() or abs(width / height - film / tall) < 0.02


def test_the_panel_says_what_is_right() -> None:
    frame = np.zeros((60, 80, 3), np.uint8)
    panels = {true: np.asarray(draw(frame, story(0.7, true), 11, (320, 240)))[240:] for true in (None, 0, 1)}
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
        one = Story([name, LONG], np.array([[0.996, 0.004]]), np.array([1.0]), 1)
        draw(np.zeros((60, 80, 3), np.uint8), one, 0, (320, 240))
        (percent, name_box, second) = drawn
        assert name_box[1] < percent[0] and percent[1] <= 314 and second[1] <= 314
        assert name_box[0] >= 30


def test_usual_names_are_not_cut() -> None:
    brush = ImageDraw.Draw(Image.new("RGB", (320, 20)))
    for name in ("swing_baseball", "shoot_bow", "somersault", "ride_horse", "sword_exercise"):
        assert caption._fit(brush, name, 220, [17, 16, 15], True)[0] == name
    text, font = caption._fit(brush, LONG, 220, [17, 11], True)
    assert text.endswith("…") and len(text) > 15 and brush.textlength(text, font) <= 220
