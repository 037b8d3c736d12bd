"""Worker processes that outlive any clip: a crash, a hang or a memory hog costs that clip alone.

Each process has a thread and a pipe here to itself, and shares no lock with another: nothing that one of them does can
hold up the others, and whose call died with it is never in doubt.
"""

import fcntl
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from itertools import islice
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from ..errors import ClipError, HarCacheError
from ..system import uninterrupted
from .main_module import check_main_module, without_main_module
from .watchdog import Sandbox

T = TypeVar("T")
_KILLED = (
    "its worker process was killed from outside (SIGKILL), again and again: by the system for want of memory, it may "
    "be; run again, with fewer --workers"
)
STRIKES = 2
_READY = "ready"
PARENT = "HAR_CACHE_FORK_SERVER_OF"  # the variable with the pid of who wants workers, for `preload`
_KILLS = 5  # from outside, before a call is given up
_CALLS_A_PROCESS = 500  # a fresh process now and then bounds what a decoder leaks


class WorkerDiedError(ClipError):
    """The worker process died on this clip."""


class WorkerKilledError(WorkerDiedError):
    """Worker processes were killed from outside while they were at this clip, which is not its fault."""


def fork_server() -> ForkServerContext:
    """The context of the process that workers are forked from: it imports torch once, and never decodes anything.

    Called before this process imports torch itself, the two imports overlap. Raises HarCacheError where the current
    directory is gone, and where there would be no end of processes: see `check_main_module`.
    """
    check_main_module()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["har_cache.workers.preload"])
    resource_tracker.ensure_running()  # now, since it unblocks SIGINT
    try:
        with uninterrupted():
            os.environ[PARENT] = str(os.getpid())
            forkserver.ensure_running()
    except FileNotFoundError as error:
        raise HarCacheError("the current directory is gone: change to another one") from error
    finally:
        os.environ.pop(PARENT, None)
    return context


def share_fork_server() -> None:
    """In a process that was forked from the server: have it fork this one's workers too. CPython's documentation says
    that it does, but it starts another one, which imports torch once more; as it still does where this cannot be had.
    """
    server: Any = getattr(forkserver, "_forkserver", None)
    if getattr(server, "_forkserver_address", None) and not hasattr(server, "_forkserver_authkey"):
        server.ensure_running = forkserver.ensure_running = lambda: None


class WorkerPool:
    """A pool of up to `count` processes, each started in `sandbox`; a context manager."""

    def __init__(self, sandbox: Sandbox, count: int) -> None:
        self.count = count
        self._sandbox = sandbox
        self._threads = ThreadPoolExecutor(count)
        self._own = threading.local()  # each thread's worker
        self._workers: list[_Worker] = []
        self._starting = threading.Lock()
        self._closed = False

    def submit(self, function: Callable[..., Any], *args: Any) -> Future[Any]:
        """Run `function(*args)` in a worker; `outcome` reads the future's result. A call that kills its worker is
        tried once more, in a new one, and one whose worker is killed from outside a few times.
        """
        return self._threads.submit(self._call, function, args)

    def run(self, function: Callable[..., Any], calls: Iterable[tuple[T, tuple[Any, ...]]]) -> Iterator[tuple[T, Any]]:
        """Run `function(*args)` for each (tag, args); yield (tag, result) as they come, a ClipError for a failure.

        Calls are drawn only as fast as they are worked off.
        """
        left = iter(calls)
        running: dict[Future[Any], T] = {}

        def refill() -> None:
            for tag, args in islice(left, 3 * self.count - len(running)):
                running[self.submit(function, *args)] = tag

        refill()
        while running:
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                yield running.pop(future), self.outcome(future)
            refill()

    def outcome(self, future: Future[Any]) -> Any:
        """Result of a finished call, or the ClipError that tells why it gave nothing."""
        error = future.exception()
        # Without its traceback: that would hold the frames of whoever asks, and all that they had in hand.
        return error.with_traceback(None) if isinstance(error, ClipError) else future.result()

    def _call(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        died = killed = 0
        while True:
            worker: _Worker | None = getattr(self._own, "worker", None)
            if worker is None or worker.calls >= _CALLS_A_PROCESS or self._is_dead(worker):
                self._stop(worker)
                worker = self._own.worker = self._start()
            try:
                outcome = worker.call(function, args)
            except (EOFError, OSError):
                self._own.worker = None
                status = self._stop(worker)
                # By nothing that a decoder does: its bounds end it with other statuses.
                outside = status == -signal.SIGKILL
                died, killed = died + (not outside), killed + outside
                if died == STRIKES:
                    raise WorkerDiedError(self._sandbox.cause_of_death(status)) from None
                if killed == _KILLS:
                    raise WorkerKilledError(_KILLED) from None
                continue
            if isinstance(outcome, ClipError):
                raise outcome
            return outcome

    def _start(self) -> "_Worker":
        with self._starting:  # multiprocessing's bookkeeping of children takes one thread at a time
            if self._closed:
                raise ClipError("the run was stopped")
            try:
                self._workers.append(_Worker(self._sandbox))
            except (EOFError, OSError) as error:
                raise HarCacheError(f"no worker process can be started{_why(error)}") from error
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

    def __enter__(self) -> "WorkerPool":
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


def _why(error: EOFError | OSError) -> str:
    """Of an error of the system, which the fork server, that has died of it, does not tell."""
    reason = f": {error.strerror}" if isinstance(error, OSError) and error.strerror else ""
    return f"{reason}; the system may allow no more of them (`ulimit -u`): try fewer --workers"


class _Worker:
    """One process and the pipe to it."""

    def __init__(self, sandbox: Sandbox) -> None:
        context = fork_server()
        self._pipe, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(target=_serve, args=(theirs, sandbox), daemon=True)
        with without_main_module():
            self.process.start()
        theirs.close()
        self.calls = 0

    def call(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """Result of the function, or a ClipError. Raises EOFError or OSError where the process has died."""
        if not self.calls:
            self._pipe.recv()  # _READY: until then whatever comes tells it that this process has ended
        self.calls += 1
        self._pipe.send((function, args))
        return self._pipe.recv()

    def join(self) -> int:
        """Close the pipe, wait for the process, give its exit status."""
        self._pipe.close()
        self.process.join()
        return self.process.exitcode or 0


def _serve(pipe: Connection, sandbox: Sandbox) -> None:
    """Life of a worker process, until nobody is at the other end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    with dying_with_parent(pipe):
        if pipe.poll():
            return  # it is closed: nothing is sent to one that is not ready
        sandbox.start()
    with suppress(EOFError, OSError):
        pipe.send(_READY)
        _answer(pipe)


def _answer(pipe: Connection) -> None:
    """Do what comes. Raises EOFError or OSError once nobody is at the other end."""
    while True:
        function, args = pipe.recv()
        outcome: Any
        try:
            with dying_with_parent(pipe):
                outcome = function(*args)
        except HarCacheError as error:
            outcome = error if isinstance(error, ClipError) else ClipError(str(error))
        except Exception as error:  # one clip's surprise is not the run's
            outcome = ClipError(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
        pipe.send(outcome)


@contextmanager
def dying_with_parent(pipe: Connection) -> Iterator[None]:
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
