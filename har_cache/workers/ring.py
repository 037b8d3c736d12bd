"""Frames from one process to another, through memory that both see: one writes, one reads, and neither ever locks, so
that a process that is killed leaves nothing held.
"""

import os
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

import numpy as np

from ..errors import ClipError
from ..video.pixels import Layout, Pixels, Stored
from .memory import create_memory, open_memory

PIECE_BYTES = 64 << 20  # the most that are read at once, and that a frame may take

_POLL_S = 0.001
_HEADER_BYTES = 4096
# Where int64 numbers stand in the header; each counter has one writer, and a cache line of its own. A layout holds for
# the frames from number _FIRST on.
_WRITTEN, _TAKEN, _FIRST, _HEIGHT, _WIDTH, _PIXELS = 0, 8, 16, 17, 18, 19
_lock = threading.Lock()


@dataclass(frozen=True)
class Piece:
    """Frames of one layout, one after another, in one piece: `data`, uint8 (n, layout.frame_bytes), is a view of a
    ring.
    """

    layout: Layout
    data: np.ndarray

    def __len__(self) -> int:
        return len(self.data)

    def rgb(self) -> np.ndarray:
        """Frames that are stored as RGB: uint8 (n, height, width, 3)."""
        assert self.layout.pixels == Pixels.RGB
        return self.data.reshape(-1, self.layout.height, self.layout.width, 3)


class Ring:
    """Room for a few hundred frames of one clip, used over and over; however long the clip, it takes no more.

    The reading process creates it with `Ring.create(size)`, the writing one opens it with `Ring(ring.name)`. A context
    manager, for the reader.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._memory = open_memory(name)
        self._header = np.frombuffer(self._memory, np.int64, _HEADER_BYTES // 8)
        self._data = np.frombuffer(self._memory, np.uint8, offset=_HEADER_BYTES)
        self._file: int | None = None
        self._read = 0  # frames that the reader was given
        self._written: Layout | None = None  # of the writer's last frame
        self._layout: Layout | None = None  # of _slots
        self._slots = self._data[:0].reshape(0, 0)

    @classmethod
    def create(cls, size: int) -> "Ring":
        """A new, empty ring for `size` bytes of frames; it takes memory only as it fills. Raises HarCacheError where
        the system has no such memory.
        """
        file, name = create_memory(_HEADER_BYTES + size, "frames")
        ring = cls(name)
        ring._file = file
        return ring

    @property
    def memory(self) -> np.ndarray:
        """All of its memory: uint8 (bytes)."""
        return np.frombuffer(self._memory, np.uint8)

    def reset(self) -> None:
        """Empty it for another clip, when nobody writes any more, or reads what it has held."""
        self._header[:] = 0
        self._read = 0

    @property
    def written(self) -> int:
        """Frames that were handed over since the last reset: by a writer that has died, say."""
        return self._get(_WRITTEN)

    @property
    def held(self) -> int:
        """Frames that were read and are not released."""
        return self._read - self._get(_TAKEN)

    def write(self, frame: Stored, when_full: Callable[[], None]) -> None:
        """Hand a frame over.

        While the ring is full, or has frames of another layout, this waits and calls `when_full` every millisecond.
        Raises ClipError where not even one such frame fits.
        """
        layout, planes = frame
        written = self._get(_WRITTEN)
        if layout is not self._written or not self._header[_HEIGHT]:  # the header's is slow to read
            if layout != self._stored_layout():
                self._start_layout(layout, written, when_full)
            self._written = layout
        slots = self._slots_of(layout)
        while written - self._get(_TAKEN) >= len(slots):
            _wait(when_full)
        layout.fill(slots[(written - int(self._header[_FIRST])) % len(slots)], planes)
        self._set(_WRITTEN, written + 1)

    def read(self, most: int) -> Piece | None:
        """The next frames, as many as are there, in one piece, at most `most`, and of PIECE_BYTES at most; None where
        there are none yet. Their room is the writer's again after `release`.
        """
        written = self._get(_WRITTEN)
        if written == self._read:
            return None
        layout = self._stored_layout()
        slots = self._slots_of(layout)
        at = (self._read - int(self._header[_FIRST])) % len(slots)
        count = min(written - self._read, most, PIECE_BYTES // layout.frame_bytes)
        piece = Piece(layout, slots[at : at + count])
        self._read += len(piece)
        return piece

    def release(self, count: int) -> None:
        """Give the room of the first `count` frames that were read back to the writer."""
        self._set(_TAKEN, self._get(_TAKEN) + count)

    def _stored_layout(self) -> Layout:
        height, width, pixels = (int(number) for number in self._header[[_HEIGHT, _WIDTH, _PIXELS]])
        return Layout(height, width, Pixels(pixels))

    def _start_layout(self, layout: Layout, written: int, when_full: Callable[[], None]) -> None:
        """Have frames of another layout from here on, when those of the one before are all released."""
        most = min(len(self._data), PIECE_BYTES)
        if layout.frame_bytes > most:
            size = f"{layout.width}x{layout.height}"
            room = f"{most / 2**20:g} MiB"
            raise ClipError(f"frames of {size}: one takes more than the {room} there are: use --device cpu")
        while self._get(_TAKEN) < written:
            _wait(when_full)
        self._header[[_FIRST, _HEIGHT, _WIDTH, _PIXELS]] = written, layout.height, layout.width, layout.pixels

    def _slots_of(self, layout: Layout) -> np.ndarray:
        if layout is not self._layout and layout != self._layout:
            size = layout.frame_bytes
            count = len(self._data) // size
            self._layout, self._slots = layout, self._data[: count * size].reshape(count, size)
        return self._slots

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
        del self._header, self._data, self._slots
        try:
            self._memory.close()
        except BufferError:
            if error is None:
                raise


def _wait(when_full: Callable[[], None]) -> None:
    when_full()
    time.sleep(_POLL_S)


def _fence() -> None:
    # Arm CPUs may show another process the counter before the frames that it counts. An unlock followed by a lock
    # keeps them in order; this lock is no other process's.
    for _ in range(2):
        with _lock:
            pass
