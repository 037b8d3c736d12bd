import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from har_cache.cache.reader import FeatureCache
from har_cache.comparison.competitors import clean_lists, common_lists, read_competitor
from har_cache.errors import HarCacheError, RunError

from ..helpers.evaluations import write_evaluation
from ..helpers.synthetic import write_run
from .conftest import KEYS

Evaluated = Callable[..., Path]


def test_what_a_run_and_its_probes_have_right(evaluated: Evaluated) -> None:
    run = evaluated("a", KEYS[:3], linear_wrong=KEYS[:5], known=KEYS[-2:])
    found = read_competitor(run, "a")
    (clips,) = common_lists([found])
    assert clips.keys == tuple(KEYS) and clips.films[0] == "film0" and clips.left_out == 0
    assert found.on([clips])[0].tolist() == [0] * 3 + [1] * (len(KEYS) - 3)
    assert found.on([clips], "linear_on_mean")[0].sum() == len(KEYS) - 5
    assert found.on([clips], "linear_on_moments")[0].sum() == len(KEYS)
    assert found.known == frozenset(KEYS[-2:])


def test_clips_that_one_run_lacks_are_left_out_of_both(evaluated: Evaluated) -> None:
    runs = [evaluated("a", keys=KEYS[2:], known=KEYS[5:8]), evaluated("b", keys=KEYS[:-1], known=KEYS[:1])]
    competitors = [read_competitor(run, run.name) for run in runs]
    (clips,) = common_lists(competitors)
    assert (clips.keys, clips.left_out) == (tuple(KEYS[2:-1]), 3)
    (clean,) = clean_lists([clips], competitors)
    assert clean.keys == tuple(KEYS[2:5] + KEYS[8:-1])
    assert len(clean.films) == len(clean.keys)


def test_runs_without_a_clip_in_common_are_refused(evaluated: Evaluated) -> None:
    runs = [evaluated("a", keys=KEYS[:5]), evaluated("b", keys=KEYS[5:])]
    with pytest.raises(HarCacheError, match="share no clip of the test list of split 1"):
        common_lists([read_competitor(run, run.name) for run in runs])


def test_runs_that_know_other_classes_are_refused(evaluated: Evaluated, cache: FeatureCache) -> None:
    first, turned = evaluated("a"), evaluated("turned", classes=cache.classes[::-1])
    assert common_lists([read_competitor(run, "") for run in (first, turned)])
    other = evaluated("b", classes=[*cache.classes, "more"])
    with pytest.raises(HarCacheError, match=r"cannot compare .*/b with .*/a: they know other classes"):
        common_lists([read_competitor(run, "") for run in (first, other)])


def test_runs_of_other_lists_are_refused(evaluated: Evaluated, tmp_path: Path, cache: FeatureCache) -> None:
    first, drawn = evaluated("a"), evaluated("drawn", splits_from="sources")
    with pytest.raises(HarCacheError, match="splits drawn by source"):
        common_lists([read_competitor(run, "") for run in (first, drawn)])
    second = write_run(tmp_path / "b", cache, split=2)
    write_evaluation(second, KEYS, split=2)
    with pytest.raises(HarCacheError, match=r"tested on other lists \(split 2 against 1\); choose one with --split"):
        common_lists([read_competitor(run, "") for run in (first, second)])
    write_evaluation(second, KEYS[1:], split=1)
    competitors = [read_competitor(run, "", split=1) for run in (first, second)]
    assert common_lists(competitors)[0].left_out == 1


@pytest.mark.parametrize("split", [None, 3])
def test_a_run_that_is_not_evaluated_is_told_the_command(
    tmp_path: Path, cache: FeatureCache, split: int | None
) -> None:
    run = write_run(tmp_path / "run", cache)
    command = f"run `har-cache evaluate {run}{' --split 3' if split else ''}` first"
    with pytest.raises(RunError) as raised:
        read_competitor(run, "run", split)
    assert str(raised.value).endswith(f"has not been evaluated on the test list of split {split or 1}: {command}")
    write_evaluation(run, KEYS, split=split or 1, model_sha256="1" * 64)
    with pytest.raises(RunError) as raised:
        read_competitor(run, "run", split)
    assert str(raised.value) == f"{run} has been trained again since it was evaluated: {command}"


def test_an_evaluation_of_before_linear_predictions_were_kept_has_none(evaluated: Evaluated) -> None:
    assert read_competitor(evaluated("a", linear_wrong=None), "").linear == {}
    run = evaluated("b")
    write_evaluation(run, KEYS[1:], linear_wrong=None)  # by an earlier version, on other clips than linear.csv
    assert read_competitor(run, "").linear == {}
    (run / "evaluate" / "split1" / "linear.csv").write_text("key\n")
    with pytest.raises(RunError, match=r"linear\.csv: damaged .*; run `har-cache evaluate .*` again"):
        read_competitor(run, "")


def test_a_run_of_three_splits_has_three_lists(tmp_path: Path, cache: FeatureCache) -> None:
    for split in (1, 2, 3):
        run = write_run(tmp_path / "all" / f"split{split}", cache, split)
        write_evaluation(run, KEYS, KEYS[:split], split=split, linear_wrong=KEYS[:4])
    found = read_competitor(tmp_path / "all", "all")
    lists = common_lists([found])
    assert [clips.split for clips in lists] == [1, 2, 3]
    assert [right.sum() for right in found.on(lists)] == [len(KEYS) - split for split in (1, 2, 3)]
    shutil.rmtree(tmp_path / "all" / "split2" / "evaluate")
    with pytest.raises(RunError, match=r"split2 has not been .*: run `har-cache evaluate \S+/all` first"):
        read_competitor(tmp_path / "all", "all")


def test_several_models_on_one_list_count_as_their_mean(tmp_path: Path, cache: FeatureCache) -> None:
    for split in (1, 2, 3):
        run = write_run(tmp_path / "all" / f"split{split}", cache, split)
        write_evaluation(run, KEYS[split:], KEYS[: 4 + split], split=1)
    found = read_competitor(tmp_path / "all", "all", split=1)
    (clips,) = common_lists([found])
    assert clips.keys == tuple(KEYS[3:])
    assert found.on([clips])[0][:5] == pytest.approx([0, 0, 1 / 3, 2 / 3, 1])
    assert found.linear.keys() == {"linear_on_mean", "linear_on_moments"}


def test_runs_that_take_a_clip_for_another_film_s_are_refused(evaluated: Evaluated) -> None:
    first, other = (read_competitor(evaluated(name), name) for name in "ab")
    moved = replace(other, films={**other.films, KEYS[3]: "another"})
    with pytest.raises(HarCacheError, match=f"{KEYS[3]} is of another in the one, of {first.films[KEYS[3]]} in"):
        common_lists([first, moved])
    (clips,) = common_lists([replace(each, films=dict.fromkeys(KEYS, "one")) for each in (first, other)])
    assert set(clips.films) == {"one"}
