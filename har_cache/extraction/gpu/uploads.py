"""Frames to a CUDA device, while it works: straight from the rings that they come in, where CUDA can read those."""

import contextlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import numpy as np
import torch
from torch import Tensor

from ...workers.ring import PIECE_BYTES

_PLACES = 4


class Uploads:
    """Uploads on a stream of their own. A context manager: afterwards nothing is read any more, and CUDA knows nothing
    of the memory.

    Each of a few places on the device takes a piece of frames: the next upload into it waits until its frames have been
    used (`used`). `from_rings` tells whether the device reads `memories` itself; where CUDA does not take them, frames
    are copied into pinned memory first, which takes this process a core's time.
    """

    def __init__(self, device: torch.device, memories: Sequence[np.ndarray] = ()) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)
        self._stack = ExitStack()
        self.from_rings = bool(memories) and all(_register(memory, device, self._stack) for memory in memories)
        if not self.from_rings:
            self._stack.close()
        size = 0 if self.from_rings else PIECE_BYTES
        self._places = deque(_Place(device, size) for _ in range(_PLACES))

    @contextmanager
    def __call__(self, data: np.ndarray, release: Callable[[], None]) -> Iterator[Tensor]:
        """The bytes of frames on the device, for work that is submitted within this context. `release` is called, now
        or by `poll` or `wait`, when `data` may be overwritten.
        """
        self._places.rotate(-1)
        place = self._places[0]
        here = torch.cuda.current_stream(self._device)
        place.uploaded.synchronize()
        place.release()
        if self.from_rings:
            host = torch.from_numpy(data).view(-1)
            place.reading.append(release)
        else:
            host = place.host[: data.size]
            # By numpy, on one thread: torch's many would wait for each other on cores that are busy decoding.
            np.copyto(host.numpy(), data.reshape(-1))
            release()
        device = place.device[: data.size]
        with torch.cuda.stream(self._stream):
            self._stream.wait_event(place.used)
            device.copy_(host, non_blocking=True)
            place.uploaded.record(self._stream)
        here.wait_event(place.uploaded)
        yield device.view(data.shape)
        place.used.record(here)

    def poll(self) -> None:
        """Release what has been read."""
        for place in self._in_order():
            if place.reading and not place.uploaded.query():
                break
            place.release()

    def wait(self) -> None:
        """Release all, when it has been read."""
        for place in self._in_order():
            place.uploaded.synchronize()
            place.release()

    def _in_order(self) -> Iterator["_Place"]:
        """The places, the longest used first."""
        return reversed([self._places[-i] for i in range(len(self._places))])

    def __enter__(self) -> "Uploads":
        return self

    def __exit__(self, *_: object) -> None:
        torch.cuda.synchronize(self._device)
        self._stack.close()


class _Place:
    """Device memory for a piece; `reading`: what to call when its upload is over."""

    def __init__(self, device: torch.device, pinned: int) -> None:
        self.host = torch.empty(pinned, dtype=torch.uint8, pin_memory=True)
        self.device = torch.empty(PIECE_BYTES, dtype=torch.uint8, device=device)
        self.uploaded = torch.cuda.Event(blocking=True)
        self.used = torch.cuda.Event()
        self.reading: list[Callable[[], None]] = []

    def release(self) -> None:
        while self.reading:
            self.reading.pop()()


def _register(memory: np.ndarray, device: torch.device, stack: ExitStack) -> bool:
    """Have CUDA read this memory directly, until `stack` is closed; gives whether it does."""
    cudart = torch.cuda.cudart()
    if int(cudart.cudaHostRegister(memory.ctypes.data, memory.nbytes, 0)):
        with contextlib.suppress(RuntimeError):  # the error, which the next kernel would report as its own
            torch.zeros(1, device=device)
        return False
    stack.callback(cudart.cudaHostUnregister, memory.ctypes.data)
    return True
