import multiprocessing
import warnings
from pathlib import Path
from unittest.mock import Mock

import pytest

from har_cache.api.listener import ProgressBar, WarningsOnly, listener
from har_cache.errors import HarCacheWarning

from ..helpers.progress import Lines


def test_a_bar_is_shown_by_default_none_if_asked_and_a_listener_is_taken_as_it_is() -> None:
    lines = Lines()
    assert type(listener(True)) is ProgressBar and type(listener(False)) is WarningsOnly and listener(lines) is lines


def test_processes_that_somebody_started_show_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multiprocessing, "parent_process", Mock())
    assert type(listener(True)) is WarningsOnly


def test_a_bar_counts_and_lines_stand_above_it(capsys: pytest.CaptureFixture[str]) -> None:
    bar = listener(True)
    bar.say("Reading\x1b[2J")
    with bar.task("Extracting", "clip", 4, 1):
        bar.advance(2, "7 frames/s")
        bar.say("Failed: a/b.avi")
        bar.advance()
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("Reading\\x1b[2J\n")
    assert "Failed: a/b.avi\n" in err and "100%" in err and "4/4" in err and "7 frames/s" in err


def test_without_a_bar_nothing_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    silent = listener(False)
    silent.say("Reading")
    with silent.task("Extracting", "clip", 4):
        silent.advance()
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("progress", [True, False])
def test_a_warning_is_pythons_at_the_line_that_called_and_shown_once(progress: bool) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        told = listener(progress)
        with told.task("Training", "step", 1):
            for _ in range(2):
                told.say("WARNING: it leaks")
    [warning] = caught
    assert warning.category is HarCacheWarning and str(warning.message) == "it leaks"
    assert Path(warning.filename) == Path(__file__)
