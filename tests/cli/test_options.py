"""Commands made from settings."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from har_cache_cli.main import app as whole
from har_cache_cli.options import Json, add
from typer.testing import CliRunner, Result

from har_cache.errors import HarCacheError
from har_cache.options import REQUIRED, Settings, option
from har_cache.settings.training import TrainHeadSettings


@dataclass(frozen=True, kw_only=True)
class Inner(Settings):
    """Settings within settings."""

    rate: float = option(0.5, "A rate.", above=0, most=1)
    careful: bool = option(True, "Take care.")


@dataclass(frozen=True, kw_only=True)
class Made(Settings):
    """Every kind of setting."""

    what: Path = option(REQUIRED, "Where it is.", argument=True)
    out: Path = option(REQUIRED, "Where it goes.")
    names: tuple[str, ...] = option((), "Its names.", flag="name")
    parts: tuple[str, ...] = option(("a", "b"), "Its parts.", listed=True)
    kind: str = option("x", "Its kind.", choices=("x", "y"))
    limit: int | None = option(None, "A limit.", least=1, flag="at-most")
    inner: Inner = field(default_factory=Inner)
    again: bool = option(False, "Once more.")


def call(*arguments: str, fail: bool = False) -> tuple[Result, list[Any]]:
    app, taken = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None), []

    def command(settings: Made, as_json: Json = False) -> None:
        """Do it."""
        taken.append((settings, as_json))
        if fail:
            raise HarCacheError("it cannot be done")

    add(app, "do", command)
    return CliRunner().invoke(app, [*arguments]), taken


def test_options_become_settings() -> None:
    result, taken = call("here", "--out", "there")
    assert result.exit_code == 0 and taken == [(Made(what=Path("here"), out=Path("there")), False)]
    given = ["--name", "n", "--name", "m", "--parts", "c", "--kind", "y", "--at-most", "3", "--rate", "1", "--again"]
    result, taken = call("here", "--out", "there", *given, "--no-careful", "--json")
    wanted = Made(
        what=Path("here"),
        out=Path("there"),
        names=("n", "m"),
        parts=("c",),
        kind="y",
        limit=3,
        inner=Inner(rate=1.0, careful=False),
        again=True,
    )
    assert result.exit_code == 0 and taken == [(wanted, True)]


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--kind", "z", "--kind z: expected one of x, y"),
        ("--rate", "0", "--rate 0.0: expected a number above 0 and at most 1"),
        ("--at-most", "0", "--at-most 0: expected at least 1"),
    ],
)
def test_a_value_that_makes_no_sense_is_wrong_usage(option: str, value: str, message: str) -> None:
    result, taken = call("here", "--out", "there", option, value)
    assert result.exit_code == 2 and result.stderr == f"Error: {message}\n" and not taken


def test_an_error_is_one_line_and_with_debug_a_traceback() -> None:
    result, _ = call("here", "--out", "there", fail=True)
    assert result.exit_code == 1 and result.stderr == "Error: it cannot be done\n"
    result, _ = call("here", "--out", "there", "--debug", fail=True)
    assert isinstance(result.exception, HarCacheError)


def test_help_says_what_there_is() -> None:
    result, _ = call("--help")
    text = " ".join(result.stdout.split())
    for part in (
        "Do it.",
        "--out",
        "Where it goes. [required]",
        "--kind x|y",
        "[default: x]",
        "--no-careful",
        "--debug",
    ):
        assert part in text
    assert "--what" not in text and "--no-again" not in text


@pytest.mark.parametrize(
    ("command", "forms"),
    [
        ("extract", "auto|cpu|cuda|cuda:N,..."),
        ("train-head", "auto|cpu|cuda|cuda:N"),
        ("finetune", "auto|cpu|cuda|cuda:N"),
        ("evaluate", "auto|cpu|cuda|cuda:N"),
        ("predict", "auto|cpu|cuda|cuda:N"),
        ("bench", "auto|cpu|cuda|cuda:N"),
    ],
)
def test_the_forms_of_a_device_are_in_the_help(command: str, forms: str) -> None:
    words = CliRunner().invoke(whole, [command, "--help"], terminal_width=200).stdout.split()
    assert words[words.index("--device") + 1] == forms


def test_a_gpu_that_fails_is_told_with_the_options_that_the_command_has() -> None:
    app = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None)

    def command(settings: TrainHeadSettings) -> None:
        """Do it."""
        raise torch.OutOfMemoryError("CUDA out of memory.")

    add(app, "do", command)
    result = CliRunner().invoke(app, ["--cache", "c", "--run", "r"])
    assert result.exit_code == 1
    assert "try a smaller --batch-size or another GPU with --device cuda:N or --device cpu" in result.stderr


@pytest.mark.parametrize("command", ["extract", "train-head", "finetune", "evaluate", "predict", "sample", "download"])
def test_every_command_has_its_help(command: str) -> None:
    result = CliRunner().invoke(whole, [command, "--help"])
    assert result.exit_code == 0 and "--debug" in result.stdout
