"""Shard tasks on several devices: a process each, with decoders of its own, does shards as `gpu` does them on one.

A process asks for a shard when it has room for one, and hands back each clip that is done: a fast device does more of
them. Batches begin anew with each shard, so that its bytes do not depend on which device makes it.
"""

import contextlib
import signal
import sys
import threading
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from ...cache.record import ClipRecord
from ...devices import first_line, use_device
from ...errors import HarCacheError
from ...system import uninterrupted
from ...workers.main_module import without_main_module
from ...workers.pool import dying_with_parent, fork_server, share_fork_server
from ...workers.tasks import Job
from ..shard_tasks import OnClip, ShardResult, ShardTask
from .feed import run_on_device

_PATIENCE_S = 1.0  # with a process that is told to end: its device may not answer


@dataclass(frozen=True)
class _Ask:
    """A process has room for another shard: it waits for a ShardTask, or None where there is no more."""


@dataclass(frozen=True)
class _ShardDone:
    """A shard whose clips have all been handed back: their keys, in its order."""

    index: int
    keys: tuple[str, ...]


@dataclass(frozen=True)
class _Failed:
    """A process has ended with an error, of this text."""

    text: str


def run_on_devices(
    tasks: Iterable[ShardTask], job: Job, devices: list[str], workers: int, on_clip: OnClip
) -> Generator[ShardResult, None, None]:
    """Do the tasks on these devices, with `workers` decoding processes over all, at least one each; yield each shard
    when done, in no order. Raises HarCacheError, which names the device, where one of them fails or its process dies.
    """
    if len(devices) == 1:
        yield from run_on_device(tasks, job, devices[0], workers, on_clip)
        return
    left = iter(tasks)
    running: dict[Connection, _Device] = {}
    try:
        for device, share in zip(devices, _shares(workers, len(devices)), strict=True):
            with uninterrupted():  # else one could be started that nobody ends
                process = _Device(device, job, share, len(devices))
                running[process.pipe] = process
        while running:
            for pipe in wait(list(running)):
                assert isinstance(pipe, Connection)
                yield from _handle(running, pipe, left, on_clip)
    finally:
        for process in running.values():
            process.end()
        for process in running.values():
            process.join(_PATIENCE_S)


def _shares(workers: int, count: int) -> list[int]:
    return [max(1, workers // count + (i < workers % count)) for i in range(count)]


def _handle(
    running: "dict[Connection, _Device]", pipe: Connection, left: Iterator[ShardTask], on_clip: OnClip
) -> Iterator[ShardResult]:
    """Do what one message of a device's process asks for; yield the shard that it completes."""
    process = running[pipe]
    message = process.receive()
    if message is None:
        running.pop(pipe)
        process.join()
    elif isinstance(message, _Ask):
        process.give(next(left, None))
    elif isinstance(message, ClipRecord):
        process.clips[message.key] = message
        on_clip(message)
    elif isinstance(message, _ShardDone):
        yield ShardResult(message.index, tuple(process.clips.pop(key) for key in message.keys))
    else:
        raise HarCacheError(f"{process.device}: {message.text}; what was finished is kept")


class _Device:
    """The process of one device, and the pipe to it. `clips`: those that it has done, of shards that are not."""

    def __init__(self, device: str, job: Job, workers: int, devices: int) -> None:
        context = fork_server()
        self.device, self.clips = device, dict[str, ClipRecord]()
        self.pipe, theirs = context.Pipe()
        self._lifeline, watched = context.Pipe()  # nothing is ever sent: its end tells the process that this one ended
        # No daemon: those have no children.
        self._process: BaseProcess = context.Process(
            target=_serve, args=(theirs, watched, device, job, workers, devices)
        )
        with without_main_module():
            self._process.start()
        theirs.close()
        watched.close()

    def receive(self) -> Any:
        """The next message, None where it has ended as it should. Raises HarCacheError where it has died."""
        try:
            return self.pipe.recv()
        except (EOFError, OSError):
            self._process.join()
            status = self._process.exitcode or 0
            raise HarCacheError(
                f"{self.device}: the process that computes on it {_died(status)}; what was finished is kept: run again "
                "to go on"
            ) from None

    def give(self, task: ShardTask | None) -> None:
        """Answer what it asked for. Where it has died meanwhile, the next message tells."""
        try:
            self.pipe.send(task)
        except OSError:
            return

    def end(self) -> None:
        """Have it end its decoders, and itself."""
        self._process.terminate()

    def join(self, patience_s: float | None = None) -> None:
        """Wait for its end, which comes after `patience_s` at the latest; its decoders then end with it."""
        self._process.join(patience_s)
        self._process.kill()
        self._process.join()
        self.pipe.close()
        self._lifeline.close()


def _died(status: int) -> str:
    if status < 0:
        return f"was ended by {signal.Signals(-status).name}"
    return f"ended with status {status}"


def _serve(pipe: Connection, lifeline: Connection, device: str, job: Job, workers: int, devices: int) -> None:
    """Life of a device's process: shards from the pipe, what comes of them back into it, None in the end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # by way of the pool, whose processes end without a word
    share_fork_server()
    sending = threading.Lock()

    def send(message: Any) -> None:
        with sending:
            pipe.send(message)

    def asked_for() -> Iterator[ShardTask]:
        while True:
            send(_Ask())
            task = pipe.recv()
            if task is None:
                return
            yield task

    with dying_with_parent(lifeline), contextlib.suppress(BrokenPipeError, ConnectionResetError):
        if lifeline.poll():  # it was closed before the kernel was told to watch it
            return
        try:
            if device != "cpu":
                use_device(device)
            for shard in run_on_device(asked_for(), job, device, workers, send, devices):
                send(_ShardDone(shard.index, tuple(clip.key for clip in shard.results)))
        except HarCacheError as error:
            send(_Failed(str(error)))
        except Exception as error:
            send(_Failed(f"{type(error).__name__}: {first_line(error)}"))
        else:
            send(None)
