import numpy as np
import pytest
from scipy.stats import beta, t

from har_cache.evaluation.intervals import accuracy_interval

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
