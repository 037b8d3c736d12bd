"""How commands explain themselves, and by which names they take what they are given."""

import re
import runpy
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest
import typer
from har_cache_cli.commands import CommandGroup
from har_cache_cli.main import app
from har_cache_cli.options import add
from typer.main import get_command
from typer.testing import CliRunner, Result

from har_cache.options import REQUIRED, Settings, option
from har_cache.system import version


@dataclass(frozen=True, kw_only=True)
class Inner(Settings):
    """Settings within settings."""

    rate: float = option(0.5, "A rate.", above=0)


@dataclass(frozen=True, kw_only=True)
class Made(Settings):
    """Settings with arguments, aliases and sections."""

    SECTIONS: ClassVar = {"out": "Data", "inner": "Training", "device": "Run"}

    run: Path = option(REQUIRED, "A run.", argument=True)
    videos: tuple[Path, ...] = option(REQUIRED, "Videos.", argument=True, metavar="VIDEO...")
    out: Path = option(REQUIRED, "Where it goes.", aliases=("to",))
    inner: Inner = field(default_factory=Inner)
    device: str = option("auto", "Where.", metavar="auto|cpu|cuda:N")


def call(*words: str, env: dict[str, str] | None = None) -> tuple[Result, list[Made]]:
    made, taken = typer.Typer(cls=CommandGroup, rich_markup_mode=None), []

    def command(settings: Made) -> None:
        """Do it."""
        taken.append(settings)

    for name in ("do", "redo"):
        add(made, name, command, "Doing", "Do it.")
    result = CliRunner().invoke(made, [*words], prog_name="made", terminal_width=80, env=env)
    return result, taken


def whole(*words: str, **more: Any) -> Result:
    return CliRunner().invoke(app, [*words], prog_name="har-cache", terminal_width=80, **more)


def test_the_version_is_that_of_the_package() -> None:
    result = whole("--version")
    assert (result.exit_code, result.stdout) == (0, f"har-cache {version()}\n") and version()[0].isdigit()


def test_python_can_run_the_package(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["har_cache", "--version"])
    with pytest.raises(SystemExit) as left:
        runpy.run_module("har_cache", run_name="__main__")
    assert left.value.code == 0 and capsys.readouterr().out.startswith("har-cache ")


def test_commands_are_listed_in_sections_each_on_a_line_and_whole() -> None:
    text = whole("-h").stdout
    assert text == whole("--help").stdout and "..." not in text.partition("Options:")[2]
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    names = [line.split()[0] for line in lines[lines.index("Data sets:") :] if re.match("  [a-z]", line)]
    command: Any = get_command(app)
    assert names == list(command.commands)
    order = [names.index(name) for name in ("download", "extract", "train-head", "evaluate", "predict")]
    assert order == sorted(order)


@pytest.mark.parametrize("name", list(get_command(app).commands))  # type: ignore[attr-defined]
def test_each_option_says_what_it_takes_and_fits_into_80_columns(name: str) -> None:
    text = whole(name, "-h").stdout
    assert not re.search(r"--?[a-z-]+ <", text) and "PATH TEXT" not in text
    assert max(map(len, text.splitlines())) <= 80
    command: Any = get_command(app).commands[name]  # type: ignore[attr-defined]
    assert all(param.help for param in command.params)
    assert all(len(param.help) <= 120 or param.name == "lists" for param in command.params), name


def test_options_stand_in_the_sections_of_their_settings() -> None:
    text = call("do", "--help")[0].stdout
    titles = re.findall("^([A-Z].*):", text, re.MULTILINE)
    assert titles == ["Usage", "Arguments", "Data", "Training", "Run", "Options"]
    assert "Usage: made do [OPTIONS] RUN VIDEO..." in text
    for title, flag in (("Data", "--out DIR"), ("Training", "--rate X"), ("Run", "--device auto"), ("Options", "-q")):
        assert flag in text.partition(f"\n{title}:")[2].partition(":\n")[0], title


def test_an_alias_is_taken_and_not_shown() -> None:
    result, taken = call("do", "r", "v.avi", "--to", "there")
    assert result.exit_code == 0 and taken[0].out == Path("there"), result.output
    assert "--to" not in call("do", "--help")[0].stdout
    assert "--stall-timeout" in whole("predict", "-h").stdout and "--clip-timeout" not in whole("predict", "-h").stdout


@pytest.mark.parametrize(
    "words",
    [
        ["--run", "r", "v.avi", "w.avi"],
        ["v.avi", "--run=r", "w.avi"],
        ["r", "--video", "v.avi", "--video", "w.avi"],
        ["r", "v.avi", "--", "w.avi"],
    ],
)
def test_what_has_no_name_is_taken_by_its_name_too(words: list[str]) -> None:
    result, taken = call("do", "--out", "o", *words)
    assert result.exit_code == 0, result.output
    assert taken == [Made(run=Path("r"), videos=(Path("v.avi"), Path("w.avi")), out=Path("o"))]


def test_after_two_dashes_nothing_is_a_name() -> None:
    _, taken = call("do", "--out", "o", "r", "--", "--video", "x")
    assert taken[0].videos == (Path("--video"), Path("x"))
    assert call("do", "r", "v.avi", "--out", "o", "--run")[0].exit_code == 2


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("made do --device ", {"auto", "cpu"}),
        ("made do --device c", {"cpu"}),
        ("made do --o", {"--out"}),
        ("made do --t", set()),
        ("made do --out x", set()),
        ("made re", {"redo"}),
    ],
)
def test_a_shell_completes_values_and_names_but_no_aliases(words: str, found: set[str]) -> None:
    count = len(words.split(" ")) - 1
    env = {"_MADE_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(count)}
    assert set(call(env=env)[0].stdout.split()) == found


def test_quiet_leaves_warnings_and_errors(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from har_cache_cli.console import Bar, echo, hushed, say

    monkeypatch.setattr("har_cache_cli.console._LOG_EVERY_S", -1)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with hushed(True):
        bar = Bar()
        with bar.task("Working", "clip", 2):
            bar.advance()
            bar.say("WARNING: it is late")
            bar.say("one more")
        say("Next: something else")
        echo("a result")
    say("told again")
    told = capsys.readouterr()
    assert (told.out, told.err) == ("a result\n", "WARNING: it is late\ntold again\n")


@pytest.mark.parametrize(
    "words",
    [
        ["predict", "r", "http://host/x.mp4"],
        ["predict", "r", "x.mp4", "--csv", "/proc/none/x.csv"],
        ["predict", "r", "x.mp4", "--every", "0"],
        ["export", "r", "--to", "x.txt"],
        ["compare", "r", "--format", "xml"],
        ["extract", "--cache", "c"],
        ["evaluate", "r", "--split", "x"],
        ["train-head", "--cache", "c", "--run", "r", "--fold", "1", "--folds", "2"],
        ["leakage"],
        ["sample", "--out", "x", "--classes", "3"],
    ],
)
def test_wrong_usage_ends_with_2_in_every_command(words: list[str]) -> None:
    result = whole(*words)
    assert result.exit_code == 2 and result.stdout == ""
    assert result.stderr.splitlines()[-1].startswith("Error: ")
