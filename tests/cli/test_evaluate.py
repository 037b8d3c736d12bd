import json
from pathlib import Path

import pytest
from har_cache_cli.main import app
from typer.testing import CliRunner

from har_cache.evaluation.tables import read_predictions
from har_cache.plots import plot_curves
from har_cache.storage.files import read_csv

from ..evaluation.test_evaluate import no_network  # noqa: F401
from ..helpers.names import HOSTILE, harmful
from ..helpers.synthetic import small_subsets, write_cache, write_run


def call(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def run(tmp_path) -> Path:
    return write_run(tmp_path / "run", write_cache(tmp_path / "cache", small_subsets(), class_signal=0.3))


def test_people_read_headline_protocol_and_leakage_first(run):
    result = call("evaluate", run)
    assert result.exit_code == 0, result.output
    headline, protocol, leakage, beside, *_ = result.stdout.splitlines()
    assert headline.startswith("Top-1 ")
    assert "on the test list of split 1: 24 clips of 4 classes" in headline
    assert protocol.startswith("Protocol: trained on")
    assert leakage.startswith("Leakage: 0 seen, 0 siblings")
    assert "chance 25.0%" in beside
    assert str(run / "evaluate" / "split1") in result.stdout


def test_the_warning_is_the_first_line(run):
    result = call("evaluate", run, "--split", 3)
    assert result.stdout.startswith("WARNING: the model was trained or validated on 24 of these 24 clips (100.0%)")


def test_json_is_all_of_stdout(run):
    result = call("evaluate", run, "--split", 3, "--json")
    content = json.loads(result.stdout)
    assert (content["split"], content["trained_on"], content["leakage"]["seen"]["clips"]) == (3, 1, 24)


def test_three_splits_as_text_and_json(tmp_path):
    cache = write_cache(tmp_path / "cache", small_subsets(), class_signal=0.3)
    for split in (1, 2, 3):
        write_run(tmp_path / "all" / f"split{split}", cache, split)
    text = call("evaluate", tmp_path / "all").stdout
    assert text.startswith("Top-1, mean over 3 splits: ")
    content = json.loads(call("evaluate", tmp_path / "all", "--json").stdout)
    assert len(content["runs"]) == 3
    assert call("evaluate", tmp_path / "all", "--split", 2).stdout.startswith("WARNING: 2 of these models")


def test_errors_are_one_line_and_exit_code_1(tmp_path, run):
    write_cache(tmp_path / "other", small_subsets(), encoder=b"another")
    for arguments in ([run, "--cache", tmp_path / "other"], [tmp_path / "nothing"], [tmp_path]):
        result = call("evaluate", *arguments)
        assert result.exit_code == 1
        assert result.stderr.startswith("Error: ")
        assert result.stderr.count("\n") == 1


def test_a_split_that_does_not_exist_is_a_usage_error(run):
    assert call("evaluate", run, "--split", 4).exit_code == 2


def test_report_prints_where_the_page_is(run):
    plot_curves(run / "metrics.csv", run / "curves.png", best=1)
    assert call("report", run).exit_code == 1
    call("evaluate", run)
    result = call("report", run)
    assert result.stdout.strip() == str(run / "report.html")
    assert (run / "report.html").exists()


def test_hostile_names_pass_through_every_table_and_none_reaches_a_terminal_raw(tmp_path):
    subsets = {f"{name}/{film}{name}.avi": (2 if film == "f" else 1, 1, 1) for name in HOSTILE for film in "defg"}
    cache = write_cache(tmp_path / "cache", subsets, failed={"a\rb/\x1b.avi": "no \x1b[2J frame"})
    run = write_run(tmp_path / "run", cache)
    shown = [call("info", cache.path), call("verify", cache.path), call("evaluate", run), call("report", run)]
    shown += [call("compare", run), call("compare", tmp_path / "\x1b[2J\udcff")]
    assert [result.exit_code for result in shown] == [0, 0, 0, 0, 0, 1], shown
    assert not harmful("".join(result.output for result in shown))
    assert "a\\rb/\\x1b.avi: no \\x1b[2J frame" in shown[0].stdout and "\\x1b[2J\\xff" in shown[-1].stderr
    assert {row.true for row in read_predictions(run / "evaluate" / "split1")} == set(HOSTILE)
    assert json.loads(call("info", cache.path, "--json").stdout)["failures"][0]["key"] == "a\rb/\x1b.avi"
    failed = read_csv(cache.path / "failures.csv")
    assert failed == [["key", "reason"], ["a\rb/\x1b.avi", "no \x1b[2J frame"]]
