import re
from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from har_cache.data.index import read_index
from har_cache.data.keys import FILES, GIVEN, NAMES
from har_cache.data.sources import tell_sources
from har_cache.data.splits import TEST, TRAIN
from har_cache.errors import DataError, SettingError

from ..helpers.own_data import write_clips


def test_the_first_group_or_all_that_matches() -> None:
    places = {"x/p07_2.mp4": "x/p07_2.mp4", "x/p12_1.mp4": "x/p12_1.mp4"}
    assert tell_sources(places, {}, "p[0-9]+").by_key == {"x/p07_2.mp4": "x/p07", "x/p12_1.mp4": "x/p12"}
    told = tell_sources(places, {}, "p([0-9]+)_([0-9])")
    assert told.by_key == {"x/p07_2.mp4": "x/07", "x/p12_1.mp4": "x/12"} and told.from_ == GIVEN


def test_a_pattern_with_a_slash_is_looked_for_in_the_path() -> None:
    places = {"x/1.mp4": "anna/day1/1.mp4", "x/2.mp4": "bob/day1/2.mp4"}
    assert tell_sources(places, {}, "^[^/]+/day").by_key == {"x/1.mp4": "x/anna__day", "x/2.mp4": "x/bob__day"}
    assert set(tell_sources(places, {}, "^([^/]+)/").by_key.values()) == {"x/anna", "x/bob"}
    with pytest.raises(DataError, match="matches none of 2 clips"):
        tell_sources(places, {}, "anna")


def test_clips_that_a_pattern_does_not_tell_are_named_and_their_own() -> None:
    places = {key: key for key in ("x/anna.mp4", "x/anna1_.mp4", "x/1_.mp4", "x/.._.mp4")}
    told = tell_sources(places, {}, "^(.*)(?=_)|^(?=1)")
    assert told.by_key == {
        "x/anna.mp4": "x/anna.mp4",
        "x/anna1_.mp4": "x/anna1",
        "x/1_.mp4": "x/1",
        "x/.._.mp4": "x/.._.mp4",  # no name of a source
    }
    assert told.untold == ("x/.._.mp4", "x/anna.mp4")


@pytest.mark.parametrize("pattern", ["(", "[a-", "*", "(?P<x"])
def test_a_bad_pattern_is_wrong_usage(pattern: str) -> None:
    with pytest.raises(SettingError, match=re.escape(f"--source-pattern {pattern}: expected a regular expression")):
        tell_sources({"x/1.mp4": "x/1.mp4"}, {}, pattern)


def test_a_pattern_that_matches_nothing_is_refused() -> None:
    with pytest.raises(DataError, match=r"--source-pattern q: matches none of 1 clips, as x/1\.mp4"):
        tell_sources({"x/1.mp4": "x/1.mp4"}, {}, "q")


def test_a_pattern_and_a_column_contradict_each_other() -> None:
    with pytest.raises(SettingError, match="column source; give one of them"):
        tell_sources({"x/1.mp4": "x/1.mp4"}, {"x/1.mp4": "anna"}, "1")


@pytest.mark.parametrize(
    ("keys", "from_"),
    [
        (["x/film_x_f_nm_np1_fr_goo_0.avi", "x/2.avi"], NAMES),
        (["Archery/v_Archery_g01_c02.avi"], NAMES),
        (["x/anna1.mp4", "x/anna2.mp4"], FILES),
    ],
)
def test_it_is_known_whether_names_tell(keys: list[str], from_: str) -> None:
    assert tell_sources({key: key for key in keys}, {}, None).from_ == from_


@settings(max_examples=25)
@given(
    clips=st.dictionaries(
        st.tuples(st.sampled_from("xyz"), st.integers(1, 5), st.integers(1, 4)), st.none(), min_size=1, max_size=30
    ),
    folds=st.sampled_from([None, 2, 3]),
    seed=st.integers(0, 99),
)
def test_with_a_pattern_no_source_is_in_both_parts(
    tmp_path_factory: pytest.TempPathFactory, clips: dict[tuple[str, int, int], None], folds: int | None, seed: int
) -> None:
    data = write_clips(tmp_path_factory.mktemp("data"), *(f"{name}/{n}-person{p}.mp4" for name, p, n in clips))
    try:
        index = read_index(data, seed=seed, source_pattern="person([0-9]+)", folds=folds)
    except SettingError as error:
        assert folds and "too few sources" in str(error)
        return
    parts: defaultdict[tuple[int, str], set[int]] = defaultdict(set)
    for clip in index.clips:
        person = re.findall("person[0-9]+", clip.key)[0]
        for split, subset in enumerate(clip.subsets):
            # Drawn by class, as HMDB51's are; folds hold a person out of all classes.
            parts[split, person if folds else f"{clip.label} {person}"].add(subset)
    assert len(parts) and all(part in ({TRAIN}, {TEST}) for part in parts.values())
    if folds:
        tested = [clip.subsets.count(TEST) for clip in index.clips]
        assert max(tested) <= 1 and 1 in tested
