"""When the figures of a run were made, how long that took and on what machine: history.json, which decides on nothing.

The other files of a run have no times in them, so that the same command leaves the same bytes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from .. import system
from ..errors import FileError, RunError
from .files import read_sealed_json, seal, write_file
from .parsing import parse, to_json_types

HISTORY = "history.json"
TRAINED = "trained"
_SCHEMA = "har-history/1"


@dataclass(frozen=True)
class Event:
    """What was finished at a time, UTC as `2026-01-31 09:05`, after so many seconds, on a machine of so many cores;
    `gpu`: that which computed, if one did.
    """

    at: str
    seconds: float
    cpu: str
    cores: int
    gpu: str | None = None


@dataclass(frozen=True)
class _History:
    events: Mapping[str, Event]


def evaluated_on(split: int) -> str:
    """What an evaluation on the test list of a split is called."""
    return f"evaluated on split {split}"


def add_event(run: Path, name: str, seconds: float, gpu: str | None = None) -> None:
    """Keep that something has just been finished in this directory, after so many seconds. Raises HarCacheError."""
    at = datetime.now(UTC).strftime("%Y-%m-%d %H:%M")
    event = Event(at, round(seconds, 1), system.cpu_name(), system.cores(), gpu)
    events = {**read_history(run), name: event}
    write_file(run / HISTORY, seal({"schema": _SCHEMA, "events": to_json_types(events)}, in_order=True))


def read_history(run: Path) -> Mapping[str, Event]:
    """What was finished in this directory, by name; nothing where an earlier version did it. Raises RunError where the
    file is damaged.
    """
    file = run / HISTORY
    if not file.exists():
        return {}
    try:
        return parse(_History, read_sealed_json(file, ""), file, error=RunError).events
    except (FileError, RunError) as error:
        raise RunError(f"{error}; remove it: no figure rests on it") from error
