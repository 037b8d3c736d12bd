"""Draws what a model makes of a clip beneath its pictures: the action, right or wrong, and its probability over time.

What is right and what is wrong differ in shape, in pattern and in lightness, not in colour alone.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .timeline import FINE, GROUND, INK, RIGHT, WRONG, Story, draw_chart

_WIDTH = 320  # at which the lengths below hold, in pixels
_PANEL, _MARGIN, _CHART = 94, 8, 36
_SOFT = (172, 178, 190)


def picture_height(width: int, sides: Sequence[tuple[int, int]]) -> int:
    """The height of the part above the panel, even, so that pictures of these sizes (width, height) fit into it."""
    tallest = max(height / width for width, height in sides)
    return 2 * round(width * min(tallest, 1.0) / 2)


def draw(frame: np.ndarray, story: Story, moment: int, size: tuple[int, int]) -> Image.Image:
    """A frame, uint8 (h, w, 3), within `size` (width, height), and beneath it a panel of what is known by `moment`."""
    width, height = size
    canvas = Image.new("RGB", (width, height + _px(_PANEL, width)), GROUND)
    picture = _fitted(frame, size)
    canvas.paste(picture, ((width - picture.width) // 2, (height - picture.height) // 2))
    brush = ImageDraw.Draw(canvas)
    if story.label:
        _corner(brush, story.label, width)
    _headline(canvas, story, moment, height)
    _second_line(brush, story, moment, width, height)
    top = height + _px(_PANEL - _CHART - _MARGIN, width)
    chart = _px(_WIDTH - 2 * _MARGIN, width), _px(_CHART, width)
    canvas.paste(draw_chart(story, moment, chart, width / _WIDTH), (_px(_MARGIN, width), top))
    return canvas


def _px(length: float, width: int) -> int:
    return round(length * width / _WIDTH)


def _fitted(frame: np.ndarray, size: tuple[int, int]) -> Image.Image:
    picture = Image.fromarray(frame)
    scale = min(size[0] / picture.width, size[1] / picture.height)
    # What is a row short of the box fills it: no dark line at its edge.
    sides = [
        limit if abs(side * scale - limit) < 2 else max(1, round(side * scale))
        for side, limit in zip(picture.size, size, strict=True)
    ]
    return picture.resize((sides[0], sides[1]), Image.Resampling.LANCZOS)


def _corner(brush: ImageDraw.ImageDraw, text: str, width: int) -> None:
    font, pad = _font(_px(11, width), bold=True), _px(4, width)
    right, top = width - _px(6, width), _px(6, width)
    left = right - brush.textlength(text, font) - 2 * pad
    brush.rounded_rectangle((left, top, right, top + _px(18, width)), _px(5, width), fill=GROUND)
    brush.text((right - pad, top + _px(9, width)), text, INK, font, anchor="rm")


def _headline(canvas: Image.Image, story: Story, moment: int, top: int) -> None:
    """The mark, the leading class, its probability."""
    width, leader = canvas.width, int(story.leaders[moment])
    brush = ImageDraw.Draw(canvas)
    middle, margin, side = top + _px(18, width), _px(_MARGIN, width), _px(18, width)
    mark = _mark(story, leader, side)
    canvas.paste(mark, (margin, middle - side // 2))
    percent, large = _percent(story.probabilities[moment, leader]), _font(_px(17, width), bold=True)
    brush.text((width - margin, middle), percent, INK, large, anchor="rm")
    left = margin + side + _px(7, width)
    room = width - left - margin - brush.textlength(percent, large) - _px(8, width)
    name, font = _fit(brush, story.classes[leader], room, [_px(s, width) for s in (17, 16, 15, 14, 13, 12, 11)], True)
    brush.text((left, middle), name, INK, font, anchor="lm")


def _second_line(brush: ImageDraw.ImageDraw, story: Story, moment: int, width: int, top: int) -> None:
    """What is true, where that is known; else what comes second."""
    probabilities, leader = story.probabilities[moment], int(story.leaders[moment])
    middle, margin = top + _px(39, width), _px(_MARGIN, width)
    left = margin
    if story.true is None:
        second = int(np.argsort(-probabilities, kind="stable")[min(1, len(probabilities) - 1)])
        text, ink = f"then {story.classes[second]} {_percent(probabilities[second])}", _SOFT
    elif leader == story.true:
        text, ink = f"true: {story.classes[story.true]}", _SOFT
    else:
        brush.line((left, middle, left + _px(18, width), middle), INK, _px(2, width))  # as in the chart
        left += _px(25, width)
        text, ink = f"true: {story.classes[story.true]} {_percent(probabilities[story.true])}", INK
    text, font = _fit(brush, text, width - left - margin, [_px(s, width) for s in (12, 11, 10)], False)
    brush.text((left, middle), text, ink, font, anchor="lm")


def _mark(story: Story, leader: int, side: int) -> Image.Image:
    """A disc with a tick, a square with a cross, or a plain disc."""
    s = side * FINE
    mark = Image.new("RGB", (s, s), GROUND)
    brush, colour, stroke = ImageDraw.Draw(mark), story.colour(leader), round(s * 0.13)
    if colour == WRONG:
        brush.rounded_rectangle((0, 0, s - 1, s - 1), s * 0.16, fill=colour)
        for a, b in (((0.27, 0.27), (0.73, 0.73)), ((0.27, 0.73), (0.73, 0.27))):
            brush.line([(s * x, s * y) for x, y in (a, b)], (255, 255, 255), stroke)
    else:
        brush.ellipse((0, 0, s - 1, s - 1), fill=colour)
    if colour == RIGHT:
        tick = [(s * x, s * y) for x, y in ((0.26, 0.52), (0.44, 0.7), (0.75, 0.33))]
        brush.line(tick, GROUND, stroke, joint="curve")
    return mark.reduce(FINE)


def _percent(share: float) -> str:
    return f"{100 * share:.0f}%"


def _fit(
    brush: ImageDraw.ImageDraw, text: str, room: float, sizes: Sequence[int], bold: bool
) -> tuple[str, ImageFont.FreeTypeFont]:
    """The text in the largest of the sizes that fits, or cut short in the smallest."""
    for size in sizes:
        font = _font(size, bold)
        if brush.textlength(text, font) <= room:
            return text, font
    while len(text) > 1 and brush.textlength(text + "…", font) > room:
        text = text[:-1]
    return text + "…", font


@lru_cache(64)
def _font(size: int, bold: bool) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which comes with matplotlib, and has the letters of most languages."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name, size)
