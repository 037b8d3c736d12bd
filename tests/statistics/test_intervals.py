import numpy as np
import pytest
from scipy.stats import beta, binomtest, t

from har_cache.statistics.intervals import (
    accuracy_interval,
    difference_interval,
    least_difference_shown,
    mcnemar,
    mean_accuracy_interval,
    mean_difference_interval,
)

# Clips of a film -> films with as many, in the test list of split 1 of HMDB51.
SIZES = {1: 157, 2: 95, 3: 102, 4: 33, 5: 27, 6: 18, 7: 6, 8: 9, 9: 8, 10: 4, 11: 5, 12: 2, 14: 5, 16: 2, 21: 1, 28: 1}


def test_an_interval_done_by_hand():
    """Ten films of one clip, six right: without a right film 5 / 9, without a wrong one 6 / 9."""
    changes = [5 / 9 - 0.6] * 6 + [6 / 9 - 0.6] * 4
    reach = t.ppf(0.975, 9) * np.sqrt(9 / 10 * np.square(changes).sum()) / (0.6 * 0.4)
    expected = [1 / (1 + np.exp(-(np.log(0.6 / 0.4) + sign * reach))) for sign in (-1, 1)]
    assert accuracy_interval(np.arange(10) < 6, [str(i) for i in range(10)]) == pytest.approx(expected)


def test_fewer_than_ten_films_have_no_interval_however_many_clips():
    correct = np.arange(100) % 3 > 0
    assert accuracy_interval(correct, [str(i % 9) for i in range(100)]) is None
    assert accuracy_interval(correct, [str(i % 10) for i in range(100)]) is not None
    assert accuracy_interval(correct[:0], []) is None


