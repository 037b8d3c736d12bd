import json
from collections.abc import Callable
from pathlib import Path

import pytest

from har_cache.comparison.compare import Comparison, compare
from har_cache.comparison.summary import tables, warnings
from har_cache.comparison.tables import render
from har_cache.errors import HarCacheError, SettingError
from har_cache.settings.evaluation import CompareSettings
from har_cache.storage.parsing import to_json_types

from .conftest import KEYS

Evaluated = Callable[..., Path]


def run(*paths: Path) -> Comparison:
    return compare(CompareSettings(runs=paths))


def said(comparison: Comparison) -> str:
    return render(tables(comparison), "text")


def test_runs_that_hardly_differ_show_no_difference(evaluated: Evaluated) -> None:
    found = run(evaluated("a", KEYS[:10]), evaluated("b", KEYS[8:17]))
    (difference,) = found.all_clips.differences
    assert found.all_clips.pairs == (difference,)
    assert (difference.reference, difference.name) == ("a", "b")
    assert (difference.fixed, difference.broken, difference.shown) == (8, 7, False)
    assert found.all_clips.films == found.all_clips.lists[0].films == 12
    assert found.clean is None and not found.leaks and warnings(found) == []
    text = said(found)
    assert "Runs compared: test list of split 1, 144 clips of 4 classes and 12 films" in text
    assert "no difference shown" in text and "more than chance explains" not in text
    assert "Interval: 95%, over films" in text


def test_runs_that_differ_much_show_it(evaluated: Evaluated) -> None:
    found = run(evaluated("a", KEYS[::2]), evaluated("b", KEYS[:4]))
    assert found.all_clips.differences[0].shown
    assert "more than chance explains" in said(found)


def test_one_run_is_compared_with_its_linear_probes(evaluated: Evaluated) -> None:
    found = run(evaluated("a", KEYS[:10], linear_wrong=KEYS[::2]))
    assert found.all_clips.differences == ()
    mean, moments = found.all_clips.linear
    assert (mean.reference, mean.name) == ("a", "a: linear on mean")
    assert moments.name == "a: linear on mean and first moment"
    assert mean.difference < 0 and mean.shown and (moments.fixed, moments.broken) == (10, 0)
    assert mean.level == moments.level == pytest.approx(0.975)
    assert "both hold the truth together 95 times in 100 (97.50% each)" in said(found)


def test_each_run_has_its_own_probes_beside_it(evaluated: Evaluated) -> None:
    found = run(evaluated("a"), evaluated("b", linear_wrong=KEYS[:7]), evaluated("old", linear_wrong=None))
    assert [(each.reference, each.broken) for each in found.all_clips.linear] == [
        ("a", 0),
        ("a", 0),
        ("b", 7),
        ("b", 0),
    ]
    assert found.without_linear == ("old",)
    assert warnings(found) == ["No linear probes of old: `har-cache evaluate`, run again, keeps what they predict"]


def test_several_runs_are_compared_with_the_first_and_with_each_other(evaluated: Evaluated) -> None:
    found = run(*(evaluated(name, KEYS[start : start + 9]) for name, start in (("a", 0), ("b", 5), ("c", 40))))
    on = found.all_clips
    assert [(each.reference, each.name) for each in on.differences] == [("a", "b"), ("a", "c")]
    assert [(each.reference, each.name) for each in on.pairs] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert [each.level for each in on.differences] == pytest.approx([0.975] * 2)
    assert [each.level for each in on.pairs] == pytest.approx([1 - 0.05 / 3] * 3)


def test_clips_that_leak_are_warned_of_and_clean_ones_compared_alone(evaluated: Evaluated) -> None:
    found = run(evaluated("a", KEYS[:20]), evaluated("b", KEYS[:40], known=KEYS[60:]))
    assert [each.known for each in found.all_clips.runs] == [0, 84]
    assert found.clean is not None
    assert (found.clean.lists[0].clips, found.clean.runs[1].known) == (60, 0)
    assert found.clean.differences[0].reference_top1 == pytest.approx(2 / 3)
    assert warnings(found) == [
        "WARNING: b was trained or validated on 84 of these clips, or on others of their source: 72.2% is not a test "
        "accuracy"
    ]
    assert "Clean clips alone. Runs compared: test list of split 1, 60 clips" in said(found)
    leaking = run(evaluated("c"), evaluated("d", known=KEYS))
    assert leaking.clean is None and "no clip is clean" in warnings(leaking)[-1]


def test_few_films_give_no_verdict(evaluated: Evaluated) -> None:
    few = [key for key in KEYS if "film0_" in key or "film3_" in key]
    found = run(evaluated("a", keys=few), evaluated("b", few, keys=few))
    assert not found.all_clips.differences[0].shown
    text = said(found)
    assert "too few films to say" in text and "No interval, and so no verdict: fewer than 10 films" in text
    assert "no difference shown" not in text


def test_clips_left_out_are_counted(evaluated: Evaluated) -> None:
    found = run(evaluated("a"), evaluated("b", keys=KEYS[5:]))
    assert found.all_clips.lists[0].left_out == 5
    assert warnings(found) == ["Left out: 5 of the clips, which not all of the runs were scored on"]


def test_a_run_is_given_once_and_runs_of_one_name_are_told_apart(evaluated: Evaluated, tmp_path: Path) -> None:
    first = evaluated("x/run")
    with pytest.raises(SettingError, match="given twice"):
        run(first, tmp_path / "x" / ".." / "x" / "run")
    found = run(first, evaluated("y/run"))
    assert [each.name for each in found.all_clips.runs] == [str(first), str(tmp_path / "y" / "run")]


def test_all_of_it_is_json(evaluated: Evaluated) -> None:
    found = run(evaluated("a"), evaluated("b", known=KEYS[:20]))
    content = json.loads(json.dumps(to_json_types(found), allow_nan=False))
    assert content["schema"] == "har-comparison/1"
    assert content["clean"]["lists"][0]["clips"] == len(KEYS) - 20


def test_runs_of_folds_are_compared_on_the_training_list(evaluated: Evaluated) -> None:
    """Settings are chosen so, and no test list is looked at."""

    def of_folds(name: str, wrong: int) -> Path:
        path = evaluated(name)
        rows = [f"{key},0,act0,{'act1' if i < wrong else 'act0'},0.5,0.5" for i, key in enumerate(KEYS)]
        header = "key,fold,true,predicted,probability,probability_of_true"
        (path / "out_of_fold.csv").write_text("\n".join([header, *rows]) + "\n")
        return path

    first, second, plain = of_folds("a", len(KEYS) // 2), of_folds("b", 0), evaluated("c")
    found = compare(CompareSettings(runs=(first, second), out_of_fold=True))
    (difference,) = found.all_clips.differences
    assert (difference.top1, difference.fixed, difference.broken) == (1, len(KEYS) // 2, 0)
    text = said(found)
    assert "training list of split 1, out of fold" in text and "test list" not in text and not warnings(found)
    with pytest.raises(HarCacheError, match=r"c: has no predictions out of fold; train it with --folds"):
        compare(CompareSettings(runs=(first, plain), out_of_fold=True))
    with pytest.raises(SettingError, match="expected two or more"):
        compare(CompareSettings(runs=(first,), out_of_fold=True))
    with pytest.raises(SettingError, match="--split names a test list"):
        compare(CompareSettings(runs=(first, second), out_of_fold=True, split=1))
