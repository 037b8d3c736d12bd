import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from har_cache.data.folds import ALWAYS_TRAINS, divide, hold_out
from har_cache.data.keys import class_of, source_of
from har_cache.data.splits import TRAIN
from har_cache.errors import HarCacheError

from ..helpers.synthetic import OFFICIAL_LISTS, official_subsets

films_of_classes = st.lists(st.dictionaries(st.integers(0, 15), st.integers(1, 9), min_size=1), min_size=1, max_size=6)


@example([{0: 1, 1: 1}, {0: 10, 2: 10}, {2: 5, 1: 5}, {2: 1, 1: 1}])  # evenness alone would hold out all of a class
@example([{0: 1, 1: 5}, {0: 5, 1: 1}])  # each film is the larger one of some class
@given(films_of_classes)
def test_whole_films_are_held_out_and_no_class_loses_more_than_it_must(classes: list[dict[int, int]]) -> None:
    """`classes`: of each class the clips by film."""
    pairs = [(label, f"{label}/{f}") for label, films in enumerate(classes) for f, n in films.items() for _ in range(n)]
    labels, sources = np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs])
    films = np.array([source.partition("/")[2] for source in sources])
    alone = {f for films in classes if len(films) == 1 for f in map(str, films)}
    if alone >= set(films):
        with pytest.raises(HarCacheError, match="none can validate"):
            hold_out(labels, sources)
        return
    taken, folds = np.zeros(len(labels), int), 0
    with pytest.raises(HarCacheError, match=r"--fold \d: of this training list expected 0 to \d"):
        for folds in range(8):
            held = hold_out(labels, sources, folds)
            assert held.any() and not set(films[held]) & set(films[~held])
            assert set(labels[~held]) == set(range(len(classes)))
            taken += held
    assert taken.max() == 1 and 1 <= folds <= 7


@pytest.mark.parametrize(
    ("sizes", "most"),
    [
        ([3] * 21, 9),  # a seventh
        ([41, *[2] * 14], 6),  # the largest film always trains
        ([24, *[2] * 23], 10),  # so does one of a third
        ([4, 5, 6], 4),  # all are large: the smallest
        ([5, 5], 5),
        ([1, 9], 1),
    ],
)
def test_a_class_loses_a_seventh_or_as_little_as_its_films_allow(sizes: list[int], most: int) -> None:
    """Beside it are two classes that are easy to hold out of."""
    counts = {0: sizes, 1: [2] * 35, 2: [1] * 70}
    pairs = [(c, f"{c}/{c}-{f}") for c, films in counts.items() for f, n in enumerate(films) for _ in range(n)]
    labels, sources = np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs])
    lost = [np.bincount(labels[hold_out(labels, sources, fold)], minlength=3) for fold in range(7)]
    assert 0 < max(part[0] for part in lost) <= most
    assert all(8 <= part[1] <= 12 and 8 <= part[2] <= 12 for part in lost)


def test_a_class_of_two_large_films_validates_beside_a_class_of_few_clips() -> None:
    pairs = [(0, "0/a")] * 5 + [(0, "0/b")] * 5 + [(1, "1/c"), (1, "1/d")]
    labels, sources = np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs])
    held = [hold_out(labels, sources, fold) for fold in range(2)]
    assert sorted(np.bincount(labels[part], minlength=2).tolist() for part in held) == [[5, 1], [5, 1]]


def test_the_evenest_fold_is_the_first() -> None:
    """Of a class of 42 clips one film has 12, and one fold that many."""
    labels = np.repeat([0, 1], [42, 42])
    sources = np.array([f"0/{'big' if i < 12 else i}" for i in range(42)] + [f"1/x{i}" for i in range(42)])
    lost = [int((hold_out(labels, sources, fold) & (labels == 0)).sum()) for fold in range(7)]
    assert lost[6] == 12 and all(n == 5 for n in lost[:6])


