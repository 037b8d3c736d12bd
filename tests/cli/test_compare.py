import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from har_cache_cli.main import app
from typer.testing import CliRunner

from ..comparison.conftest import KEYS, cache, evaluated  # noqa: F401

Evaluated = Callable[..., Path]


def call(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["compare", *map(str, arguments)])


def test_people_read_a_table_and_the_verdict(evaluated: Evaluated) -> None:  # noqa: F811
    result = call(evaluated("a", KEYS[:10]), evaluated("b", KEYS[8:17]))
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("Runs compared: test list of split 1, 144 clips")
    assert next(line for line in result.stdout.splitlines() if line.startswith("b ")).endswith("no difference shown")


def test_warnings_come_first(evaluated: Evaluated) -> None:  # noqa: F811
    runs = [evaluated("a", known=KEYS[:5]), evaluated("b")]
    assert call(*runs).stdout.startswith("WARNING: a was trained or validated on 5 of these clips")
    result = call(*runs, "--format", "latex")
    assert result.stdout.startswith("% Runs compared") and "WARNING" not in result.stdout
    assert result.stderr.startswith("WARNING: a was")


def test_json_is_all_of_stdout(evaluated: Evaluated, tmp_path: Path) -> None:  # noqa: F811
    runs = [evaluated("a"), evaluated("b", KEYS[::2]), evaluated("c")]
    page = tmp_path / "page.html"
    result = call(*runs, "--json", "--page", page, "--format", "markdown")
    content = json.loads(result.stdout)
    assert [each["name"] for each in content["all_clips"]["pairs"]] == ["b", "c", "c"]
    assert content["all_clips"]["differences"][0]["shown"] is True
    assert page.exists() and str(page) in result.stderr


def test_markdown_can_be_pasted(evaluated: Evaluated) -> None:  # noqa: F811
    result = call(evaluated("a"), "--format", "markdown")
    assert "| --- | ---: |" in result.stdout


@pytest.mark.parametrize("wrong", [["--format", "html"], ["--split", "0"]])
def test_wrong_usage_exits_with_2(evaluated: Evaluated, wrong: list[str]) -> None:  # noqa: F811
    run = evaluated("a")
    assert call(run, *wrong).exit_code == 2
    assert call().exit_code == 2
    assert call(run, run).exit_code == 2


def test_a_run_that_is_not_evaluated_is_one_line_with_the_command(evaluated: Evaluated) -> None:  # noqa: F811
    run = evaluated("a")
    (run / "evaluate" / "split1" / "metrics.json").unlink()
    for result in (call(run), call(run / "nothing")):
        assert result.exit_code == 1
        assert result.stdout == "" and result.stderr.startswith("Error: ") and result.stderr.count("\n") == 1
    assert f"run `har-cache evaluate {run}` first" in call(run).stderr
