"""What people see of a run: one line at a time, a progress bar on a terminal, errors without a traceback."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from har_cache.errors import HarCacheError

if TYPE_CHECKING:
    from tqdm import tqdm

    from har_cache.cache.writer import ClipResult

_LOG_EVERY_S = 10.0
SOME_CLIPS_FAILED = 3
INTERRUPTED = 130

Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout, and nothing else there.")]


def say(text: str) -> None:
    """One line for people, on stderr."""
    typer.echo(text, err=True)


def plural(count: int, noun: str) -> str:
    """`1 clip`, `2 clips`, `3 classes`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}{'es' if noun.endswith('s') else 's'}"


@contextmanager
def friendly(debug: bool) -> Iterator[None]:
    """Errors meant for the user become one line and exit code 1; Ctrl-C becomes exit code 130."""
    try:
        yield
    except HarCacheError as error:
        if debug:
            raise
        say(f"Error: {error}")
        raise typer.Exit(1) from error
    except KeyboardInterrupt:
        say("Interrupted. What was finished is kept; run the same command again to go on.")
        raise typer.Exit(INTERRUPTED) from None


@contextmanager
def resumable(progress: "Bar", run: Path) -> Iterator[None]:
    """A training under way: its bar is taken away at the end, and Ctrl-C says how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        progress.close()
        say(f"Interrupted. {run} keeps its best and its last epoch; go on with the same command and --resume.")
        raise typer.Exit(INTERRUPTED) from None
    finally:
        progress.close()


class Bar:
    """What the listeners of all commands share: a bar on a terminal; elsewhere none, and a log line now and then."""

    def __init__(self) -> None:
        self._bar: tqdm | None = None
        self._logged = time.monotonic()

    def say(self, text: str) -> None:
        """One line, above the bar."""
        if self._bar is not None:
            self._bar.write(text, file=sys.stderr)
        else:
            say(text)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _open(self, **options: Any) -> None:
        if sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(**options, dynamic_ncols=True, file=sys.stderr)

    def _due(self) -> bool:
        """Whether it is time for another log line."""
        due = time.monotonic() - self._logged > _LOG_EVERY_S
        self._logged = time.monotonic() if due else self._logged
        return due


class Progress(Bar):
    """An extraction's listener: a bar on a terminal, a log line now and then elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self._total = self._clips = self._frames = self._failures = 0
        self._started = 0.0

    def begin(self, clips: int) -> None:
        """Start counting."""
        self._total = clips
        self._started = self._logged = time.monotonic()
        self._open(total=clips, unit="clip", desc="Extracting")

    def clip(self, result: "ClipResult") -> None:
        """Count one clip."""
        self._clips += 1
        self._frames += 0 if result.embeddings is None else result.embeddings.shape[1]
        if result.embeddings is None:
            self._failures += 1
            self.say(f"Failed: {result.key}: {result.reason}")
        if self._bar is not None:
            self._bar.set_postfix_str(self._rate(), refresh=False)
            self._bar.update()
        elif self._due():
            left = (self._logged - self._started) / self._clips * (self._total - self._clips)
            say(f"{self._clips} of {self._total} clips, {self._rate()}, {left:.0f} s left")

    def _rate(self) -> str:
        seconds = max(time.monotonic() - self._started, 1e-9)
        failed = f", {self._failures} failed" if self._failures else ""
        return f"{self._frames / seconds:.0f} frames/s{failed}"