def test_clips_of_one_film_count_together():
    correct = np.repeat([True, False] * 10, 10)
    alone = accuracy_interval(correct, [str(i) for i in range(200)])
    by_film = accuracy_interval(correct, [str(i // 10) for i in range(200)])
    assert alone[0] < 0.5 < alone[1]
    assert by_film[1] - by_film[0] > 2 * (alone[1] - alone[0])


def test_all_right_is_not_taken_for_certainty():
    low, high = accuracy_interval(np.ones(40, bool), [str(i // 4) for i in range(40)])
    assert high == 1
    assert low == pytest.approx(beta.ppf(0.025, 10, 1))  # Clopper and Pearson, 10 of 10
    assert accuracy_interval(np.zeros(40, bool), [str(i // 4) for i in range(40)]) == pytest.approx((0, 1 - low))


@pytest.mark.parametrize(
    ("films", "accuracy", "likeness"),
    [
        (10, 0.4, 0.3),
        (10, 0.65, 0.8),
        (15, 0.4, 0.8),
        (30, 0.65, 0.3),
        (30, 0.9, 0.3),
        (100, 0.4, 0.3),
        (470, 0.4, 0.3),
    ],
)
def test_intervals_hold_the_truth_95_times_in_100(films, accuracy, likeness):
    """Films of the sizes of HMDB51; the share of a film's clips that is right varies as Beta, alike by `likeness`."""
    rng = np.random.default_rng(0)
    sizes, places = np.repeat(list(SIZES), list(SIZES.values())), np.arange(films)
    odds = (1 - likeness) / likeness
    held = []
    for _ in range(1000):
        clips = rng.choice(sizes, films)
        right = rng.binomial(clips, rng.beta(accuracy * odds, (1 - accuracy) * odds, films))
        correct = np.concatenate([np.arange(n) < k for n, k in zip(clips, right, strict=True)])
        low, high = accuracy_interval(correct, np.repeat(places, clips))
        held.append(low <= accuracy <= high)
    assert 0.93 <= np.mean(held) <= 0.97


def test_the_mean_over_lists_done_by_hand():
    """Two lists of ten films that share five; each film has one clip in a list, and the shared ones are right."""
    first, second = np.arange(10) < 5, np.arange(10) < 5
    films = [[f"both{i}" for i in range(5)] + [f"{name}{i}" for i in range(5)] for name in ("first", "second")]
    without_right, without_wrong = 4 / 9, (5 / 9 + 5 / 10) / 2
    changes = [without_right - 0.5] * 5 + [without_wrong - 0.5] * 10
    reach = t.ppf(0.975, 14) * np.sqrt(14 / 15 * np.square(changes).sum()) / 0.25
    expected = [1 / (1 + np.exp(-sign * reach)) for sign in (-1, 1)]
    assert mean_accuracy_interval([(first, films[0]), (second, films[1])]) == pytest.approx(expected)


def test_the_same_list_twice_tells_no_more_than_once():
    correct, films = np.arange(60) % 3 > 0, [str(i // 4) for i in range(60)]
    once = accuracy_interval(correct, films)
    assert mean_accuracy_interval([(correct, films)] * 3) == pytest.approx(once)
    others = [(correct, [f"{k} {film}" for film in films]) for k in range(3)]
    low, high = mean_accuracy_interval(others)
    assert high - low < 0.7 * (once[1] - once[0])


def test_a_list_of_one_film_leaves_nothing_to_compare():
    correct = np.arange(40) % 2 == 0
    lists = [(correct, [str(i // 2) for i in range(40)]), (correct[:2], ["0", "0"])]
    assert mean_accuracy_interval(lists) is None


@pytest.mark.parametrize("films", [12, 60])
def test_intervals_of_a_mean_over_splits_hold_the_truth_95_times_in_100(films):
    """Each film is in one or two of three lists, with the same clips, which three models have right alike."""
    rng = np.random.default_rng(0)
    sizes, truth = np.repeat(list(SIZES), list(SIZES.values())), 0.5
    held = []
    for _ in range(1000):
        clips, share = rng.choice(sizes, films), rng.beta(1, 1, films)
        lists = []
        for split in range(3):
            mine = np.flatnonzero((np.arange(films) % 3 == split) | (np.arange(films) % 4 == split))
            right = rng.binomial(clips[mine], share[mine])
            correct = np.concatenate([np.arange(n) < k for n, k in zip(clips[mine], right, strict=True)])
            lists.append((correct, np.repeat(mine, clips[mine]).astype(str)))
        low, high = mean_accuracy_interval(lists)
        held.append(low <= truth <= high)
    assert 0.93 <= np.mean(held) <= 0.97


def test_an_interval_of_a_difference_done_by_hand():
    """Ten films of one clip; three put right, one put wrong, the others alike."""
    now, before = np.arange(10) < 6, (np.arange(10) >= 3) & (np.arange(10) < 7)
    gains = np.array([1, 1, 1, 0, 0, 0, -1, 0, 0, 0])
    reach = t.ppf(0.975, 9) * np.sqrt(9 / 10 * np.square((2 - gains) / 9 - 0.2).sum())
    found = difference_interval(now, before, [str(i) for i in range(10)])
    assert found == pytest.approx((0.2 - reach, 0.2 + reach))
    assert difference_interval(now[1:], before[1:], [str(i) for i in range(9)]) is None


def test_a_pair_is_closer_together_than_two_models_that_err_apart():
    rng = np.random.default_rng(0)
    before, films = rng.random(300) < 0.5, [str(i // 3) for i in range(300)]
    few, shuffled = before ^ (rng.random(300) < 0.02), rng.permutation(before)
    widths = [np.ptp(difference_interval(now, before, films)) for now in (few, shuffled)]
    assert widths[0] < 0.5 * widths[1]


def test_no_clip_that_tells_two_models_apart_is_no_certainty():
    correct, films = np.arange(40) % 2 == 0, [str(i // 4) for i in range(40)]
    end = beta.ppf(0.975, 1, 10)  # Clopper and Pearson, 0 of 10
    assert difference_interval(correct, correct, films) == pytest.approx((-end, end))


@pytest.mark.parametrize(
    ("fixed", "broken", "p"), [(0, 0, 1), (3, 3, 1), (5, 3, 0.7265625), (3, 9, 0.146), (13, 6, 0.167), (0, 6, 0.03125)]
)
def test_mcnemar(fixed, broken, p):
    assert mcnemar(fixed, broken) == mcnemar(broken, fixed) == pytest.approx(p, abs=5e-4)
    assert mcnemar(fixed, broken) == pytest.approx(binomtest(fixed, fixed + broken).pvalue if fixed + broken else 1)


@pytest.mark.parametrize(("films", "better", "worse"), [(30, 0.15, 0.15), (100, 0.05, 0.05), (100, 0.2, 0.1)])
def test_intervals_of_a_difference_hold_the_truth_95_times_in_100(films, better, worse):
    """The shares of a film's clips that are put right and wrong vary as Dirichlet."""
    rng = np.random.default_rng(0)
    sizes = np.repeat(list(SIZES), list(SIZES.values()))
    shares = np.array([better, worse, 1 - better - worse])
    held = []
    for _ in range(1000):
        clips = rng.choice(sizes, films)
        kinds = rng.multinomial(clips, rng.dirichlet(shares, films))
        kind = np.repeat(np.tile(range(3), films), kinds.ravel())
        low, high = difference_interval(kind == 0, kind == 1, np.repeat(np.arange(films), clips))
        held.append(low <= better - worse <= high)
    assert 0.93 <= np.mean(held) <= 0.97


def test_the_mean_difference_over_lists_done_by_hand():
    """Two lists of ten films that share five, one clip each; the shared ones are put right, by both models."""
    gains = (np.arange(10) < 5).astype(float)
    films = [[f"both{i}" for i in range(5)] + [f"{name}{i}" for i in range(5)] for name in ("first", "second")]
    changes = [4 / 9 - 0.5] * 5 + [(5 / 9 + 5 / 10) / 2 - 0.5] * 10
    error = np.sqrt(14 / 15 * np.square(changes).sum())
    lists = [(gains, films[0]), (gains, films[1])]
    for level in (0.95, 0.99):
        reach = t.ppf((1 + level) / 2, 14) * error
        assert mean_difference_interval(lists, level) == pytest.approx((0.5 - reach, 0.5 + reach))
        least = reach + t.ppf(0.8, 14) * error
        assert least_difference_shown(lists, level) == pytest.approx(least)


def test_the_same_difference_twice_tells_no_more_than_once():
    gains, films = np.arange(60) % 3 - 1.0, [str(i // 4) for i in range(60)]
    once = mean_difference_interval([(gains, films)])
    assert mean_difference_interval([(gains, films)] * 3) == pytest.approx(once)
    low, high = mean_difference_interval([(gains, [f"{k} {film}" for film in films]) for k in range(3)])
    assert high - low < 0.7 * (once[1] - once[0])


def test_where_films_do_not_vary_no_least_difference_is_known():
    films = [str(i) for i in range(12)]
    for gains in (np.zeros(12), np.ones(12)):
        assert least_difference_shown([(gains, films)]) is None
    assert least_difference_shown([(np.arange(9) - 4.0, films[:9])]) is None


def test_the_least_difference_is_shown_8_times_in_10():
    """Films of HMDB51's sizes; models that differ on a fifth of the clips, by exactly as much as the typical list says
    that it would show.
    """
    rng = np.random.default_rng(0)
    sizes, films = np.repeat(list(SIZES), list(SIZES.values())), 120

    def draw(gain):
        clips = rng.choice(sizes, films)
        shares = rng.dirichlet(np.array([(0.2 + gain) / 2, (0.2 - gain) / 2, 0.8]) * 4, films)
        kinds = rng.multinomial(clips, shares)
        kind = np.repeat(np.tile(range(3), films), kinds.ravel())
        return [((kind == 0) * 1.0 - (kind == 1), np.repeat(np.arange(films), clips))]

    least = float(np.mean([least_difference_shown(draw(0)) for _ in range(100)]))
    shown = [mean_difference_interval(draw(least))[0] > 0 for _ in range(500)]
    assert 0.75 <= np.mean(shown) <= 0.87
