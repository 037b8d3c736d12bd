"""Frames that a training samples, decoded by worker processes ahead of their use, and handed over in shared memory."""

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from ..encoder.transform import DEFAULT, Square, Transform
from ..errors import ClipError
from .pool import WorkerPool
from .ring import Ring
from .tasks import Job, pick

_AS_DECODED = 2  # times the bytes of a square of MNASNet's, where they are more: 240 lines of up to 546 pixels

T = TypeVar("T")
Request = tuple[Path, Sequence[int], Square]  # a clip, the numbers of its frames, ascending, and what becomes of them


@dataclass
class LoaderStats:
    """Where time went: `waited_s` of the reader, for frames; `busy_s` of all workers, decoding `clips` clips."""

    waited_s: float = 0.0
    busy_s: float = 0.0
    clips: int = 0


class FramePrefetcher:
    """A pool of worker processes that decode sampled frames, at most `ahead` requests before they are asked for.

    `frames`: the most that are taken from a clip; `transform`: of the squares that are asked for. With `as_decoded`
    they come in their own size, as far as that is not large, for somebody who resizes them faster than workers do.
    `sampling`: which frames of a clip are counted, as `Sampling.text` has it. A context manager. One iteration of
    `read` at a time.
    """

    def __init__(
        self,
        frames: int,
        workers: int,
        ahead: int,
        stall_s: float = 60.0,
        as_decoded: bool = False,
        sampling: str | None = None,
        transform: Transform = DEFAULT,
    ) -> None:
        self.workers = workers
        self._frames, self._ahead, self._stall_s, self._sampling = frames, ahead, stall_s, sampling
        self._square = _bytes(transform)
        self._most = _AS_DECODED * _bytes(DEFAULT) if as_decoded else 0
        self._stack = ExitStack()

    def __enter__(self) -> "FramePrefetcher":
        size = self._frames * max(self._square, self._most)
        self._rings = [self._stack.enter_context(Ring.create(size)) for _ in range(self._ahead)]
        names = tuple(ring.name for ring in self._rings)
        job = Job("pyav", stall_s=self._stall_s, rings=names, frames=self._sampling)
        self._pool = self._stack.enter_context(WorkerPool(job, self.workers))
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def read(self, requests: Iterable[Request], stats: LoaderStats) -> Iterator[np.ndarray | ClipError]:
        """Yield what each request gave, in their order: uint8 (n, side, side, 3), squares as it says, or (n, height,
        width, 3) of the clip's own size where that may be, or why it gave nothing.

        The frames are good until the next ones are asked for.
        """
        calls = ((len(numbers), (path, numbers, square, self._most)) for path, numbers, square in requests)
        with closing(decode_ahead(self._pool, pick, calls, self._rings)) as decodings:
            for decoding in decodings:
                yield self._result(decoding, stats)

    def _result(self, decoding: "Decoding[int]", stats: LoaderStats) -> np.ndarray | ClipError:
        begun = time.perf_counter()
        outcome = self._pool.outcome(decoding.future)
        stats.waited_s += time.perf_counter() - begun
        stats.clips += 1
        if isinstance(outcome, ClipError):
            return outcome
        stats.busy_s += outcome
        pieces, count = [], 0
        while count < decoding.tag:
            piece = decoding.ring.read(decoding.tag - count)
            assert piece is not None  # the worker has written all of them
            pieces.append(piece.rgb())
            count += len(piece)
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


def _bytes(transform: Transform) -> int:
    """Of a square."""
    return 3 * transform.resize**2


@dataclass(frozen=True)
class Decoding(Generic[T]):
    """A clip that a worker decodes: the call's tag, the ring where frames come, and what the call gives at the end."""

    tag: T
    ring: Ring
    future: "Future[Any]"


def decode_ahead(
    pool: WorkerPool,
    function: Callable[..., Any],
    calls: Iterable[tuple[T, tuple[Any, ...]]],
    rings: Sequence[Ring],
    spare: int = 0,
) -> Generator[Decoding[T], None, None]:
    """Have workers call `function(*args, name of a ring)` for each (tag, args), as many at a time as there are rings,
    less the `spare` ones; yield them in order, as they are under way.

    A clip's ring goes to another one when so many clips as are spare have come after it, and the next is asked for.
    """
    free = deque(rings)
    running: deque[Decoding[T]] = deque()
    try:
        for tag, args in calls:
            if len(free) <= spare:
                yield running[0]
                free.append(running.popleft().ring)
            ring = free.popleft()
            ring.reset()
            running.append(Decoding(tag, ring, pool.submit(function, *args, ring.name)))
        yield from running
    except GeneratorExit:  # nobody may write into a ring that the next iteration gives to another clip
        for decoding in running:
            decoding.future.cancel()
        for decoding in running:
            if not decoding.future.cancelled():
                pool.outcome(decoding.future)
        raise
