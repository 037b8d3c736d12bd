"""That nothing about the sample is ambiguous, and that neither mean nor slope tells what order must tell."""

import numpy as np
import pytest
from numpy.typing import NDArray

from har_cache.data.keys import class_of
from har_cache.sample_data.actions import PAIRS, Action, Pose, move, perform
from har_cache.sample_data.plan import plan

STEPS = 16  # frames that the head is given of a clip, in the demo
BY_ORDER = range(1, 4)  # the pairs of the default sample that a slope does not tell apart


def seen(poses: list[Pose], backwards: bool) -> NDArray[np.float64]:
    """The joints in the frames that a test takes, one from the middle of each segment: (STEPS * joints)."""
    bounds = np.arange(STEPS + 1) * len(poses) // STEPS
    taken = [poses[frame] for frame in (bounds[:-1] + bounds[1:] - 1) // 2]
    rows = [[p.trunk, *p.thighs, *p.shins, *p.arms, 100 * p.nearness] for p in taken]
    return np.array(rows[::-1] if backwards else rows).ravel()


def test_the_joints_say_which_class_it_is() -> None:
    """The ceiling: whoever saw the joints would be right about every clip, of all classes there are, by looking for
    the nearest of performances that are not in the sample.
    """
    rng = np.random.default_rng(99)
    actions = [action for pair in PAIRS for action in pair for _ in range(120)]
    known = np.stack(
        [seen(perform(a.movement, int(rng.integers(18, 33)), rng), a.backwards) for a in actions], dtype=np.float32
    )
    for pair in range(len(PAIRS)):
        for performance in plan(pair, 32, seed=0):
            poses = performance.poses()
            for name in performance.names:
                it = seen(poses, name == performance.backwards)
                nearest = actions[np.square(known - it).sum(1).argmin()]
                assert nearest.name == class_of(name)


def moments(action: Action, count: int = 400) -> NDArray[np.float64]:
    """Mean and first moment in time of the joints' signals, (count, 4), of performances of an action."""
    rng = np.random.default_rng(0 if action.backwards else 1)
    rows = []
    for _ in range(count):
        signals = np.stack(move(action.movement, 60, rng))
        signals = signals[:, ::-1] if action.backwards else signals
        rows.append([*signals.mean(1), *(signals * np.linspace(-1, 1, 60)).mean(1)])
    return np.array(rows)


@pytest.mark.parametrize("pair", BY_ORDER)
def test_mean_and_slope_are_those_of_the_other_class(pair: int) -> None:
    one, other = (moments(action) for action in PAIRS[pair])
    both = np.concatenate([one, other])
    assert (np.abs(one.mean(0) - other.mean(0)) < 0.25 * both.std(0) + 1e-9).all()
    assert _linear(one, other) < 0.6


def test_the_slope_says_whether_it_is_sitting_down() -> None:
    assert _linear(*(moments(action) for action in PAIRS[0])) > 0.99


def _linear(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """How often least squares on half of the performances is right about the other half."""
    x = np.concatenate([one, other])
    x = np.column_stack([(x - x.mean(0)) / (x.std(0) + 1e-9), np.ones(len(x))])
    y = np.repeat([-1.0, 1.0], len(one))
    train = np.arange(len(x)) % 2 == 0
    weights = np.linalg.lstsq(x[train], y[train])[0]
    return float((np.sign(x[~train] @ weights) == y[~train]).mean())


@pytest.mark.parametrize("pair", range(len(PAIRS)))
def test_a_class_played_backwards_is_the_other_or_goes_round_more_often(pair: int) -> None:
    one, other = PAIRS[pair]
    assert not one.backwards
    if other.backwards:
        assert one.movement == other.movement
    else:
        rng = np.random.default_rng(0)
        turns = [np.mean([_turns(move(a.movement, 99, rng)[0]) for _ in range(20)]) for a in (one, other)]
        assert turns[1] > 2 * turns[0]


def _turns(signal: NDArray[np.float64]) -> float:
    """How often it goes up and down."""
    return float(np.abs(np.diff(signal)).sum() / 2)


@pytest.mark.parametrize("frames", [18, 47, 400])
def test_signals_are_shares_in_clips_of_any_length(frames: int) -> None:
    for action in {action.movement: action for pair in PAIRS for action in pair}.values():
        signals = np.stack(move(action.movement, frames, np.random.default_rng(frames)))
        assert signals.shape == (2, frames)
        assert (signals >= 0).all() and (signals <= 1).all()
        assert len(perform(action.movement, frames, np.random.default_rng(frames))) == frames
