import json
import re
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
from har_cache_cli.main import app
from typer.testing import CliRunner

from . import check as checks
from . import numbers
from .check import Check, Sizes
from .findings import Finding, Findings

SMALL = Sizes(2, 8, 3, 4, 0.05, 1, 1)


def recorded(tmp_path, monkeypatch, answer):
    """The commands of a check, none of which is run, and what it found."""
    commands = []

    def run(command, **how):
        commands.append(command)
        return answer(command)

    monkeypatch.setattr(checks.subprocess, "run", run)
    monkeypatch.setattr(Check, "_killed", lambda self: {})
    return commands, Check("cpu", tmp_path, SMALL, 60).run()


def test_every_command_has_the_options_that_it_is_given(tmp_path, monkeypatch):
    for folder in ("sample/videos/sit", "head", "head-again"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "model.safetensors").touch()
    found = json.dumps({"top1": 0.5, "all": {"top1": 0.5}})
    commands, _ = recorded(
        tmp_path, monkeypatch, lambda command: SimpleNamespace(returncode=0, stdout=found, stderr="")
    )
    ours = [command[3:] for command in commands if command[:3] == checks.COMMAND]
    assert {command[0] for command in ours} >= {
        "sample",
        "extract",
        "train-head",
        "finetune",
        "evaluate",
        "predict",
        "bench",
    }
    for name, *arguments in ours:
        known = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "200"}).stdout
        for option in (argument for argument in arguments if argument.startswith("--")):
            assert re.search(rf"{option}\b", known), f"{name} has no {option}"


def test_a_step_that_fails_is_told_and_the_others_go_on(tmp_path, monkeypatch, capsys):
    def fail(command):
        if "bench" in command:
            raise subprocess.TimeoutExpired(command, 1)
        return SimpleNamespace(returncode=1, stdout="1 failed", stderr="Error: no luck")

    commands, findings = recorded(tmp_path, monkeypatch, fail)
    assert any(
        "draw: har_cache_cli.main sample --out ended with 1: Error: no luck" in error for error in findings.errors
    )
    assert any(error.startswith("bench: ") for error in findings.errors) and len(commands) > 6
    short = "\n".join(findings.short)
    assert "tests that need a GPU" in short and "no luck" in short
    assert "-- bench" in capsys.readouterr().out


def test_no_time_left_ends_the_steps(tmp_path):
    findings = Check("cpu", tmp_path, SMALL, 0).run()
    assert findings.errors[0] == "draw: no time is left for it"


@pytest.mark.parametrize(
    ("value", "expected", "falls_short"),
    [
        (0, "= 0", False),
        (3, "= 0", True),
        (0.9, ">= 0.85", False),
        (0.8, ">= 0.85", True),
        (21.0, "<= 20", True),
        (5, "", False),
    ],
)
def test_what_is_not_as_expected_falls_short(value, expected, falls_short):
    finding = Finding("a figure", value, expected)
    assert finding.falls_short == falls_short
    assert ("SHORT" in finding.line()) == falls_short


def test_all_that_fell_short_is_in_one_list(tmp_path):
    findings = Findings({"device": "a GPU"})
    findings.add("a", 1, "= 1")
    findings.add("b", 2, "= 1")
    findings.errors.append("c: ended early")
    lines = list(findings.lines())
    assert lines[0] == "device a GPU" and lines[-3] == "Fell short:"
    findings.write(tmp_path / "deep" / "found.json")
    content = json.loads((tmp_path / "deep" / "found.json").read_text())
    assert content["short"] == lines[-2:] and [f["falls_short"] for f in content["found"]] == [False, True]


def test_numbers_of_the_cpu_are_its_own(finished, monkeypatch):
    monkeypatch.setattr(numbers.batches, "BATCH", 4)
    monkeypatch.setattr(numbers, "favoured", lambda device: iter(["fp32"]))
    found = numbers.measured(Path(finished.data) / "videos", "cpu", 2)
    assert found["transform"][0] == 0 and found["transform"][1] > 0
    assert found["cosine"] == {"fp32": pytest.approx(1)} and found["from_rings"]
    assert found["rows"]["fp32"] == {"again": 0, "in another order": 0, "by a graph": 0}
