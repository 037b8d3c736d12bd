"""Output of a command: results on stdout; for people, one line at a time on stderr, a progress bar on a terminal,
errors without a traceback.

Names from disk do nothing to a terminal: what could is escaped. A closed stream is as /dev/null. What people would be
told on stderr is given up where nobody can be told; results that cannot be written end the command with an error.
"""

import errno
import json
import math
import os
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from har_cache.errors import HarCacheError, SettingError
from har_cache.progress import Progress
from har_cache.storage.parsing import to_json_types
from har_cache.texts import printable, utf8

from .faults import gpu_fault, thread_fault
from .streams import given_up, silence, write

if TYPE_CHECKING:
    from tqdm import tqdm

_HOMELESS = "the current directory is gone: change to another one"
_LOG_EVERY_S = 10.0
_LOUD = ("WARNING", "Failed", "Skipped", "Error", "Interrupted")  # what is told with --quiet too
FAILED, WRONG_USAGE, SOME_FAILED, INTERRUPTED = 1, 2, 3, 130

_hushed = False  # of this process: a command, once it runs, is --quiet or is not


@contextmanager
def hushed(quiet: bool) -> Iterator[None]:
    """Within, if `quiet`, people are told of no progress: no more than the result, warnings and errors."""
    global _hushed
    before, _hushed = _hushed, quiet
    try:
        yield
    finally:
        _hushed = before


def say(text: str) -> None:
    """One line for people, on stderr; given up where that cannot be written: the work counts, and goes on."""
    if _hushed and not text.startswith(_LOUD):
        return
    with given_up():
        write(sys.stderr, printable(text))


def echo(text: str) -> None:
    """A result for people, on stdout: a text that may have several lines. Exits where it cannot be written."""
    _result(printable(text, line_breaks=True))


def print_json(content: Any) -> None:
    """One JSON object on stdout; of a dataclass, its fields. Strictly JSON in UTF-8: a byte of a name that is not UTF-8
    stands as the four characters `\\xff`, a number that is none as null. Exits where it cannot be written.
    """
    _result(json.dumps(_strict(to_json_types(content)), indent=2, allow_nan=False))


def _strict(content: Any) -> Any:
    if isinstance(content, str | Path):
        return utf8(str(content))
    if isinstance(content, dict):
        return {utf8(key) if isinstance(key, str) else key: _strict(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_strict(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def _result(text: str) -> None:
    try:
        write(sys.stdout, text)
    except OSError as error:
        _not_printed(error)
        raise typer.Exit(FAILED) from error


@contextmanager
def printing() -> Iterator[None]:
    """Exits, as `echo` does, where the command line's own texts cannot be written, as those of `--help`."""
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno not in (errno.ENOSPC, errno.EPIPE, errno.EIO):
            raise
        _not_printed(error)
        sys.exit(FAILED)


def _not_printed(error: OSError) -> None:
    silence(sys.stdout)
    if error.errno != errno.EPIPE:  # else whoever reads has seen enough
        say(f"Error: the result cannot be printed: {error.strerror}")


def plural(count: int, noun: str) -> str:
    """`1 clip`, `2 clips`, `3 classes`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}{'es' if noun.endswith('s') else 's'}"


@contextmanager
def friendly(debug: bool, flags: Collection[str] = ()) -> Iterator[None]:
    """Errors meant for the user, and those of a GPU, become one line and an exit code; Ctrl-C becomes exit code 130.
    `flags`: the command's options, of which some may help.
    """
    try:
        if _is_homeless():  # else MKL, within torch, ends the process with a riddle
            raise HarCacheError(_HOMELESS)
        yield
    except HarCacheError as error:
        if debug:
            raise
        say(f"Error: {error}")
        raise typer.Exit(WRONG_USAGE if isinstance(error, SettingError) else FAILED) from error
    except KeyboardInterrupt:
        say("Interrupted. What was finished is kept; run the same command again to go on.")
        raise typer.Exit(INTERRUPTED) from None
    except FileNotFoundError:
        if debug or not _is_homeless():
            raise
        say(f"Error: {_HOMELESS}")
        raise typer.Exit(FAILED) from None
    except MemoryError as error:
        if debug:
            raise
        say("Error: there is not enough memory (`ulimit -v` may bound it); --debug shows where")
        raise typer.Exit(FAILED) from error
    except RuntimeError as error:
        if debug or not (fault := thread_fault(error) or gpu_fault(error, flags)):
            raise
        say(f"Error: {fault}")
        raise typer.Exit(FAILED) from error


def _is_homeless() -> bool:
    try:
        os.getcwd()  # noqa: PTH109
    except FileNotFoundError:
        return True
    return False


@contextmanager
def resumable(run: Path) -> Iterator[None]:
    """Ctrl-C says how to go on with a training."""
    try:
        yield
    except KeyboardInterrupt:
        say(f"Interrupted. {run} keeps its best and its last epoch; go on with the same command and --resume.")
        raise typer.Exit(INTERRUPTED) from None


class Bar(Progress):
    """A bar on a terminal; elsewhere none, and a log line now and then."""

    def __init__(self) -> None:
        self._bar: tqdm | None = None
        self._what = self._unit = self._note = ""
        self._total: int | None = None
        self._before = self._done = 0
        self._started = self._logged = 0.0

    def say(self, text: str) -> None:
        """One line, above the bar."""
        if self._bar is not None:
            with given_up():
                self._bar.write(printable(text), file=sys.stderr)
        else:
            say(text)

    def begin(self, what: str, unit: str, total: int | None, done: int = 0) -> None:
        """Start counting."""
        self._what, self._unit, self._total, self._before, self._note = what, unit, total, done, ""
        self._done = done
        self._started = self._logged = time.monotonic()
        if sys.stderr.isatty() and not _hushed:
            from tqdm import tqdm

            in_bytes = {"unit_scale": True, "unit_divisor": 1024} if unit == "B" else {}
            kept = {"initial": done, "unit": unit, "dynamic_ncols": True, "file": sys.stderr}
            with given_up():
                self._bar = tqdm(total=total, desc=printable(what), **kept, **in_bytes)

    def advance(self, count: int = 1, note: str = "") -> None:
        """Count on."""
        self._done += count
        self._note = note or self._note
        if self._bar is not None:
            with given_up():
                if note:
                    self._bar.set_postfix_str(printable(note), refresh=False)
                self._bar.update(count)
        elif (now := time.monotonic()) - self._logged > _LOG_EVERY_S:
            self._logged = now
            say(f"{self._what}: {', '.join(filter(None, [self._so_far(), self._note, self._left(now)]))}")

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            with given_up():
                self._bar.close()
            self._bar = None

    def _so_far(self) -> str:
        if self._unit == "B":
            total = f" of {self._total / 2**20:.1f}" if self._total else ""
            return f"{self._done / 2**20:.1f}{total} MiB"
        return f"{self._done} of {plural(self._total, self._unit)}" if self._total else f"{self._done} {self._unit}s"

    def _left(self, now: float) -> str:
        new = self._done - self._before
        if not (self._total and new):
            return ""
        return f"{(now - self._started) / new * (self._total - self._done):.0f} s left"
