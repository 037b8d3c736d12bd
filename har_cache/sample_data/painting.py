"""Paints solid parts, limbs and other things, onto a plain room: projection, order of depth, antialiasing.

Lengths are in units of the body's height. Camera axes: x to the right of the picture, y up, z towards the camera.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

WIDTH, HEIGHT = 320, 240

Rgb = tuple[int, int, int]
Vector = NDArray[np.float64]

_SCALE = 2  # drawn this many times larger, then averaged down: antialiasing
_MARGIN = 24  # pixels of scenery beyond each edge, for a camera that moves
_HORIZON, _GROUND = 130, 226  # rows to which feet come at infinite distance, and where most actions happen
_WALL_ENDS = 150  # row


@dataclass(frozen=True)
class Part:
    """A limb, or anything else: a tapered capsule from a to b; a ball where they are the same."""

    a: Vector
    b: Vector
    radius_a: float
    radius_b: float
    colour: Rgb
    stripe: Rgb | None = None
    rings: int = 0  # stripes across the limb; with 0, one along it
    nearness: float = 1.0  # magnifies; 1 where most actions happen


def scenery(wall: Rgb, floor: Rgb) -> Image.Image:
    """Wall and floor, larger than the picture by a margin on every side."""
    size = ((WIDTH + 2 * _MARGIN) * _SCALE, (HEIGHT + 2 * _MARGIN) * _SCALE)
    room = Image.new("RGB", size, wall)
    ImageDraw.Draw(room).rectangle((0, (_WALL_ENDS + _MARGIN) * _SCALE, *size), fill=floor)
    return room


def paint(
    parts: Sequence[Part],
    room: Image.Image,
    turn: NDArray[np.float64],
    height: float,
    place: Vector,
    camera: Vector,
) -> NDArray[np.uint8]:
    """Paint the parts, far ones first, onto what `scenery` drew: uint8 (240, 320, 3).

    `turn` (3, 3) takes body axes to camera axes; `height` is that of the body, `place` and `camera` the shifts
    (x, y) of the figure and of the whole picture, of up to 24, in pixels.
    """
    left, top = np.rint((_MARGIN - camera) * _SCALE).astype(int)
    canvas = room.crop((left, top, left + WIDTH * _SCALE, top + HEIGHT * _SCALE))
    brush = ImageDraw.Draw(canvas)
    seen = [replace(part, a=turn @ part.a, b=turn @ part.b) for part in parts]
    for part in sorted(seen, key=lambda part: (part.nearness, part.a[2] + part.b[2])):
        feet = np.array([WIDTH / 2, _HORIZON + (_GROUND - _HORIZON) * part.nearness]) + place + camera
        _capsule(brush, part, feet * _SCALE, height * part.nearness * _SCALE)
    return np.asarray(canvas.reduce(_SCALE))


def _capsule(brush: ImageDraw.ImageDraw, part: Part, origin: Vector, unit: float) -> None:
    # In plain numbers: arrays of two take twice as long.
    x, y = origin.tolist()
    (ax, ay), (bx, by) = ((x + unit * end[0], y - unit * end[1]) for end in (part.a[:2].tolist(), part.b[:2].tolist()))
    ra, rb = part.radius_a * unit, part.radius_b * unit
    dx, dy = bx - ax, by - ay
    length = max(math.hypot(dx, dy), 1e-6)
    nx, ny = -dy / length, dx / length

    def band(start: float, end: float, share: float, grow: float, fill: Rgb) -> None:
        """The limb between two places along it (0 to 1), over a share of its breadth."""
        px, py, qx, qy = ax + dx * start, ay + dy * start, ax + dx * end, ay + dy * end
        p, q = (share * (ra + (rb - ra) * place + grow) for place in (start, end))
        corners = (
            px + nx * p,
            py + ny * p,
            qx + nx * q,
            qy + ny * q,
            qx - nx * q,
            qy - ny * q,
            px - nx * p,
            py - ny * p,
        )
        brush.polygon(corners, fill=fill)

    outline = (part.colour[0] // 3, part.colour[1] // 3, part.colour[2] // 3)
    for grow, fill in ((1.2 * _SCALE, outline), (0.0, part.colour)):
        for cx, cy, radius in ((ax, ay, ra + grow), (bx, by, rb + grow)):
            brush.ellipse((cx - radius, cy - radius, cx + radius, cy + radius), fill=fill)
        band(0, 1, 1, grow, fill)
    if part.stripe is not None:
        for ring in range(part.rings):
            band((ring + 0.25) / part.rings, (ring + 0.75) / part.rings, 1, 0, part.stripe)
        if not part.rings:
            band(0, 1, 0.3, 0, part.stripe)
