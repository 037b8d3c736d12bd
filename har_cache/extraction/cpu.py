"""Shard tasks on the CPUs of this machine: a process a core decodes and encodes."""

from collections.abc import Generator, Iterable

from ..workers.pool import WorkerPool
from ..workers.tasks import Job, embed
from .shard_tasks import OnClip, ShardResult, ShardTask, calls, gather


def run_on_cpu(
    tasks: Iterable[ShardTask], job: Job, workers: int, on_clip: OnClip
) -> Generator[ShardResult, None, None]:
    """Do the tasks with `workers` processes; yield each shard when its last clip is done."""
    with WorkerPool(job, workers) as pool:
        yield from gather(pool.run(embed, calls(tasks)), on_clip)
