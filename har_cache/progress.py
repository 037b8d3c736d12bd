"""The listener of all stages: told how a piece of work goes on."""

from collections.abc import Iterator
from contextlib import contextmanager


class Progress:
    """Told how a piece of work goes on. This one does nothing, and is what every stage has by default; the command
    line's shows a bar.
    """

    def say(self, text: str) -> None:
        """Tell the user one line."""

    def begin(self, what: str, unit: str, total: int | None, done: int = 0) -> None:
        """Start counting: `total` of `unit` (`clip`, `step`, `B` for bytes; None if unknown), `done` of them before."""

    def advance(self, count: int = 1, note: str = "") -> None:
        """Count on. `note` is what stands beside the bar from now on; an empty one changes nothing."""

    def close(self) -> None:
        """End what was begun."""

    @contextmanager
    def task(self, what: str, unit: str, total: int | None, done: int = 0) -> Iterator[None]:
        """`begin` and, whatever happens, `close`."""
        self.begin(what, unit, total, done)
        try:
            yield
        finally:
            self.close()
