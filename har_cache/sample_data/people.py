"""Draws a person performing an action: a jointed figure in three dimensions, projected and painted.

Lengths are in units of the body's height, angles in degrees. Body axes: x to its left, y up, z where it faces.
Camera axes: x to the right of the picture, y up, z towards the camera.
"""

import colorsys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .actions import Pose
from .painting import HEIGHT, WIDTH, Part, Rgb, Vector, paint, scenery

_YAW = {"fr": 35, "ba": 120, "le": 65, "ri": 65}  # away from facing the camera
_NOISE = {"goo": 0.8, "med": 1.5, "bad": 2.5}  # standard deviation, grey levels
_TINT = 0.2  # saturation of a room that goes with the class
_HARDER = 4  # times that, in a hard sample


@dataclass(frozen=True)
class Look:
    """Common to the clips of one film: the room, the person and the camera."""

    view: str
    quality: str
    grain: float  # of the film: standard deviation, grey levels
    yaw: float
    pitch: float
    height: float  # of the body, pixels
    girth: float  # thickness of limbs
    wall: Rgb
    floor: Rgb
    pouf: Rgb
    skin: Rgb
    hair: Rgb
    shoes: Rgb
    shirt: tuple[Rgb, Rgb]  # cloth and stripes
    trousers: tuple[Rgb, Rgb]


def draw_look(view: str, rng: np.random.Generator, hard: bool = False) -> Look:
    """Draw the look of one film; `view` is "fr", "ba", "le" or "ri", as in the file names of HMDB51; `hard`: on film
    with more grain.
    """
    side = {"le": -1, "ri": 1}.get(view) or rng.choice([-1, 1])
    hue = rng.random()
    dark = [_colour(hue + turn, rng.uniform(0.6, 0.9), rng.uniform(0.3, 0.5)) for turn in (0.35, 0.65)]
    light = [_colour(rng.random(), rng.uniform(0.05, 0.2), rng.uniform(0.9, 1.0)) for _ in dark]
    quality = str(rng.choice(list(_NOISE), p=[0.3, 0.5, 0.2]))
    return Look(
        view=view,
        quality=quality,
        grain=_NOISE[quality] * (_HARDER if hard else 1),
        yaw=side * (_YAW[view] + rng.uniform(-12, 12)),
        pitch=rng.uniform(8, 14),
        height=rng.uniform(188, 200),
        girth=rng.uniform(1.3, 1.6),
        wall=_colour(hue, rng.uniform(0.05, 0.15), rng.uniform(0.8, 0.92)),
        floor=_colour(hue + rng.uniform(-0.1, 0.1), rng.uniform(0.08, 0.18), rng.uniform(0.58, 0.68)),
        pouf=_colour(rng.uniform(0.05, 0.1), 0.45, rng.uniform(0.3, 0.5)),
        skin=_colour(rng.uniform(0.05, 0.08), rng.uniform(0.35, 0.5), rng.uniform(0.35, 0.95)),
        hair=_colour(rng.uniform(0.03, 0.12), rng.uniform(0.2, 0.6), rng.uniform(0.1, 0.4)),
        shoes=_colour(rng.random(), 0.3, rng.uniform(0.1, 0.3)),
        shirt=(dark[0], light[0]),
        trousers=(dark[1], light[1]),
    )


def with_room(look: Look, hue: float) -> Look:
    """The look with a wall and a floor of this hue, as light as they were, and stronger than others."""
    return replace(look, wall=_hued(look.wall, hue), floor=_hued(look.floor, hue))


def draw_frames(
    poses: Sequence[Pose], look: Look, moving: bool, cut: float | None, rng: np.random.Generator
) -> Iterator[NDArray[np.uint8]]:
    """Draw one performance, a picture for each pose, uint8 (240, 320, 3).

    `moving` is the camera; `cut`, a share of the clip, is where the film goes over to another camera, which has the
    shorter part of the clip.
    """
    time = np.arange(len(poses))
    first = _Shot(
        replace(look, height=look.height * rng.uniform(0.95, 1.05)),
        np.array([rng.uniform(-10, 10), rng.uniform(-4, 4)]),
    )
    second = _other_shot(look, rng)
    camera = _camera_path(time, rng) if moving else np.zeros((len(poses), 2))
    room = scenery(look.wall, look.floor)
    grain = rng.normal(0, look.grain, (HEIGHT + 64, WIDTH + 64, 1)).astype(np.int16)
    for t, pose in enumerate(poses):
        after = cut is not None and (t >= cut * len(poses)) == (cut >= 0.5)
        shot = second if after else first
        parts = [*_person(pose, shot.look), _pouf(shot.look)]
        picture = paint(parts, room, _turn(shot.look), shot.look.height, shot.place, camera[t])
        top, left = rng.integers(0, 64, 2)
        noisy = picture + grain[top : top + HEIGHT, left : left + WIDTH]
        yield noisy.clip(0, 255, out=noisy).astype(np.uint8)


@dataclass(frozen=True)
class _Shot:
    """How a camera sees it."""

    look: Look
    place: Vector  # pixels


