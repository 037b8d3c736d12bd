"""Shard tasks: what is to be embedded for a shard, and what came of it."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..cache.record import ClipRecord, source_sha256
from ..errors import ClipError
from ..workers.pool import WorkerKilledError


@dataclass(frozen=True)
class ShardTask:
    """One shard to make: its clips (key, file) in order."""

    index: int
    clips: tuple[tuple[str, Path], ...]


@dataclass(frozen=True)
class ShardResult:
    """One shard's clips, done: a record each, in the task's order."""

    index: int
    results: tuple[ClipRecord, ...]


OnClip = Callable[[ClipRecord], None]  # called for each clip that is done

# A clip by its task, and its number in there.
Place = tuple[ShardTask, int]


def calls(tasks: Iterable[ShardTask]) -> Iterator[tuple[Place, tuple[str, Path]]]:
    """The clips of the tasks, each with its place and `embed`'s arguments, as they are best worked off."""
    for task in tasks:
        # The largest files first: the last clip of a run should be a short one.
        for place in sorted(range(len(task.clips)), key=lambda i: -_size(task.clips[i][1])):
            yield (task, place), task.clips[place]


def gather(outcomes: Iterable[tuple[Place, ClipRecord | ClipError]], on_clip: OnClip) -> Iterator[ShardResult]:
    """Call `on_clip` for each outcome; yield each shard when it has one for all of its clips."""
    results: dict[int, dict[int, ClipRecord]] = {}
    for (task, place), outcome in outcomes:
        result = to_record(task.clips[place], outcome)
        on_clip(result)
        done = results.setdefault(task.index, {})
        done[place] = result
        if len(done) == len(task.clips):
            yield ShardResult(task.index, tuple(done[i] for i in range(len(done))))
            del results[task.index]


def to_record(clip: tuple[str, Path], outcome: ClipRecord | ClipError) -> ClipRecord:
    """The clip's record from what its worker gave. One whose file is not to blame is of no file: it is tried again."""
    key, path = clip
    if isinstance(outcome, ClipError):
        of_file = "" if isinstance(outcome, WorkerKilledError) else source_sha256(path)
        return ClipRecord(key, source_sha256=of_file, reason=str(outcome) or type(outcome).__name__)
    return outcome


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
