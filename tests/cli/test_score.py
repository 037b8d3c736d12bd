import json
from pathlib import Path

import pytest
from har_cache_cli.main import app
from typer.testing import CliRunner

from har_cache.cache.reader import FeatureCache
from har_cache.data.splits import TRAIN

from ..scoring.conftest import listed, right_rows, small_cache, write_table  # noqa: F401


def call(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def command(tmp_path: Path, small_cache: FeatureCache) -> list[object]:  # noqa: F811
    trained = write_table(tmp_path / "t.csv", ["key"], [[key] for key in listed(TRAIN)])
    predictions = write_table(tmp_path / "p.csv", ["key", "predicted"], right_rows(2))
    return ["score", "--cache", small_cache.path, "--trained-on", trained, "--predictions", predictions]


def test_people_read_the_leak_first(command: list[object], tmp_path: Path) -> None:
    result = call(*command, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    warning, headline, protocol, *_ = result.stdout.splitlines()
    assert warning.startswith("WARNING: the model was trained or validated on 12 of these 12 clips (100.0%)")
    assert headline.startswith("Top-1 100.0%") and protocol.startswith(
        "Protocol: trained on 24 clips, as is said of it"
    )
    assert str(tmp_path / "out" / "report.html") in result.stdout and "loss" not in result.stdout


def test_json_is_all_of_stdout(command: list[object]) -> None:
    content = json.loads(call(*command, "--json").stdout)
    assert (content["split"], content["leakage"]["seen"]["clips"], content["loss"]) == (2, 12, None)


def test_errors_are_one_line(command: list[object], tmp_path: Path) -> None:
    for more, code in ((["--split", 3], 1), (["--split", 4], 2), (["--data", tmp_path], 2), (["--split", 0], 2)):
        result = call(*command, *more)
        assert result.exit_code == code and result.stderr.startswith("Error: ") and result.stderr.count("\n") == 1


def test_the_overlap_of_splits_in_all_forms(small_cache: FeatureCache) -> None:  # noqa: F811
    shown = call("leakage", "--cache", small_cache.path)
    assert shown.exit_code == 0 and "12 (100.0%)" in shown.stdout and "split 3" in shown.stdout
    assert "| --- |" in call("leakage", "--cache", small_cache.path, "--format", "markdown").stdout
    assert "\\begin{tabular}" in call("leakage", "--cache", small_cache.path, "--format", "latex").stdout
    content = json.loads(call("leakage", "--cache", small_cache.path, "--json").stdout)
    assert content["splits"] == [1, 2, 3] and len(content["cells"]) == 9
    assert content["cells"][1] | {"seen": 12, "clean": 0} == content["cells"][1]
    assert call("leakage").exit_code == 2
