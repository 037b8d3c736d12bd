"""What a script or a notebook is shown while a stage is at work: a bar of tqdm, and lines beside it."""

import multiprocessing
import sys
import warnings
from contextlib import nullcontext
from typing import Any

from ..errors import HarCacheWarning
from ..progress import Progress
from ..texts import printable

_WARNING = "WARNING: "
_LOG_EVERY_S = 10.0  # where nobody watches a bar
_PACKAGE = "har_cache"


def listener(progress: bool | Progress) -> Progress:
    """True: a bar and lines, in this program's own process; False: warnings alone; a listener: itself."""
    if isinstance(progress, Progress):
        return progress
    return ProgressBar() if progress and multiprocessing.parent_process() is None else WarningsOnly()


class WarningsOnly(Progress):
    """Passes warnings on to Python's `warnings`, as HarCacheWarning, which shows each once for a line that calls, and
    lets them be filtered.
    """

    def say(self, text: str) -> None:
        """Warn, where that is a warning."""
        if text.startswith(_WARNING):
            warnings.warn(printable(text.removeprefix(_WARNING)), HarCacheWarning, stacklevel=_levels())


class ProgressBar(WarningsOnly):
    """A bar of tqdm, as a terminal or a notebook has it, and lines on stderr."""

    def __init__(self) -> None:
        self._bar: Any = None

    def say(self, text: str) -> None:
        """One line above the bar, or a warning."""
        with self._bar.external_write_mode(file=sys.stderr) if self._bar is not None else nullcontext():
            if text.startswith(_WARNING):
                super().say(text)
            else:
                print(printable(text), file=sys.stderr, flush=True)

    def begin(self, what: str, unit: str, total: int | None, done: int = 0) -> None:
        """Start counting."""
        from tqdm.auto import tqdm

        self.close()
        watched = sys.stderr.isatty() or "IPython" in sys.modules
        in_bytes = {"unit_scale": True, "unit_divisor": 1024} if unit == "B" else {}
        pace = {} if watched else {"mininterval": _LOG_EVERY_S}
        self._bar = tqdm(total=total, desc=printable(what), initial=done, unit=unit, **in_bytes, **pace)

    def advance(self, count: int = 1, note: str = "") -> None:
        """Count on."""
        if self._bar is not None:
            if note:
                self._bar.set_postfix_str(printable(note), refresh=False)
            self._bar.update(count)

    def close(self) -> None:
        """End the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _levels() -> int:
    """How far up the stack whoever called this package is, as `warnings` counts from the caller of this function."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back and str(frame.f_globals.get("__name__")).partition(".")[0] == _PACKAGE:
        level, frame = level + 1, frame.f_back
    return level
