"""The annotation under a film's pictures: the action, right or wrong, its probability, and a chart of that over time.

What is right and what is wrong differ in shape, in pattern and in lightness, not in colour alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..texts import printable

Rgb = tuple[int, int, int]

GROUND: Rgb = (16, 18, 24)
INK: Rgb = (246, 247, 249)
RIGHT: Rgb = (94, 214, 172)
WRONG: Rgb = (226, 96, 42)
OPEN: Rgb = (132, 168, 240)  # where nobody knows what is true

_SOFT: Rgb = (172, 178, 190)
_STRIPE: Rgb = (96, 40, 22)  # on what is wrong
_BED, _AHEAD, _LINE = (40, 45, 56), (28, 31, 39), (84, 91, 107)
_STRIPE_WIDTH = 5
_WIDTH = 320  # at which the lengths below hold, in pixels
_PANEL, _MARGIN, _CHART = 94, 8, 36
_FINE = 4  # drawn this many times larger, then averaged down: antialiasing


@dataclass(frozen=True)
class RunningPrediction:
    """Predictions of a model for a clip while its frames come in.

    `probabilities`: (moments, classes), what it says of the frames up to each moment; `shares`: (moments), the share of
    the frames that had come in by then, rising to 1; `true`: index of the true class, None where it is not known;
    `label`: a few words for the corner of the picture, or nothing.
    """

    classes: Sequence[str]
    probabilities: np.ndarray
    shares: np.ndarray
    true: int | None
    label: str = ""

    @cached_property
    def leaders(self) -> np.ndarray:
        """int (moments): the likeliest class at each moment."""
        return self.probabilities.argmax(1)

    def colour(self, leader: int) -> Rgb:
        """That of a leading class."""
        return OPEN if self.true is None else RIGHT if leader == self.true else WRONG


def picture_height(width: int, sides: Sequence[tuple[int, int]]) -> int:
    """The height of the part above the panel, even and not 0, so that pictures of these sizes (width, height) fit."""
    tallest = max(height / width for width, height in sides)
    return max(2, 2 * round(width * min(tallest, 1.0) / 2))


def annotate(frame: Image.Image, running: RunningPrediction, moment: int, size: tuple[int, int]) -> Image.Image:
    """A frame, RGB, within `size` (width, height), and beneath it a panel of what is known by `moment`."""
    width, height = size
    canvas = Image.new("RGB", (width, height + _px(_PANEL, width)), GROUND)
    picture = _fitted(frame, size)
    canvas.paste(picture, ((width - picture.width) // 2, (height - picture.height) // 2))
    brush = ImageDraw.Draw(canvas)
    if running.label:
        _label(brush, printable(running.label), width)
    _headline(canvas, running, moment, height)
    _second_line(brush, running, moment, width, height)
    top = height + _px(_PANEL - _CHART - _MARGIN, width)
    chart = _px(_WIDTH - 2 * _MARGIN, width), _px(_CHART, width)
    canvas.paste(draw_chart(running, moment, chart, width / _WIDTH), (_px(_MARGIN, width), top))
    return canvas


def _px(length: float, width: int) -> int:
    return round(length * width / _WIDTH)


def _fitted(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    scale = min(size[0] / picture.width, size[1] / picture.height)
    # What is a row short of the box fills it: no dark line at its edge.
    sides = [
        limit if abs(side * scale - limit) < 2 else max(1, round(side * scale))
        for side, limit in zip(picture.size, size, strict=True)
    ]
    return picture.resize((sides[0], sides[1]), Image.Resampling.LANCZOS)


def _label(brush: ImageDraw.ImageDraw, text: str, width: int) -> None:
    font, pad = _font(_px(11, width), bold=True), _px(4, width)
    right, top = width - _px(6, width), _px(6, width)
    left = right - brush.textlength(text, font) - 2 * pad
    brush.rounded_rectangle((left, top, right, top + _px(18, width)), _px(5, width), fill=GROUND)
    brush.text((right - pad, top + _px(9, width)), text, INK, font, anchor="rm")


def _headline(canvas: Image.Image, running: RunningPrediction, moment: int, top: int) -> None:
    """The symbol, the leading class, its probability."""
    width, leader = canvas.width, int(running.leaders[moment])
    brush = ImageDraw.Draw(canvas)
    middle, margin, side = top + _px(18, width), _px(_MARGIN, width), _px(18, width)
    symbol = _symbol(running, leader, side)
    canvas.paste(symbol, (margin, middle - side // 2))
    percent, large = _percent(running.probabilities[moment, leader]), _font(_px(17, width), bold=True)
    brush.text((width - margin, middle), percent, INK, large, anchor="rm")
    left = margin + side + _px(7, width)
    room = width - left - margin - brush.textlength(percent, large) - _px(8, width)
    name, font = _fit(
        brush, printable(running.classes[leader]), room, [_px(s, width) for s in (17, 16, 15, 14, 13, 12, 11)], True
    )
    brush.text((left, middle), name, INK, font, anchor="lm")


def _second_line(brush: ImageDraw.ImageDraw, running: RunningPrediction, moment: int, width: int, top: int) -> None:
    """The true class, where that is known; else the one that comes second."""
    probabilities, leader = running.probabilities[moment], int(running.leaders[moment])
    middle, margin = top + _px(39, width), _px(_MARGIN, width)
    left = margin
    if running.true is None:
        second = int(np.argsort(-probabilities, kind="stable")[min(1, len(probabilities) - 1)])
        text, ink = f"then {running.classes[second]} {_percent(probabilities[second])}", _SOFT
    elif leader == running.true:
        text, ink = f"true: {running.classes[running.true]}", _SOFT
    else:
        brush.line((left, middle, left + _px(18, width), middle), INK, _px(2, width))  # as in the chart
        left += _px(25, width)
        text, ink = f"true: {running.classes[running.true]} {_percent(probabilities[running.true])}", INK
    text, font = _fit(brush, printable(text), width - left - margin, [_px(s, width) for s in (12, 11, 10)], False)
    brush.text((left, middle), text, ink, font, anchor="lm")


def _symbol(running: RunningPrediction, leader: int, side: int) -> Image.Image:
    """A disc with a tick, a square with a cross, or a plain disc."""
    s = side * _FINE
    symbol = Image.new("RGB", (s, s), GROUND)
    brush, colour, stroke = ImageDraw.Draw(symbol), running.colour(leader), round(s * 0.13)
    if colour == WRONG:
        brush.rounded_rectangle((0, 0, s - 1, s - 1), s * 0.16, fill=colour)
        for a, b in (((0.27, 0.27), (0.73, 0.73)), ((0.27, 0.73), (0.73, 0.27))):
            brush.line([(s * x, s * y) for x, y in (a, b)], (255, 255, 255), stroke)
    else:
        brush.ellipse((0, 0, s - 1, s - 1), fill=colour)
    if colour == RIGHT:
        tick = [(s * x, s * y) for x, y in ((0.26, 0.52), (0.44, 0.7), (0.75, 0.33))]
        brush.line(tick, GROUND, stroke, joint="curve")
    return symbol.reduce(_FINE)


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
    """DejaVu Sans, which comes with matplotlib (itself not imported), and has the letters of most languages."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    package = find_spec("matplotlib")
    assert package is not None and package.origin is not None
    return ImageFont.truetype(Path(package.origin).parent / "mpl-data" / "fonts" / "ttf" / name, size)