@pytest.mark.skipif(not OFFICIAL_LISTS.is_dir(), reason="the official lists are not here")
@pytest.mark.parametrize("split", [1, 2, 3])
def test_the_official_lists_lose_about_a_seventh_of_each_class_and_never_a_third(split: int) -> None:
    """Of 70 clips each, 4 to 12 by default; a class of which one film has 41 has little else to lend."""
    keys = sorted(key for key, subsets in official_subsets().items() if subsets[split - 1] == TRAIN)
    labels = np.unique([class_of(key) for key in keys], return_inverse=True)[1]
    sources = np.array([source_of(key) for key in keys])
    counts = [np.bincount(labels[hold_out(labels, sources, fold)], minlength=51) for fold in range(7)]
    assert counts[0].min() == 4 and counts[0].max() <= 12 and 450 < counts[0].sum() < 510
    assert min(count.min() for count in counts) >= 3 and max(count.max() for count in counts) < 70 / 3


def test_about_a_seventh_of_every_class_is_held_out() -> None:
    labels = np.repeat(np.arange(51), 70)
    sources = np.array([f"{label}/{i // 4}" for label in range(51) for i in range(70)])
    counts = np.bincount(labels[hold_out(labels, sources, 0)])
    assert counts.min() >= 4 and counts.max() <= 16 and counts.mean() == pytest.approx(10, abs=1)


def test_a_film_is_held_out_of_every_class() -> None:
    labels = np.repeat(np.arange(6), 20)
    sources = np.array([f"{label}/film{i // 2}" for label in range(6) for i in range(20)])
    held = hold_out(labels, sources, 0)
    films = np.array([source.split("/")[1] for source in sources])
    assert held.any() and not set(films[held]) & set(films[~held])


@example([{0: 2}, {0: 3, 1: 1}], 2)  # a film that is all of a class
@example([{0: 2, 1: 2}, {2: 41, 3: 1, 4: 1}], 5)
@given(films_of_classes, st.integers(2, 5))
def test_every_clip_validates_in_one_fold_with_all_of_its_film(classes: list[dict[int, int]], count: int) -> None:
    pairs = [(label, f"{label}/{f}") for label, films in enumerate(classes) for f, n in films.items() for _ in range(n)]
    labels, sources = np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs])
    films = np.array([source.partition("/")[2] for source in sources])
    alone = {str(film) for films in classes if len(films) == 1 for film in films}
    try:
        fold = divide(labels, sources, count)
    except HarCacheError as error:
        assert len(set(films) - alone) < 2 * count and "--folds" in str(error)
        return
    assert set(fold) - {ALWAYS_TRAINS} == set(range(count))
    for film in set(films):
        assert len(set(fold[films == film])) == 1
    for k in range(count):
        assert set(labels[fold != k]) == set(range(len(classes)))
    assert set(films[fold == ALWAYS_TRAINS]) <= alone | _that_would_end_a_class(classes, count)


def _that_would_end_a_class(classes: list[dict[int, int]], count: int) -> set[str]:
    """Films of classes with fewer films than folds: all others of such a class may have gone together."""
    return {str(film) for films in classes if len(films) <= count for film in films}


@pytest.mark.skipif(not OFFICIAL_LISTS.is_dir(), reason="the official lists are not here")
@pytest.mark.parametrize("split", [1, 2, 3])
def test_five_folds_of_the_official_lists_validate_all_clips_about_evenly(split: int) -> None:
    keys = sorted(key for key, subsets in official_subsets().items() if subsets[split - 1] == TRAIN)
    labels = np.unique([class_of(key) for key in keys], return_inverse=True)[1]
    fold = divide(labels, np.array([source_of(key) for key in keys]), 5)
    sizes = np.bincount(fold, minlength=5)
    assert (fold >= 0).all() and sizes.sum() == 3570 and sizes.min() > 700 and sizes.max() < 730
    lost = np.array([np.bincount(labels[fold == k], minlength=51) for k in range(5)])
    assert np.percentile(lost, 5) >= 10 and np.percentile(lost, 95) <= 17 and lost.max() == 41  # one film has as many
