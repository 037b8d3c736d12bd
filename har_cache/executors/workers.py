"""Worker processes that outlive any clip: a crash, a hang or a memory hog costs that clip alone."""

import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, wait
from itertools import islice
from typing import Any, TypeVar

from pebble import ProcessExpired, ProcessFuture, ProcessPool

from ..errors import ClipError
from ..worker import OUT_OF_MEMORY, Job, start
from .server import fork_server

T = TypeVar("T")
_STRIKES = 2
_CLIPS_A_PROCESS = 500  # a fresh process now and then bounds what a decoder leaks


class Workers:
    """A pool of `count` processes, each prepared with `job`; a context manager.

    The processes are forked from a server that has imported torch once, and has never decoded anything.
    """

    def __init__(self, job: Job, count: int) -> None:
        self.count = count
        self._job = job
        self._pool = ProcessPool(count, _CLIPS_A_PROCESS, start, (job,), fork_server())

    def schedule(self, function: Callable[..., Any], *args: Any) -> ProcessFuture:
        """Run `function(*args)` in a worker; `outcome` reads the future's result."""
        return self._pool.schedule(function, args)

    def run(self, function: Callable[..., Any], calls: Iterable[tuple[T, tuple[Any, ...]]]) -> Iterator[tuple[T, Any]]:
        """Run `function(*args)` for each (tag, args); yield (tag, result) as they come, a ClipError for a failure.

        A call that kills its worker is tried once more; calls are drawn only as fast as they are worked off.
        """
        source = iter(calls)
        running: dict[ProcessFuture, tuple[T, tuple[Any, ...], int]] = {}

        def refill() -> None:
            for tag, args in islice(source, 3 * self.count - len(running)):
                running[self.schedule(function, *args)] = tag, args, 1

        refill()
        while running:
            finished = [f for f in wait(running, return_when=FIRST_COMPLETED).done if isinstance(f, ProcessFuture)]
            for future in finished:
                tag, args, strikes = running.pop(future)
                outcome = self.outcome(future)
                if isinstance(outcome, WorkerDiedError) and strikes < _STRIKES:
                    running[self.schedule(function, *args)] = tag, args, strikes + 1
                else:
                    yield tag, outcome
            refill()

    def outcome(self, future: ProcessFuture) -> Any:
        """What a finished call gave, or the ClipError that tells why it gave nothing."""
        try:
            return future.result()
        except ClipError as error:
            return error
        except ProcessExpired as error:
            return WorkerDiedError(self._cause(error.exitcode))
        except Exception as error:  # one clip's surprise is not the run's
            return ClipError(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")

    def _cause(self, exitcode: int) -> str:
        if exitcode == OUT_OF_MEMORY:
            return f"decoding it takes more than the {self._job.memory_bytes / 2**30:g} GiB of memory a worker may use"
        if exitcode == -signal.SIGALRM:
            return f"the decoder hangs: no frame for {self._job.stall_s:g} s (tried twice)"
        if exitcode < 0:
            return f"the decoder crashes: {signal.Signals(-exitcode).name} (tried twice)"
        return f"the decoder ends its process with status {exitcode} (tried twice)"

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.stop()
        self._pool.join()


class WorkerDiedError(ClipError):
    """The worker process died on this clip."""
