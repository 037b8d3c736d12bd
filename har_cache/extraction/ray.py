"""Shard tasks on a Ray cluster: actors on its nodes decode and encode, this process gathers what they give.

Each actor hands its clips to one worker process of its own: a clip that crashes, hangs or bloats its decoder costs what
it costs on one machine. The nodes only read clips, at the same paths as here; they write nothing.
"""

import logging
import os
import platform
import socket
from collections import Counter, deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import system
from ..cache.record import ClipRecord
from ..errors import ClipError, HarCacheError
from ..system import uninterrupted
from ..workers.pool import STRIKES, WorkerKilledError, WorkerPool
from ..workers.tasks import Job, embed
from .shard_tasks import OnClip, Place, ShardResult, ShardTask, calls, gather

try:
    with uninterrupted():
        import ray
except ImportError as error:
    raise HarCacheError("--executor ray needs ray: pip install ray") from error

# These decide, with the recipe, on every bit.
_SAME = ("har-cache", "torch", "torchvision", "onnxruntime", "av", "decord", "numpy", "pillow", "timm")
_CONNECT_S = 10.0

_Call = tuple[Place, str, Path]  # a clip to be embedded: its place, key and file


def run_on_cluster(
    tasks: Iterable[ShardTask], job: Job, workers: int | None, on_clip: OnClip
) -> Generator[ShardResult, None, None]:
    """Do the tasks on `workers` CPUs of the cluster, by default all; yield each shard when the last clip is done.

    The cluster is the one that this process is connected to, else that of RAY_ADDRESS, else one started on this
    machine for the time of the run. Raises HarCacheError: no cluster, or one that would not give the same embeddings.
    """
    tasks = [task for task in tasks if task.clips]
    with _connected(workers):
        cpus = workers or int(ray.cluster_resources().get("CPU", 0))
        if cpus < 1:
            raise HarCacheError("--executor ray: the cluster has no CPUs; start its nodes with some")
        with _Actors(job, min(cpus, sum(len(task.clips) for task in tasks)), _folders(tasks)) as actors:
            yield from gather(actors.run(calls(tasks)), on_clip)


@contextmanager
def _connected(workers: int | None) -> Iterator[None]:
    if ray.is_initialized():  # by a program that goes on afterwards
        yield
        return
    address = os.environ.get("RAY_ADDRESS") or "local"
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    own: dict[str, Any] = {}
    if address == "local":
        own = {"num_cpus": workers or system.default_workers(), "include_dashboard": False}
    try:
        try:
            _try_to_connect(address)
            with uninterrupted():
                ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **own)
        except Exception as error:  # what ray raises here is of any class
            raise HarCacheError(f"--executor ray: no cluster at {address}: {_line(error)}; see RAY_ADDRESS") from error
        yield
    finally:
        ray.shutdown()


def _try_to_connect(address: str) -> None:
    """Raise OSError where nobody listens at host:port or ray://host:port: ray itself would try for minutes."""
    host, colon, port = address.rpartition("/")[2].rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_S).close()


class _Node:
    """Actor: embeds clips, wherever it happens to be."""

    def __init__(self, job: Job) -> None:
        self._workers = WorkerPool(job, 1)

    def objection(self, versions: dict[str, str], folders: tuple[Path, ...]) -> str:
        """Differences here that keep it from giving the same embeddings as all others; empty if nothing."""
        here = platform.node()
        if other := sorted(versions.items() ^ system.versions(_SAME).items()):
            name = other[0][0]
            found = system.versions([name]).get(name, "none")
            return f"node {here} has {name} {found}, this machine has {versions.get(name, 'none')}"
        unseen = [folder for folder in folders if not folder.is_dir()]
        return f"node {here} does not see {unseen[0]}: --data must be shared by all nodes" if unseen else ""

    def embed(self, key: str, path: Path) -> ClipRecord | ClipError:
        """The clip's embeddings, or why there are none. The strikes of its decoder are counted here."""
        [(_, outcome)] = self._workers.run(embed, [(None, (key, path))])
        return outcome


class _Actors:
    """Up to `count` actors of one CPU each; a context manager. Where the cluster is busy, some of them come later."""

    def __init__(self, job: Job, count: int, folders: tuple[Path, ...]) -> None:
        self._job = ray.put(job)
        self._terms = system.versions(_SAME), folders
        self._running: dict[Any, tuple[Any, _Call | None]] = {}  # by reference to what is to come; None: it starts
        for _ in range(count):
            self._start()

    def run(self, calls: Iterable[tuple[Place, tuple[str, Path]]]) -> Iterator[tuple[Place, ClipRecord | ClipError]]:
        """Embed the clips; yield each with its place as it is done. One whose actor is lost is tried once more.

        A clip is given to an actor that is there and free: it never waits for one that the cluster has no room for.
        """
        waiting = deque((place, key, path.absolute()) for place, (key, path) in calls)
        lost: Counter[str] = Counter()  # actors, by the clip that they were lost over
        while waiting or any(call for _, call in self._running.values()):
            [ref], _ = ray.wait(list(self._running))
            actor, call = self._running.pop(ref)
            if call is None:
                _check(ref)
                self._give(actor, waiting)
                continue
            place, key, _ = call
            outcome = _outcome(ref)
            if outcome is not None:
                self._give(actor, waiting)
                yield place, outcome
                continue
            ray.kill(actor)
            self._start()
            lost[key] += 1
            if lost[key] < STRIKES:
                waiting.appendleft(call)
            else:
                yield place, WorkerKilledError("the node that decodes it is lost (tried twice)")

    def _give(self, actor: Any, waiting: deque[_Call]) -> None:
        """Have the actor do the next clip. Where there is none it goes, and its CPU is free for others."""
        if waiting:
            call = waiting.popleft()
            self._running[actor.embed.remote(*call[1:])] = actor, call

    def _start(self) -> None:
        actor = ray.remote(num_cpus=1)(_Node).remote(self._job)
        self._running[actor.objection.remote(*self._terms)] = actor, None

    def __enter__(self) -> "_Actors":
        return self

    def __exit__(self, *_: object) -> None:
        for actor, _call in self._running.values():
            ray.kill(actor)


def _check(ref: Any) -> None:
    """Raise HarCacheError where an actor has not started, or objects to its node."""
    try:
        objection = ray.get(ref)
    except ray.exceptions.RayError as error:
        raise HarCacheError(f"--executor ray: har-cache does not start on a node: {_line(error)}") from error
    if objection:
        raise HarCacheError(f"--executor ray: {objection}")


def _outcome(ref: Any) -> ClipRecord | ClipError | None:
    """Result of an actor for a clip; None where the actor was lost."""
    try:
        outcome = ray.get(ref)
    except ray.exceptions.RayTaskError as error:
        raise HarCacheError(f"--executor ray: a node failed: {_line(error)}") from error
    except ray.exceptions.RayError:
        return None
    if isinstance(outcome, ClipError):
        return outcome
    assert outcome.embeddings is not None and outcome.times is not None
    # Out of ray's object store, whose memory goes with the cluster.
    return replace(outcome, embeddings=outcome.embeddings.copy(), times=outcome.times.copy())


def _folders(tasks: Iterable[ShardTask]) -> tuple[Path, ...]:
    """Where the clips are, as far as this machine sees it."""
    folders = {path.absolute().parent for task in tasks for _, path in task.clips}
    return tuple(sorted(folder for folder in folders if folder.is_dir()))


def _line(error: Exception) -> str:
    """Last line of an error of ray's: the cause, where there is one, after the traceback."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__
