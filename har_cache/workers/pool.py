"""Worker processes that outlive any clip: a crash, a hang or a memory hog costs that clip alone.

Each process has a thread and a pipe here to itself, and shares no lock with another: nothing that one of them does can
hold up the others, and whose call died with it is never in doubt.
"""

import fcntl
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from itertools import islice
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from ..errors import ClipError
from .server import fork_server
from .tasks import OUT_OF_MEMORY, Job, start

T = TypeVar("T")
STRIKES = 2
_CLIPS_A_PROCESS = 500  # a fresh process now and then bounds what a decoder leaks


class WorkerDiedError(ClipError):
    """The worker process died on this clip."""


class Workers:
    """A pool of up to `count` processes, each prepared with `job`; a context manager.

    The processes are forked from a server that has imported torch once, and has never decoded anything.
    """

    def __init__(self, job: Job, count: int) -> None:
        self.count = count
        self._job = job
        self._threads = ThreadPoolExecutor(count)
        self._own = threading.local()  # each thread's worker
        self._workers: list[_Worker] = []
        self._starting = threading.Lock()
        self._closed = False

    def schedule(self, function: Callable[..., Any], *args: Any) -> Future[Any]:
        """Run `function(*args)` in a worker; `outcome` reads the future's result."""
        return self._threads.submit(self._call, function, args)

    def run(self, function: Callable[..., Any], calls: Iterable[tuple[T, tuple[Any, ...]]]) -> Iterator[tuple[T, Any]]:
        """Run `function(*args)` for each (tag, args); yield (tag, result) as they come, a ClipError for a failure.

        A call that kills its worker is tried once more; calls are drawn only as fast as they are worked off.
        """
        source = iter(calls)
        running: dict[Future[Any], tuple[T, tuple[Any, ...], int]] = {}

        def refill() -> None:
            for tag, args in islice(source, 3 * self.count - len(running)):
                running[self.schedule(function, *args)] = tag, args, 1

        refill()
        while running:
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                tag, args, strikes = running.pop(future)
                outcome = self.outcome(future)
                if isinstance(outcome, WorkerDiedError) and strikes < STRIKES:
                    running[self.schedule(function, *args)] = tag, args, strikes + 1
                else:
                    yield tag, outcome
            refill()

    def outcome(self, future: Future[Any]) -> Any:
        """What a finished call gave, or the ClipError that tells why it gave nothing."""
        error = future.exception()
        # Without its traceback: that would hold the frames of whoever asks, and all that they had in hand.
        return error.with_traceback(None) if isinstance(error, ClipError) else future.result()

    def _call(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        worker: _Worker | None = getattr(self._own, "worker", None)
        if worker is None or worker.calls >= _CLIPS_A_PROCESS or self._is_dead(worker):
            self._stop(worker)
            worker = self._own.worker = self._start()
        try:
            outcome = worker.call(function, args)
        except (EOFError, OSError) as error:
            self._own.worker = None
            raise WorkerDiedError(self._cause(self._stop(worker))) from error
        if isinstance(outcome, ClipError):
            raise outcome
        return outcome

    def _start(self) -> "_Worker":
        with self._starting:  # multiprocessing's bookkeeping of children takes one thread at a time
            if self._closed:
                raise ClipError("the run was stopped")
            self._workers.append(_Worker(self._job))
            return self._workers[-1]

    def _is_dead(self, worker: "_Worker") -> bool:
        """Whether it has died since its last call: killed from outside, say, which is not the next clip's doing."""
        with self._starting:
            return not worker.process.is_alive()

    def _stop(self, worker: "_Worker | None") -> int:
        """Wait for the worker to end, which its closed pipe makes it do; gives its exit status."""
        if worker is None:
            return 0
        with self._starting:
            if worker in self._workers:
                self._workers.remove(worker)
            return worker.join()

    def _cause(self, exitcode: int) -> str:
        if exitcode == OUT_OF_MEMORY:
            allowed = f"{self._job.memory_bytes / 2**30:g} GiB"
            return f"decoding it takes more than the {allowed} of memory a worker may use (tried twice)"
        if exitcode == -signal.SIGALRM:
            return f"the decoder hangs: no frame for {self._job.stall_s:g} s (tried twice)"
        if exitcode < 0:
            return f"the decoder crashes: {signal.Signals(-exitcode).name} (tried twice)"
        return f"the decoder ends its process with status {exitcode} (tried twice)"

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        with self._starting:
            self._closed = True
            for worker in self._workers:
                worker.process.kill()  # its thread then gets the end of its pipe
        self._threads.shutdown()
        for worker in list(self._workers):
            self._stop(worker)


class _Worker:
    """One process and the pipe to it."""

    def __init__(self, job: Job) -> None:
        context = fork_server()
        self._pipe, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(target=_serve, args=(theirs, job), daemon=True)
        self.process.start()
        theirs.close()
        self.calls = 0

    def call(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """What the function gives, or a ClipError. Raises EOFError or OSError where the process has died."""
        self.calls += 1
        self._pipe.send((function, args))
        return self._pipe.recv()

    def join(self) -> int:
        """Close the pipe, wait for the process, give its exit status."""
        self._pipe.close()
        self.process.join()
        return self.process.exitcode or 0


def _serve(pipe: Connection, job: Job) -> None:
    """What a worker process does, until nobody is at the other end."""
    start(job)
    while True:
        try:
            function, args = pipe.recv()
        except EOFError:
            return
        outcome: Any
        try:
            with _dying_with_parent(pipe):
                outcome = function(*args)
        except ClipError as error:
            outcome = error
        except Exception as error:  # one clip's surprise is not the run's
            outcome = ClipError(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
        try:
            pipe.send(outcome)
        except BrokenPipeError:
            return


@contextmanager
def _dying_with_parent(pipe: Connection) -> Iterator[None]:
    """Have the kernel end this process, whatever it is doing, when the other end of the pipe is closed: with SIGIO,
    which any change of the pipe brings, and while a call is running there is no other change.
    """
    flags = fcntl.fcntl(pipe, fcntl.F_GETFL)
    fcntl.fcntl(pipe, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(pipe, fcntl.F_SETFL, flags | os.O_ASYNC)
    try:
        yield
    finally:
        fcntl.fcntl(pipe, fcntl.F_SETFL, flags)
