from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.special import expit

from har_cache.comparison.paired import ClipList, difference
from har_cache.statistics.intervals import difference_interval, mcnemar, mean_difference_interval

from ..statistics.test_intervals import SIZES


def listed(films: np.ndarray, split: int = 1) -> ClipList:
    return ClipList(split, tuple(f"{split}-{i}" for i in range(len(films))), tuple(map(str, films)))


def test_two_models_on_one_list() -> None:
    now, before = np.arange(40) % 3 > 0, np.arange(40) % 4 > 0
    clips = listed(np.arange(40) // 2)
    found = difference("a", "b", [before.astype(float)], [now.astype(float)], [clips])
    assert (found.reference, found.name, found.level) == ("a", "b", 0.95)
    assert (found.reference_top1, found.top1) == (before.mean(), now.mean())
    assert found.difference == pytest.approx(now.mean() - before.mean())
    assert (found.fixed, found.broken) == ((now & ~before).sum(), (before & ~now).sum())
    assert found.p == mcnemar(found.fixed, found.broken)
    assert found.interval == difference_interval(now, before, clips.films)
    assert not found.shown and found.least_shown > 0.1


def test_a_mean_of_several_models_has_no_counts() -> None:
    films = np.arange(40) // 2
    found = difference("a", "b", [np.ones(40)], [np.repeat([0.5, 1], 20)], [listed(films)])
    assert (found.fixed, found.broken, found.p, found.top1, found.shown) == (None, None, None, 0.75, True)


def test_a_clip_in_two_lists_has_no_p_and_its_film_counts_once() -> None:
    now, before = np.arange(30) % 3 > 0, np.arange(30) % 4 > 0
    films = np.arange(30) // 2
    once = difference("a", "b", [before * 1.0], [now * 1.0], [listed(films)])
    twice = difference("a", "b", [before * 1.0] * 2, [now * 1.0] * 2, [listed(films)] * 2)
    apart = difference("a", "b", [before * 1.0] * 2, [now * 1.0] * 2, [listed(films), listed(films + 100, split=2)])
    assert once.p is not None and twice.p is None and apart.p is not None
    assert twice.interval == pytest.approx(once.interval)
    assert (twice.fixed, apart.fixed) == (2 * once.fixed, 2 * once.fixed)
    assert np.ptp(apart.interval) < 0.8 * np.ptp(once.interval)


def test_more_comparisons_have_wider_intervals() -> None:
    now, before, films = np.arange(60) % 5 > 0, np.arange(60) % 4 > 0, np.arange(60) // 3
    one, four = (difference("", "", [before * 1.0], [now * 1.0], [listed(films)], count) for count in (1, 4))
    assert (one.level, four.level) == pytest.approx((0.95, 0.9875))
    assert np.ptp(four.interval) > 1.2 * np.ptp(one.interval)
    assert four.least_shown > one.least_shown
    assert four.p == one.p


def test_fewer_than_ten_films_show_nothing() -> None:
    found = difference("a", "b", [np.zeros(90)], [np.ones(90)], [listed(np.arange(90) % 9)])
    assert (found.interval, found.shown, found.least_shown, found.difference) == (None, False, None, 1)


@given(st.integers(0, 999), st.integers(10, 30))
def test_the_reverse_is_the_reverse(seed: int, films: int) -> None:
    rng = np.random.default_rng(seed)
    clips = listed(np.repeat(np.arange(films), rng.integers(1, 4, films)))
    first, second = rng.integers(2, size=(2, len(clips.keys))).astype(float)
    there, back = difference("a", "b", [first], [second], [clips]), difference("b", "a", [second], [first], [clips])
    assert (there.difference, there.fixed, there.broken) == (-back.difference, back.broken, back.fixed)
    assert (there.p, there.shown, there.least_shown) == pytest.approx((back.p, back.shown, back.least_shown))
    assert there.interval == pytest.approx((-back.interval[1], -back.interval[0]))


@cache
def ability(accuracy: float) -> float:
    """What gives this accuracy, on average over films."""
    rng = np.random.default_rng(0)
    films = rng.beta(1, 1, 20_000) + rng.beta(2, 2, 20_000)
    return brentq(lambda level: expit(6 * (level - films)).mean() - accuracy, -5, 5)


def drawn(rng: np.random.Generator, films: int, accuracies: list[float]) -> tuple[ClipList, list[np.ndarray]]:
    """A test list with films of HMDB51's sizes, and which of its clips models of these accuracies have right.

    Films differ in how hard they are for all, and in how well each model does on them; clips of one film are alike.
    """
    clips = rng.choice(np.repeat(list(SIZES), list(SIZES.values())), films)
    hard, each = rng.beta(1, 1, films), rng.beta(2, 2, (len(accuracies), films))
    lists = []
    for accuracy, own in zip(accuracies, each, strict=True):
        chance = expit(6 * (ability(accuracy) - hard - own))
        lists.append((rng.random(clips.sum()) < np.repeat(chance, clips)).astype(float))
    return listed(np.repeat(np.arange(films), clips)), lists


@pytest.mark.parametrize("films", [30, 470])
def test_models_that_are_equally_good_show_no_difference_95_times_in_100(films: int) -> None:
    """They err on different films. With 470 films, as HMDB51 has them, and with 30, as the drawn sample has."""
    rng = np.random.default_rng(0)
    quiet = 0
    for _ in range(600):
        clips, (first, second) = drawn(rng, films, [0.42, 0.42])
        quiet += not difference("a", "b", [first], [second], [clips]).shown
    assert 0.93 <= quiet / 600 <= 0.975


@pytest.mark.parametrize(("films", "linear", "head"), [(30, 0.39, 0.93), (470, 0.33, 0.42)])
def test_a_head_and_a_linear_probe_show_a_difference_95_times_in_100(films: int, linear: float, head: float) -> None:
    """As they are on the drawn sample; and on a test list of HMDB51, where models that differ on a third of the clips
    have to be 9 points apart for that.
    """
    rng = np.random.default_rng(0)
    shown = 0
    for _ in range(300):
        clips, (first, second) = drawn(rng, films, [linear, head])
        found = difference("linear", "head", [first], [second], [clips])
        shown += found.shown and found.difference > 0
    assert shown / 300 >= 0.95


def test_of_five_models_that_are_equally_good_none_differs_95_times_in_100() -> None:
    """Each compared with the first, on the same clips."""
    rng = np.random.default_rng(0)
    quiet, alone = 0, 0
    for _ in range(400):
        clips, (first, *others) = drawn(rng, 60, [0.5] * 5)
        quiet += not any(difference("", "", [first], [other], [clips], 4).shown for other in others)
        alone += not any(difference("", "", [first], [other], [clips]).shown for other in others)
    assert quiet / 400 >= 0.94
    assert alone / 400 < 0.9  # what it would be without


def test_over_three_splits_equally_good_models_show_no_difference_95_times_in_100() -> None:
    """Each film is in one or two of three lists, as in HMDB51."""
    rng = np.random.default_rng(0)
    held = []
    for _ in range(500):
        clips, (first, second) = drawn(rng, 90, [0.4, 0.4])
        film = np.array(clips.films, int)
        lists = [
            (gains, np.array(clips.films)[chosen])
            for split in range(3)
            for chosen in [(film % 3 == split) | (film % 4 == split)]
            for gains in [(second - first)[chosen]]
        ]
        low, high = mean_difference_interval(lists)
        held.append(low <= 0 <= high)
    assert 0.93 <= np.mean(held) <= 0.975
