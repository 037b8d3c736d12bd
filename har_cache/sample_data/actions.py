"""Actions of the sample: which there are, how the joints go in each frame, and the bodies that come of it.

They come in pairs that look alike: what tells the two classes of a pair apart is in the order of the frames alone, and
in all pairs but those of one simple change it is in neither the mean of the frames nor in their slope.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Signal = NDArray[np.float64]  # of each frame, 0 to 1


@dataclass(frozen=True)
class Action:
    """A class, and the movement that is its: played forwards or backwards."""

    name: str
    movement: str
    backwards: bool = False


# `--classes` takes so many of them, from the first on.
PAIRS = (
    (Action("sit", "sit"), Action("stand", "sit", backwards=True)),
    (Action("raise_lower_raise", "raise_thrice"), Action("lower_raise_lower", "raise_thrice", backwards=True)),
    (Action("squat_slowly", "squat_slowly"), Action("squat_quickly", "squat_quickly")),
    (Action("come_then_raise", "come_and_raise"), Action("raise_then_come", "come_and_raise", backwards=True)),
    (Action("approach", "approach"), Action("leave", "approach", backwards=True)),
    (Action("bend", "bend"), Action("straighten", "bend", backwards=True)),
    (Action("raise_arms", "raise"), Action("lower_arms", "raise", backwards=True)),
)

_SLOW, _FAST, _ROUND = (1.0, 1.4), (2.5, 3.3), (1.0, 1.6)  # how often it goes round in a clip


@dataclass(frozen=True)
class Pose:
    """Joint angles in degrees, left then right, in the plane that the body faces; what hangs straight down is at 0."""

    trunk: float = 0.0  # leaning forward from upright
    thighs: tuple[float, float] = (0.0, 0.0)
    shins: tuple[float, float] = (0.0, 0.0)
    arms: tuple[float, float] = (0.0, 0.0)
    elbows: float = 12.0
    spread: float = 35.0  # direction in which the arms lift: 0 forward, 90 sideways
    nearness: float = 1.0  # 1 where most actions happen


def perform(movement: str, frames: int, rng: np.random.Generator) -> list[Pose]:
    """The body in each frame; its joints go as `move` says for the same generator."""
    done, other = move(movement, frames, rng)
    swing = 5 * np.sin(rng.uniform(0, 2 * np.pi) + np.arange(frames) * rng.uniform(0.08, 0.16))
    steps = rng.uniform(2.5, 4.0)
    return [_pose(movement, *now, steps) for now in zip(done, other, swing, strict=True)]


def move(movement: str, frames: int, rng: np.random.Generator) -> tuple[Signal, Signal]:
    """How far the joints of a movement are in each frame, 0 to 1; the second, where there is but one, stays at 0."""
    time = (2 * np.arange(frames) + 1) / frames - 1  # -1 to 1, whatever the length of the clip
    if movement == "raise_thrice":
        return _there_back_there(time, rng), np.zeros(frames)
    if movement in ("squat_slowly", "squat_quickly"):
        phase = _phase(time, _SLOW if movement == "squat_slowly" else _FAST, rng)
        return (1 + np.cos(phase)) / 2, np.zeros(frames)
    if movement == "come_and_raise":
        phase = _phase(time, _ROUND, rng)
        return (1 + np.cos(phase)) / 2, (1 + np.sin(phase)) / 2
    return _once(time, rng), np.zeros(frames)


def _once(time: Signal, rng: np.random.Generator) -> Signal:
    """From 0 to 1: it holds still, moves, and holds still again."""
    length = rng.uniform(0.5, 1.2)
    start = rng.uniform(-0.9, 0.9 - length)
    linear = np.clip((time - start) / length, 0, 1)
    softness = rng.uniform(0, 1)
    return (1 - softness) * linear + softness * _soft(linear)


def _there_back_there(time: Signal, rng: np.random.Generator) -> Signal:
    """From 0 to 1, to 0 and to 1 again; half of the time it is at 1, and its slope is as often falling as rising.

    Changes at t1, t2 and t3 give the mean 1/2 where t2 = t1 + t3, and then no first moment in time where
    t1 t3 = (v - 1) / 2, with v the variance in time of one change.
    """
    length = rng.uniform(0.08, 0.2)
    level = (1 - length**2 / 20) / 2  # of a change as soft as ours
    first = rng.uniform(0.65, 0.77)
    third = (level + rng.uniform(-0.05, 0.05)) / first
    second = third - first + rng.uniform(-0.05, 0.05)
    up, down, again = (_soft(np.clip((time - at) / length + 0.5, 0, 1)) for at in (-first, second, third))
    return up - down + again


def _phase(time: Signal, often: tuple[float, float], rng: np.random.Generator) -> Signal:
    """Radians of what goes round so `often` in a clip, from anywhere on."""
    return rng.uniform(0, 2 * np.pi) + np.pi * rng.uniform(*often) * time


def _soft(linear: Signal) -> Signal:
    return linear**2 * (3 - 2 * linear)


def _pose(movement: str, done: float, other: float, swing: float, steps: float) -> Pose:
    """The body when the movement is `done`, and `other` where it has two parts, 0 to 1: upright, or nearly, at 0.

    `swing` is that of idle arms (degrees), `steps` how many are walked.
    """
    left, right = 8 + swing, 8 - swing
    arms = (left, right)
    if movement == "sit":
        between = np.sin(np.pi * done)
        thigh, shin, reach = 88 * done, -4 * done - 14 * between, 80 * done
        return Pose(18 * between, (thigh, thigh), (shin, shin), (left + reach, right + reach), 12, 20)
    if movement in ("raise", "raise_thrice"):
        return Pose(arms=(left + 145 * done, right + 145 * done), spread=70)
    if movement in ("squat_slowly", "squat_quickly"):
        return Pose(35 * done, (80 * done, 80 * done), (-45 * done, -45 * done), arms)
    if movement == "approach":
        return replace(_walk(steps * done, (left, right)), nearness=0.42 + 0.95 * done**1.5)
    if movement == "come_and_raise":
        raised = (left + 145 * other, right + 145 * other)
        return replace(_walk(steps * done, (0, 0)), arms=raised, spread=70, nearness=0.5 + 0.5 * done)
    if movement == "bend":
        leg, reach = 12 * done, 14 * done
        return Pose(104 * done, (leg, leg), (-leg, -leg), (left + reach, right + reach), 12 - 8 * done)
    raise ValueError(f"no such movement: {movement}")


def _walk(steps: float, arms: tuple[float, float]) -> Pose:
    """After so many steps, with the arms swinging around these angles."""
    thigh, knee = 24 * np.sin(2 * np.pi * steps), 14 * np.cos(2 * np.pi * steps)
    shins = (thigh - max(0, knee), -thigh - max(0, -knee))
    return Pose(4, (thigh, -thigh), shins, (arms[0] - thigh, arms[1] + thigh), 20, 10)