def draw_chart(running: RunningPrediction, moment: int, size: tuple[int, int], unit: float) -> Image.Image:
    """Over time, as far as `moment`: how likely the leading class was, filled; how likely the true one, as a line where
    it does not lead. `size` (width, height) in pixels; lines are about `unit` thick.
    """
    columns, rows = size[0] * _FINE, size[1] * _FINE
    unit *= _FINE
    times = (np.arange(columns) + 0.5) / columns
    times = times[: int(np.searchsorted(times, running.shares[moment], "right"))]
    pixels = np.empty((rows, columns, 3), np.uint8)
    pixels[:] = _AHEAD
    pixels[:, : len(times)] = _BED
    pixels[round((rows - unit) / 2) : round((rows + unit) / 2)] = _LINE  # at one half
    leaders = running.leaders[np.searchsorted(running.shares[:-1], times)]  # when the frames of each column had come in
    highest = np.interp(times, running.shares, running.probabilities.max(1))
    _fill(pixels[:, : len(times)], running, leaders, rows * (1 - highest), unit)
    chart = Image.fromarray(pixels)
    brush = ImageDraw.Draw(chart)
    if running.true is not None:
        heights = rows * (1 - np.interp(times, running.shares, running.probabilities[:, running.true]))
        _line_where(brush, leaders != running.true, heights, round(2 * unit))
    if moment < len(running.shares) - 1:
        brush.line((len(times), 0, len(times), rows), INK, round(1.5 * unit))
    return _rounded(chart, 4 * unit).reduce(_FINE)


def _fill(
    pixels: np.ndarray, running: RunningPrediction, leaders: np.ndarray, heights: np.ndarray, unit: float
) -> None:
    """Colour each column from its height down, striped where its leader is wrong; a gap where the leader changes."""
    x, y = np.arange(pixels.shape[1]), np.arange(pixels.shape[0])[:, None]
    filled, edge = y >= heights, y < heights + 1.5 * unit
    stripes = ((x + y) // round(_STRIPE_WIDTH * unit) % 2 == 1) & ~edge
    for leader in np.unique(leaders):
        area, colour = filled & (leaders == leader), running.colour(int(leader))
        pixels[area] = colour
        if colour == WRONG:
            pixels[area & stripes] = _STRIPE
    half = max(1, round(unit / 2))
    for change in np.flatnonzero(np.diff(leaders)) + 1:
        pixels[:, max(0, change - half) : change + half] = GROUND


def _line_where(brush: ImageDraw.ImageDraw, wanted: np.ndarray, heights: np.ndarray, thickness: int) -> None:
    """A line through `heights`, one a column, wherever it is `wanted`."""
    half = thickness / 2
    heights = heights.clip(half, None)
    for run in np.split(np.arange(len(wanted)), np.flatnonzero(np.diff(wanted)) + 1):
        if len(run) > 1 and wanted[run[0]]:
            points = [(int(x), float(heights[x])) for x in run[::2]]
            brush.line(points, GROUND, 2 * thickness, joint="curve")  # so that it stands out from what is filled
            brush.line(points, INK, thickness, joint="curve")


def _rounded(picture: Image.Image, radius: float) -> Image.Image:
    corners = Image.new("L", picture.size, 0)
    ImageDraw.Draw(corners).rounded_rectangle((0, 0, picture.width - 1, picture.height - 1), radius, fill=255)
    return Image.composite(picture, Image.new("RGB", picture.size, GROUND), corners)
