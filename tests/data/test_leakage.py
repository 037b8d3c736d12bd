from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from har_cache.data import leakage
from har_cache.data.keys import sources_of
from har_cache.data.leakage import CLEAN, GROUPS, SEEN, SIBLING
from har_cache.data.splits import TEST, TRAIN, UNUSED
from har_cache.settings.names import SPLITS

from ..helpers.synthetic import OFFICIAL_LISTS, official_subsets, small_subsets

KEYS = st.lists(
    st.builds(
        "{0}/film{1}_{0}_f_cm_np1_fr_med_{2}.avi".format, st.sampled_from("ab"), st.integers(0, 3), st.integers(0, 2)
    ),
    unique=True,
)


def groups(trained, tested):
    """By the names of the clips."""
    return leakage.groups(sources_of(trained, {}), sources_of(tested, {}))


def in_other_class(trained, tested):
    return leakage.in_other_class(sources_of(trained, {}), sources_of(tested, {}))


def overlap(subsets):
    """Counts of seen, sibling and clean clips in each test list, for a model of each training list."""
    lists = {
        (split, part): [key for key, parts in subsets.items() if parts[split - 1] == part]
        for split in SPLITS
        for part in (TRAIN, TEST)
    }
    return {(a, b): Counter(groups(lists[a, TRAIN], lists[b, TEST])) for a in SPLITS for b in SPLITS}


def test_a_clip_is_seen_before_it_is_a_sibling_and_a_sibling_before_it_is_clean():
    trained = ["run/film_run_f_cm_np1_fr_med_0.avi"]
    tested = [*trained, "run/film_run_f_cm_np1_fr_med_1.avi", "run/other_run_f_cm_np1_fr_med_0.avi"]
    assert groups(trained, tested) == [SEEN, SIBLING, CLEAN]


def test_the_same_film_in_another_class_is_another_source_and_counted():
    trained, tested = ["run/film_run_f_cm_np1_fr_med_0.avi"], ["walk/film_walk_f_cm_np1_fr_med_0.avi"]
    assert groups(trained, tested) == [CLEAN]
    assert in_other_class(trained, tested) == [True]
    assert in_other_class(trained, ["walk/another_walk_f_cm_np1_fr_med_0.avi"]) == [False]


def test_a_film_that_trains_its_own_class_too_is_a_sibling_s_alone():
    trained = ["run/film_run_f_cm_np1_fr_med_0.avi", "walk/film_walk_f_cm_np1_fr_med_0.avi"]
    tested = ["walk/film_walk_f_cm_np1_fr_med_1.avi", trained[1]]
    assert groups(trained, tested) == [SIBLING, SEEN]
    assert in_other_class(trained, tested) == [False, False]


@given(KEYS, KEYS)
def test_seen_are_the_trained_ones_and_clean_ones_share_no_source_with_any(trained, tested):
    found = groups(trained, tested)
    films = {key.rsplit("_", 1)[0] for key in trained}
    assert len(found) == len(tested)
    for key, group in zip(tested, found, strict=True):
        assert group in GROUPS
        assert (group == SEEN) == (key in trained)
        assert (group == CLEAN) == (key.rsplit("_", 1)[0] not in films)


@given(KEYS, KEYS)
def test_those_in_another_class_are_clean_and_their_film_is_known(trained, tested):
    films = {key.split("/")[1].split("_")[0] for key in trained}
    for key, group, other in zip(tested, groups(trained, tested), in_other_class(trained, tested), strict=True):
        assert other == (group == CLEAN and key.split("/")[1].split("_")[0] in films)


@given(KEYS, KEYS, KEYS)
def test_training_on_more_never_makes_a_clip_cleaner(trained, more, tested):
    before, after = groups(trained, tested), groups([*trained, *more], tested)
    assert all(GROUPS.index(b) <= GROUPS.index(a) for a, b in zip(before, after, strict=True))


def test_nothing_trained_is_all_clean():
    assert groups([], ["a/x.avi", "b/y.avi"]) == [CLEAN, CLEAN]


def test_overlap_of_lists_that_turn_round():
    counts = overlap(small_subsets(classes=2, sources=6, clips=2))
    assert counts[1, 1] == {CLEAN: 8}
    assert counts[1, 2] == {SEEN: 8}


def test_overlap_names_the_list_trained_on_first():
    """Split 1 trains on all that split 2 tests on, and not the other way round."""
    both, first = "run/a_run_f_cm_np1_fr_med_0.avi", "run/b_run_f_cm_np1_fr_med_0.avi"
    counts = overlap({both: (TRAIN, TEST, UNUSED), first: (TEST, UNUSED, TRAIN)})
    assert counts[1, 2] == {SEEN: 1} and counts[2, 1] == {CLEAN: 1}
    assert counts[3, 1] == {SEEN: 1} and counts[1, 3] == {}


@pytest.mark.skipif(not OFFICIAL_LISTS.is_dir(), reason="the official lists are not here")
def test_overlap_of_the_official_splits():
    subsets = official_subsets()
    counts = overlap(subsets)
    assert len(subsets) == 6766
    assert counts[1, 3] == {SEEN: 1150, SIBLING: 162, CLEAN: 218}
    assert all(counts[split, split] == {CLEAN: 1530} for split in (1, 2, 3))


@pytest.mark.skipif(not OFFICIAL_LISTS.is_dir(), reason="the official lists are not here")
@pytest.mark.parametrize(("trained", "tested", "clips"), [(1, 1, 457), (2, 2, 527), (3, 3, 529), (1, 3, 94)])
def test_films_that_the_official_splits_train_in_another_class(trained, tested, clips):
    subsets = official_subsets()
    train = [key for key, parts in subsets.items() if parts[trained - 1] == TRAIN]
    test = [key for key, parts in subsets.items() if parts[tested - 1] == TEST]
    assert sum(in_other_class(train, test)) == clips


@pytest.mark.skipif(not OFFICIAL_LISTS.is_dir(), reason="the official lists are not here")
def test_films_of_the_test_lists_train_under_other_classes() -> None:
    for split, expected in enumerate((457, 527, 529), start=1):
        part = {key: subsets[split - 1] for key, subsets in official_subsets().items()}
        trained, tested = ([key for key, p in part.items() if p == wanted] for wanted in (TRAIN, TEST))
        assert sum(in_other_class(trained, tested)) == expected and len(tested) == 1530


def test_a_source_that_trains_is_another_matter_than_its_film_in_another_class() -> None:
    assert sum(in_other_class(["a/x", "a/y"], ["a/x", "b/x", "b/z"])) == 1


def test_sources_are_those_that_are_given_whatever_the_names_say() -> None:
    trained = {"run/1.avi": "run/park", "run/2.avi": "run/beach"}
    tested = {"run/2.avi": "run/beach", "run/3.avi": "run/park", "run/4.avi": "run/hall", "walk/5.avi": "walk/park"}
    assert leakage.groups(trained, tested) == [SEEN, SIBLING, CLEAN, CLEAN]
    assert leakage.in_other_class(trained, tested) == [False, False, False, True]
    assert sources_of(["run/1.avi", "run/2.avi"], {"run/1.avi": "run/park"}) == {
        "run/1.avi": "run/park",
        "run/2.avi": "run/2",
    }
