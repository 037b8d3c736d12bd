"""A clip's story, what a model makes of it while its frames come in, and the chart that tells it.

What is right and what is wrong differ in pattern and in lightness, not in colour alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Rgb = tuple[int, int, int]

GROUND: Rgb = (16, 18, 24)
INK: Rgb = (246, 247, 249)
RIGHT: Rgb = (94, 214, 172)
WRONG: Rgb = (226, 96, 42)
OPEN: Rgb = (132, 168, 240)  # where nobody knows what is true
FINE = 4  # drawn this many times larger, then averaged down: antialiasing

_STRIPE: Rgb = (96, 40, 22)  # on what is wrong
_BED, _AHEAD, _LINE = (40, 45, 56), (28, 31, 39), (84, 91, 107)
_STRIPE_WIDTH = 5


@dataclass(frozen=True)
class Story:
    """What a model makes of a clip while its frames come in.

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

    @cached_property
    def highest(self) -> np.ndarray:
        """float (moments): the probability of the likeliest class."""
        return self.probabilities.max(1)

    def colour(self, leader: int) -> Rgb:
        """That of a leading class."""
        return OPEN if self.true is None else RIGHT if leader == self.true else WRONG


def draw_chart(story: Story, moment: int, size: tuple[int, int], unit: float) -> Image.Image:
    """Over time, as far as `moment`: how likely the leading class was, filled; how likely the true one, as a line where
    it does not lead. `size` (width, height) in pixels; lines are about `unit` thick.
    """
    columns, rows = size[0] * FINE, size[1] * FINE
    unit *= FINE
    times = (np.arange(columns) + 0.5) / columns
    times = times[: int(np.searchsorted(times, story.shares[moment], "right"))]
    pixels = np.empty((rows, columns, 3), np.uint8)
    pixels[:] = _AHEAD
    pixels[:, : len(times)] = _BED
    pixels[round((rows - unit) / 2) : round((rows + unit) / 2)] = _LINE  # at one half
    leaders = story.leaders[np.searchsorted(story.shares[:-1], times)]  # when the frames of each column had come in
    _fill(pixels[:, : len(times)], story, leaders, rows * (1 - np.interp(times, story.shares, story.highest)), unit)
    chart = Image.fromarray(pixels)
    brush = ImageDraw.Draw(chart)
    if story.true is not None:
        heights = rows * (1 - np.interp(times, story.shares, story.probabilities[:, story.true]))
        _line_where(brush, leaders != story.true, heights, round(2 * unit))
    if moment < len(story.shares) - 1:
        brush.line((len(times), 0, len(times), rows), INK, round(1.5 * unit))
    return _rounded(chart, 4 * unit).reduce(FINE)


def _fill(pixels: NDArray[np.uint8], story: Story, leaders: np.ndarray, heights: np.ndarray, unit: float) -> None:
    """Colour each column from its height down, striped where its leader is wrong; a gap where the leader changes."""
    x, y = np.arange(pixels.shape[1]), np.arange(pixels.shape[0])[:, None]
    filled, edge = y >= heights, y < heights + 1.5 * unit
    stripes = ((x + y) // round(_STRIPE_WIDTH * unit) % 2 == 1) & ~edge
    for leader in np.unique(leaders):
        area, colour = filled & (leaders == leader), story.colour(int(leader))
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
