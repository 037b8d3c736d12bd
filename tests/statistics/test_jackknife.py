import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from har_cache.statistics.jackknife import Mean, mean_by_film, standard_error

VALUES = st.lists(st.floats(-10, 10), min_size=2, max_size=30).map(np.array)


@given(VALUES)
def test_where_each_clip_is_a_film_it_is_the_standard_error_of_a_mean(values: np.ndarray) -> None:
    found = mean_by_film(values, [str(i) for i in range(len(values))])
    assert found.value == pytest.approx(values.mean()) and found.films == len(values)
    assert found.error == pytest.approx(values.std(ddof=1) / np.sqrt(len(values)), abs=1e-9)


@given(VALUES)
def test_the_same_clips_again_tell_nothing_new(values: np.ndarray) -> None:
    films = [str(i) for i in range(len(values))]
    once, twice = mean_by_film(values, films), mean_by_film(np.tile(values, 2), films * 2)
    assert (twice.value, twice.error) == pytest.approx((once.value, once.error), abs=1e-9)


def test_films_of_several_clips_done_by_hand() -> None:
    """Nine films of one clip with 0, one of three clips with 2: in all 6 / 12; without it 0, without another 6 / 11."""
    films = [*map(str, range(9)), "long", "long", "long"]
    found = mean_by_film(np.array([0.0] * 9 + [2.0] * 3), films)
    error = np.sqrt(9 / 10 * (9 * (6 / 11 - 0.5) ** 2 + 0.5**2))
    assert (found.value, found.error, found.films) == pytest.approx((0.5, error, 10))
    assert standard_error(np.array([6 / 11 - 0.5] * 9 + [-0.5])) == pytest.approx(error)


def test_one_film_gives_no_error_however_many_clips() -> None:
    assert mean_by_film(np.arange(100), ["a"] * 100) == Mean(49.5, None, 1)
