"""Bars, log lines and exit codes."""

import sys

import pytest
import typer
from har_cache_cli import console

from har_cache.errors import HarCacheError, SettingError


@pytest.mark.parametrize(
    ("error", "code"),
    [(HarCacheError("x"), 1), (SettingError("x"), 2), (KeyboardInterrupt(), 130)],
)
def test_errors_become_a_line_and_a_code(error: BaseException, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as caught, console.friendly(debug=False):
        raise error
    assert caught.value.exit_code == code and capsys.readouterr().err.count("\n") == 1


def test_without_a_terminal_there_is_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console, "_LOG_EVERY_S", -1)
    bar = console.Bar()
    with bar.task("Drawing", "clip", 4, 1):
        bar.advance()
        bar.advance(1, "fast")
        bar.say("a line")
        bar.advance()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("Drawing: 2 of 4 clips, ") and lines[0].endswith(" s left")
    assert lines[1].startswith("Drawing: 3 of 4 clips, fast, ")
    assert lines[2] == "a line" and lines[3].startswith("Drawing: 4 of 4 clips, fast, 0 s left")


def test_bytes_and_unknown_totals(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(console, "_LOG_EVERY_S", -1)
    bar = console.Bar()
    with bar.task("x.rar", "B", None):
        bar.advance(3 << 20)
    with bar.task("x.rar", "B", 6 << 20):
        bar.advance(3 << 20)
    first, second = capsys.readouterr().err.splitlines()
    assert first == "x.rar: 3.0 MiB" and second.startswith("x.rar: 3.0 of 6.0 MiB, ")


def test_a_bar_on_a_terminal_ends_whatever_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    bar = console.Bar()
    with pytest.raises(ValueError, match="broken"), bar.task("Drawing", "clip", 4):
        bar.advance(2, "fast")
        assert bar._bar is not None and bar._bar.n == 2
        raise ValueError("broken")
    assert bar._bar is None


def test_progress_on_a_terminal_is_a_bar_and_lines_elsewhere(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console, "_LOG_EVERY_S", -1)
    progress = console.Bar()
    progress.begin("x.rar", "B", 4 << 20, 1 << 20)
    progress.advance(1 << 20)
    progress.begin("x.rar", "B", None, 0)
    progress.advance(1 << 19)
    progress.begin("Unpacking", "file", 15, 0)
    progress.advance(1)
    progress.close()
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["x.rar: 2.0 of 4.0 MiB, 0 s left", "x.rar: 0.5 MiB", "Unpacking: 1 of 15 files, 0 s left"]
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    progress.begin("x.rar", "B", 4 << 20, 1 << 20)
    progress.advance(3 << 20)
    progress.say("a line")
    progress.close()
    text = capsys.readouterr().err
    assert "100%" in text and "4.00M/4.00M" in text and "a line\n" in text


def test_counts_have_their_plural() -> None:
    assert [console.plural(n, noun) for n, noun in ((1, "clip"), (2, "clip"), (3, "class"))] == [
        "1 clip",
        "2 clips",
        "3 classes",
    ]
