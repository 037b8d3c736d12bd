"""Frames that a training samples, decoded by worker processes ahead of their use, and handed over in shared memory."""

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..encoder.transform import RESIZE
from ..errors import ClipError
from .pool import WorkerPool
from .ring import Ring
from .tasks import Job, pick

Request = tuple[Path, Sequence[int]]  # a clip, and the numbers of its frames, ascending


@dataclass
class LoaderStats:
    """Where time went: `waited_s` of the reader, for frames; `busy_s` of all workers, decoding `clips` clips."""

    waited_s: float = 0.0
    busy_s: float = 0.0
    clips: int = 0


class FramePrefetcher:
    """A pool of worker processes that decode sampled frames, at most `ahead` clips before they are asked for.

    `frames`: the most that are taken from a clip. A context manager. One iteration of `read` at a time.
    """

    def __init__(self, frames: int, workers: int, ahead: int, stall_s: float = 60.0) -> None:
        self.workers = workers
        self._frames, self._ahead, self._stall_s = frames, ahead, stall_s
        self._stack = ExitStack()

    def __enter__(self) -> "FramePrefetcher":
        size = self._frames * RESIZE * RESIZE * 3
        self._rings = [self._stack.enter_context(Ring.create(size)) for _ in range(self._ahead)]
        job = Job("pyav", stall_s=self._stall_s, rings=tuple(ring.name for ring in self._rings))
        self._pool = self._stack.enter_context(WorkerPool(job, self.workers))
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def read(self, requests: Iterable[Request], stats: LoaderStats) -> Iterator[np.ndarray | ClipError]:
        """Yield what each request gave, in their order: uint8 (n, 256, 256, 3), or why it gave nothing.

        The frames are good until the next ones are asked for.
        """
        free = list(self._rings)
        running: deque[_Call] = deque()
        source = iter(requests)
        try:
            while True:
                while free and (request := next(source, None)) is not None:
                    ring = free.pop()
                    ring.reset()
                    running.append(_Call(request, ring, self._pool.submit(pick, *request, ring.name)))
                if not running:
                    return
                yield self._result(running[0], stats)
                free.append(running.popleft().ring)
        finally:  # nobody may write into a ring that the next iteration gives to another clip
            for call in running:
                call.future.cancel()
            for call in running:
                if not call.future.cancelled():
                    self._pool.outcome(call.future)

    def _result(self, call: "_Call", stats: LoaderStats) -> np.ndarray | ClipError:
        begun = time.perf_counter()
        outcome = self._pool.outcome(call.future)
        stats.waited_s += time.perf_counter() - begun
        stats.clips += 1
        if isinstance(outcome, ClipError):
            return outcome
        stats.busy_s += outcome
        return call.ring.read(len(call.request[1]))


@dataclass(frozen=True)
class _Call:
    """A request that is worked off, and where its frames come."""

    request: Request
    ring: Ring
    future: "Future[float]"
