"""Shard tasks on this machine: one process a core decodes and encodes; or processes decode, and a GPU encodes."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .. import system
from ..cache.writer import ClipResult
from ..errors import ClipError
from ..workers.pool import Workers
from ..workers.tasks import Embedded, Job, embed, source_sha256


@dataclass(frozen=True)
class ShardTask:
    """One shard to make: its clips (key, file) in order."""

    index: int
    clips: tuple[tuple[str, Path], ...]


@dataclass(frozen=True)
class ShardResult:
    """One shard's clips, done: a result for each, in the task's order."""

    index: int
    results: tuple[ClipResult, ...]


# Told of each clip: its result, and the seconds it took by stage.
OnClip = Callable[[ClipResult, dict[str, float]], None]

# A clip by its task, and its number in there.
Place = tuple[ShardTask, int]


def run(
    tasks: Iterable[ShardTask], job: Job, device: str, workers: int | None, on_clip: OnClip
) -> Iterator[ShardResult]:
    """Do the tasks with `workers` processes, by default one a core; yield each shard when its last clip is done."""
    workers = workers or system.default_workers()
    if device == "cpu":
        with Workers(job, workers) as pool:
            yield from gather(pool.run(embed, calls(tasks)), on_clip)
    else:
        from .gpu import run_on_device

        yield from run_on_device(tasks, job, device, workers, on_clip)


def calls(tasks: Iterable[ShardTask]) -> Iterator[tuple[Place, tuple[Path]]]:
    """The clips of the tasks, each with its place and `embed`'s arguments, as they are best worked off."""
    for task in tasks:
        # The largest files first: the last clip of a run should be a short one.
        for place in sorted(range(len(task.clips)), key=lambda i: -_size(task.clips[i][1])):
            yield (task, place), (task.clips[place][1],)


def gather(outcomes: Iterable[tuple[Place, Embedded | ClipError]], on_clip: OnClip) -> Iterator[ShardResult]:
    """Tell `on_clip` of each outcome; yield each shard when it has one for all of its clips."""
    results: dict[int, dict[int, ClipResult]] = {}
    for (task, place), outcome in outcomes:
        result = to_result(task.clips[place], outcome)
        on_clip(result, outcome.seconds if isinstance(outcome, Embedded) else {})
        done = results.setdefault(task.index, {})
        done[place] = result
        if len(done) == len(task.clips):
            yield ShardResult(task.index, tuple(done[i] for i in range(len(done))))
            del results[task.index]


def to_result(clip: tuple[str, Path], outcome: Embedded | ClipError) -> ClipResult:
    """The clip's result from what its worker gave."""
    key, path = clip
    if isinstance(outcome, ClipError):
        return ClipResult(key, source_sha256=source_sha256(path), reason=str(outcome))
    return ClipResult(key, outcome.embeddings, outcome.fps, outcome.declared_frames, outcome.source_sha256)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
