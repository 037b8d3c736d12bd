"""Bounds of time and memory on a worker process, which may die of them: its exit status then tells of what."""

import contextlib
import ctypes
import os
import resource
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import ClipError

CHUNK_BYTES = 32 << 20  # of frames that are decoded at a time, where frames allow
_OUT_OF_MEMORY = 77  # exit status of a worker that met its memory limit
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h

_stall_s: float  # of this process


@dataclass(frozen=True, kw_only=True)
class Sandbox:
    """Bounds of a worker process, and its preparation before its first call.

    `stall_s`: seconds without a new frame after which the worker is killed; `memory_bytes`: address space it may take
    beyond what it has when it is ready.
    """

    stall_s: float = 60.0
    memory_bytes: int = 2 << 30

    def start(self) -> None:
        """Prepare and confine this process: the pool calls it once, before the first call."""
        global _stall_s
        _stall_s = self.stall_s
        _keep_freed_memory()
        self.prepare()
        _limit_memory(self.memory_bytes)

    def prepare(self) -> None:
        """Load what the calls need; its memory is not bounded."""

    def cause_of_death(self, status: int) -> str:
        """Reason why a process ended with this exit status (a negative one is a signal), twice over the same clip."""
        if status == _OUT_OF_MEMORY:
            allowed = f"{self.memory_bytes / 2**30:g} GiB"
            return f"decoding it takes more than the {allowed} of memory a worker may use (tried twice)"
        if status == -signal.SIGALRM:
            return f"the decoder hangs: no frame for {self.stall_s:g} s (tried twice)"
        if status < 0:
            return f"the decoder crashes: {signal.Signals(-status).name} (tried twice)"
        return f"the decoder ends its process with status {status} (tried twice)"


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """Kill this process when `rearm` is not called for `stall_s` (a kernel timer: it works whatever holds the GIL), and
    when memory runs out: a decoder that has just failed to get memory is in no known state.
    """
    rearm()
    try:
        yield
    except (MemoryError, ClipError, RuntimeError) as error:
        if any(isinstance(e, MemoryError) or "can't allocate memory" in str(e) for e in (error, error.__cause__)):
            os._exit(_OUT_OF_MEMORY)
        raise
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def rearm() -> None:
    """Put the end of a `bounded` process off: work goes on."""
    signal.setitimer(signal.ITIMER_REAL, _stall_s)


def _keep_freed_memory() -> None:
    """Have glibc reuse the big buffers of each chunk, instead of asking the kernel for zeroed pages every time
    (measured: the transform alone takes half the time).
    """
    with contextlib.suppress(OSError, AttributeError):  # another C library
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(_M_MMAP_THRESHOLD, CHUNK_BYTES)
        libc.mallopt(_M_TRIM_THRESHOLD, 1 << 30)


def _limit_memory(extra: int) -> None:
    if not Path("/proc/self/statm").exists():  # no Linux
        return
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit, most = pages * resource.getpagesize() + extra, resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (limit if most == resource.RLIM_INFINITY else min(limit, most), most))
