"""Ways to run the shard tasks of stage one."""

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from ..errors import HarCacheError

if TYPE_CHECKING:  # a server of processes is started from this package before torch is imported
    from ..workers.tasks import Job
    from .shards import OnClip, ShardResult, ShardTask

    # (tasks, job, device, workers or None for as many as there are CPUs, on_clip) -> each shard, when it is done
    Run = Callable[[Iterable[ShardTask], Job, str, int | None, OnClip], Iterator[ShardResult]]

EXECUTORS = ("local", "ray")


def find(name: str) -> "Run":
    """The executor of that name. Raises HarCacheError where there is none, or ray is not installed."""
    if name == "local":
        from .shards import run
    elif name == "ray":
        from .ray import run
    else:
        raise HarCacheError(f"--executor {name}: expected one of {', '.join(EXECUTORS)}")
    return run