def _other_shot(look: Look, rng: np.random.Generator) -> _Shot:
    """From another side and from further away."""
    yaw = rng.choice([-1, 1]) * rng.uniform(30, 130)
    height = look.height * rng.uniform(0.7, 0.9)
    return _Shot(replace(look, yaw=yaw, height=height), np.array([rng.uniform(-40, 40), rng.uniform(-16, 0)]))


def _camera_path(time: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.float64]:
    """A hand-held camera: slow drift of up to 10 pixels, (frames, 2)."""
    phase, speed = rng.uniform(0, 2 * np.pi, 2), rng.uniform(0.03, 0.1, 2)
    return rng.uniform(5, 10, 2) * np.sin(phase + time[:, None] * speed)


def _person(pose: Pose, look: Look) -> list[Part]:
    """Feet stay near where they are: the hips follow from the legs, and all else from the hips."""
    legs = [0.25 * (_down(thigh) + _down(shin)) for thigh, shin in zip(pose.thighs, pose.shins, strict=True)]
    lowest = min(leg[1] for leg in legs)  # the foot that carries the weight
    hips = np.array([0, 0.04 - lowest, -0.6 * np.mean([leg[2] for leg in legs])])
    up = -_down(-pose.trunk)
    neck = hips + 0.31 * up
    parts = [_trunk(hips, up, look), *_head(neck + 0.1 * up, up, look)]
    for i, side in enumerate((1, -1)):
        parts += _leg(hips + _at(x=0.075 * side), pose.thighs[i], pose.shins[i], look)
        parts += _arm(neck - 0.035 * up, side, pose.arms[i], pose, look)
    return [replace(part, nearness=pose.nearness) for part in parts]


def _trunk(hips: Vector, up: Vector, look: Look) -> Part:
    breadth = abs(np.cos(np.radians(look.yaw)))  # broader from the front than from the side
    waist, chest = (0.07 + 0.03 * breadth) * look.girth, (0.08 + 0.04 * breadth) * look.girth
    return Part(hips, hips + 0.27 * up, waist, chest, *look.shirt, rings=4)


def _head(centre: Vector, up: Vector, look: Look) -> list[Part]:
    face = _at(y=-up[2], z=up[1])
    nose, hair = centre + 0.075 * face, centre - 0.022 * face + 0.014 * up
    return [
        Part(centre - 0.1 * up, centre, 0.035, 0.035, look.skin),
        Part(centre, centre, 0.078, 0.078, look.skin),
        Part(hair, hair, 0.08, 0.08, look.hair),
        Part(nose, nose, 0.014, 0.014, look.skin),
    ]


def _leg(hip: Vector, thigh: float, shin: float, look: Look) -> list[Part]:
    g = look.girth
    knee = hip + 0.25 * _down(thigh)
    ankle = knee + 0.25 * _down(shin)
    return [
        Part(hip, knee, 0.072 * g, 0.055 * g, *look.trousers),
        Part(knee, ankle, 0.055 * g, 0.042 * g, *look.trousers),
        Part(ankle, ankle + _at(y=-0.01, z=0.1), 0.036 * g, 0.028 * g, look.shoes),
    ]


def _arm(neck: Vector, side: int, lift: float, pose: Pose, look: Look) -> list[Part]:
    g = look.girth
    shoulder = neck + _at(x=0.065 * side * (1 + g))
    elbow = shoulder + 0.18 * _down(lift, pose.spread, side)
    hand = elbow + 0.17 * _down(lift + pose.elbows, pose.spread, side)
    return [
        Part(shoulder, elbow, 0.052 * g, 0.044 * g, *look.shirt, rings=3),
        Part(elbow, hand, 0.044 * g, 0.034 * g, *look.shirt, rings=3),
        Part(hand, hand, 0.042 * g, 0.042 * g, look.skin),
    ]


def _pouf(look: Look) -> Part:
    """A seat, in every room, whatever the action, so that it tells nothing."""
    return Part(_at(-0.07, 0.1, -0.25), _at(0.07, 0.1, -0.25), 0.1, 0.1, look.pouf)


def _at(x: float = 0.0, y: float = 0.0, z: float = 0.0) -> Vector:
    return np.array([x, y, z])


def _down(angle: float, azimuth: float = 0.0, side: int = 1) -> Vector:
    """Unit vector that hangs down at 0 degrees and lifts towards the azimuth (0 forward, 90 to the side)."""
    a, z = np.radians(angle), np.radians(azimuth)
    return _at(side * np.sin(a) * np.sin(z), -np.cos(a), np.sin(a) * np.cos(z))


def _turn(look: Look) -> NDArray[np.float64]:
    """Body axes to camera axes, (3, 3)."""
    yaw, pitch = np.radians(look.yaw), np.radians(look.pitch)
    cy, sy, cp, sp = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch)
    return np.array([[cy, 0, sy], [sy * sp, cp, -cy * sp], [-sy * cp, sp, cy * cp]])


def _colour(hue: float, saturation: float, value: float) -> Rgb:
    red, green, blue = colorsys.hsv_to_rgb(hue % 1, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def _hued(colour: Rgb, hue: float) -> Rgb:
    return _colour(hue, _TINT, max(colour) / 255)
