"""Frames from one process to another, through memory that both see: one writes, one reads, and neither ever locks.

So a process that is killed leaves nothing held. The memory belongs to an anonymous file (Linux), which the kernel
frees when the last process that has it open ends, however it ends; and unlike /dev/shm, containers do not cut it
down to 64 MB.
"""

import mmap
import os
import threading
import time
import traceback
from collections.abc import Callable
from types import TracebackType

import numpy as np

from ..errors import ClipError

RING_BYTES = 32 << 20

_POLL_S = 0.001
_HEADER_BYTES = 4096
# Where int64 numbers stand in the header; each counter has one writer, and a cache line of its own.
_WRITTEN, _TAKEN, _HEIGHT, _WIDTH = 0, 8, 16, 17
_lock = threading.Lock()


class Ring:
    """Room for a few hundred frames of one clip, used over and over; however long the clip, it takes no more.

    The reading process creates it with `Ring.create()`, the writing one opens it with `Ring(ring.name)`. A context
    manager, for the reader.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        file = os.open(name, os.O_RDWR)
        try:
            self._memory = mmap.mmap(file, 0)
        finally:
            os.close(file)
        self._header = np.frombuffer(self._memory, np.int64, _HEADER_BYTES // 8)
        self._data = np.frombuffer(self._memory, np.uint8, offset=_HEADER_BYTES)
        self._file: int | None = None

    @classmethod
    def create(cls, size: int = RING_BYTES) -> "Ring":
        """A new, empty ring for `size` bytes of frames; it takes memory only as it fills."""
        file = os.memfd_create("har-cache frames")
        os.ftruncate(file, _HEADER_BYTES + size)
        ring = cls(f"/proc/{os.getpid()}/fd/{file}")
        ring._file = file
        return ring

    def reset(self) -> None:
        """Empty it for another clip, when nobody writes any more."""
        self._header[:] = 0

    @property
    def written(self) -> int:
        """Frames that were handed over since the last reset: by a writer that has died, say."""
        return self._get(_WRITTEN)

    def write(self, frames: np.ndarray, when_full: Callable[[], None]) -> None:
        """Hand over frames, uint8 (n, height, width, 3), of one size between resets.

        While the ring is full, this waits and calls `when_full` every millisecond. Raises ClipError where not even
        one such frame fits.
        """
        height, width = frames.shape[1:3]
        slots = self._slots(height, width)
        if not len(slots):
            size = f"{len(self._data) / 2**20:g} MiB"
            raise ClipError(f"frames of {width}x{height}: one takes more than the {size} there are: use --device cpu")
        self._header[[_HEIGHT, _WIDTH]] = height, width
        while len(frames):
            written = self._get(_WRITTEN)
            at = written % len(slots)
            count = min(len(frames), self._get(_TAKEN) + len(slots) - written, len(slots) - at)
            if count:
                slots[at : at + count] = frames[:count]
                self._set(_WRITTEN, written + count)
                frames = frames[count:]
            else:
                when_full()
                time.sleep(_POLL_S)

    def read(self, most: int) -> np.ndarray:
        """The next frames, as many as are there, in one piece and at most `most`: uint8 (n, height, width, 3).

        n is 0 where there are none yet. They are a view of the ring: good until `release(n)`.
        """
        written, taken = self._get(_WRITTEN), self._get(_TAKEN)
        slots = self._slots(int(self._header[_HEIGHT]), int(self._header[_WIDTH]))
        if written == taken:
            return slots[:0]
        at = taken % len(slots)
        return slots[at : min(at + written - taken, at + most, len(slots))]

    def release(self, count: int) -> None:
        """Give the room of the first `count` frames back to the writer."""
        self._set(_TAKEN, self._get(_TAKEN) + count)

    def _slots(self, height: int, width: int) -> np.ndarray:
        size = height * width * 3
        count = len(self._data) // size if size else 0
        return self._data[: count * size].reshape(count, height, width, 3)

    def _get(self, counter: int) -> int:
        value = int(self._header[counter])
        _fence()
        return value

    def _set(self, counter: int, value: int) -> None:
        _fence()
        self._header[counter] = value

    def __enter__(self) -> "Ring":
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: TracebackType | None) -> None:
        """Unmap the memory and close the file; no frame of it can be read any more.

        Raises BufferError where somebody still holds what `read` gave: a view of memory that has gone would crash.
        """
        traceback.clear_frames(trace)  # functions that an error has ended may hold views
        if self._file is not None:
            os.close(self._file)
        del self._header, self._data
        try:
            self._memory.close()
        except BufferError:
            if error is None:
                raise


def _fence() -> None:
    # Arm CPUs may show another process the counter before the frames that it counts. An unlock followed by a lock
    # keeps them in order; this lock is no other process's.
    for _ in range(2):
        with _lock:
            pass
