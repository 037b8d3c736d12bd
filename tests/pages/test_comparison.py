import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from har_cache.comparison.compare import Comparison, compare
from har_cache.errors import FileError, HarCacheError, SettingError
from har_cache.evaluation.results import read_evaluation
from har_cache.pages.comparison import groups, report_runs, write_page, write_report
from har_cache.settings.evaluation import CompareSettings
from har_cache.storage.history import TRAINED, add_event

from ..comparison.conftest import KEYS
from ..helpers.pages import Page
from ..helpers.sealed import change_sealed

Evaluated = Callable[..., Path]


def compared(*runs: Path) -> Comparison:
    return compare(CompareSettings(runs=runs))


def test_the_page_needs_nothing_else_and_says_what_the_table_says(evaluated: Evaluated, tmp_path: Path) -> None:
    runs = [evaluated("a", KEYS[::2]), evaluated("b", KEYS[:4]), evaluated("c", KEYS[:5], keys=KEYS[1:])]
    write_page(compared(*runs), tmp_path / "page.html")
    page = Page(tmp_path / "page.html")
    assert page.open == []
    assert not page.elements.keys() & {"link", "iframe", "img"}
    assert not re.search(r"url\(|@import|https?://", (tmp_path / "page.html").read_text())
    assert any(meta.get("name") == "viewport" for meta in page.elements["meta"])
    text = " ".join(page.text.split())
    assert "Test list of split 1, 143 clips of 4 classes and 12 films" in text
    assert "Left out: 1 of the clips" in text
    for pair in ("b less a", "c less a", "c less b", "linear on mean less a"):
        assert pair in text
    assert "c less b: no difference shown" in text
    assert "b less a: more than chance explains" in text
    assert text.count("hold the truth together") == 2


def test_clean_clips_have_a_part_of_their_own(evaluated: Evaluated, tmp_path: Path) -> None:
    write_page(compared(evaluated("a", known=KEYS[:50]), evaluated("b")), tmp_path / "page.html")
    text = Page(tmp_path / "page.html").text
    assert text.index("WARNING: a was trained") < text.rindex("Clean clips alone")


def test_marks_are_on_the_scale(evaluated: Evaluated) -> None:
    on = compared(evaluated("a", KEYS[::2]), evaluated("b", KEYS[:4])).all_clips
    (row,) = groups(on)[0].rows
    assert 50 < row.mark.start < row.mark.point < row.mark.start + row.mark.width < 100
    end = float(groups(on)[0].end) / 100
    assert row.mark.point == pytest.approx(50 + 50 * row.difference.difference / end, abs=0.5)
    same = compared(evaluated("c"), evaluated("d", keys=KEYS[:6])).all_clips  # of one film: no interval
    (row,) = groups(same)[0].rows
    assert (row.mark.point, row.mark.width) == (50, 0)


def test_hostile_names_stay_text(evaluated: Evaluated, tmp_path: Path) -> None:
    write_page(compared(evaluated("<u>a & 'b'"), evaluated("{{ 7 * 7 }}")), tmp_path / "page.html")
    page = Page(tmp_path / "page.html")
    assert "u" not in page.elements
    assert "{{ 7 * 7 }} less <u>a & 'b'" in page.text


def test_a_place_that_cannot_be_written_is_named(evaluated: Evaluated, tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"page\.html: cannot be written"):
        write_page(compared(evaluated("a")), tmp_path / "nowhere" / "page.html")


def test_several_runs_on_one_page_beside_them(evaluated: Evaluated, tmp_path: Path) -> None:
    runs = [evaluated("a", KEYS[::2]), evaluated("b", KEYS[:4])]
    edit(runs[1], lambda config: config["training"].update(lr=0.01))
    add_event(runs[0], TRAINED, 30.0)
    (runs[0] / "report.html").touch()
    out = report_runs(runs)
    assert out == tmp_path / "comparison.html"
    page = Page(out)
    assert "b less a: more than chance explains" in page.words
    assert page.of_class("div", "figure") == []  # of unlike runs there is no mean
    assert "training.lr" in page.within["code"] and "0.01" in page.words
    assert "./a/report.html" in [link["href"] for link in page.elements["a"]]
    for run in runs:
        assert f"har-cache evaluate {run}" in page.words
    assert "RANDOM WEIGHTS" in page.words and "30 s" in page.words


def test_seeds_have_a_mean_and_a_spread(evaluated: Evaluated, tmp_path: Path) -> None:
    runs = [evaluated("a", KEYS[::2]), evaluated("b", KEYS[:4])]
    edit(runs[1], lambda config: config["training"].update(seed=1))
    metrics = [read_evaluation(run / "evaluate" / "split1").metrics for run in runs]
    page = Page(report_runs(runs, tmp_path / "page.html"))
    mean = sum(each.top1 for each in metrics) / 2
    assert page.of_class("div", "figure") == [f"{100 * mean:.1f}%"]
    assert "the same but for split and seed" in page.words and "Standard deviation over 2 seeds" in page.words
    assert "b less a" in page.words


def test_splits_have_a_mean_and_no_differences(evaluated: Evaluated, tmp_path: Path) -> None:
    runs = [evaluated("a"), evaluated("b", split=2)]
    edit(runs[1], lambda config: config.update(split=2))
    page = Page(report_runs(runs))
    assert "the same but for their split" in page.words
    assert "No differences between them: they were tested on other lists" in page.words
    assert "less" not in page.words.replace("unless", "")


def test_a_leaked_mean_is_not_shown_as_one(evaluated: Evaluated) -> None:
    runs = [evaluated("a", known=KEYS[:50]), evaluated("b")]
    for run in runs:
        edit(run, lambda config, name=run.name: config["training"].update(seed="ab".index(name)))
    folder = runs[0] / "evaluate" / "split1"
    change_sealed(folder / "metrics.json", lambda metrics: metrics["leakage"]["seen"].update(clips=50))
    page = Page(report_runs(runs))
    assert page.of_class("div", "figure") == []
    assert page.within["s"] == ["75.0%", "100.0%"]  # in the table of runs, and on the same clips


def test_runs_of_other_classes_are_not_put_on_one_page(evaluated: Evaluated) -> None:
    with pytest.raises(HarCacheError, match="they know other classes; choose runs of the same data set"):
        report_runs([evaluated("a"), evaluated("b", split=2, classes=["act0", "act1"])])


def edit(run: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Have `change` edit the config of a run, which has no seal, in place."""
    file = run / "config.json"
    config = json.loads(file.read_text())
    change(config)
    file.write_text(json.dumps(config))


def test_options_go_with_one_run_or_with_several(evaluated: Evaluated, tmp_path: Path) -> None:
    runs = [evaluated("a"), evaluated("b")]
    with pytest.raises(SettingError, match="--data goes with one run"):
        write_report(runs, data=tmp_path)
    with pytest.raises(SettingError, match="--out goes with several"):
        write_report(runs[:1], out=tmp_path / "page.html")
    assert write_report(runs, out=tmp_path / "page.html") == tmp_path / "page.html"
