"""Frames of one clip after another -> embeddings, in batches of one fixed shape, on any device.

On CUDA nothing here waits for the device, but to stay no more than two batches ahead of it: frames are uploaded
from pinned memory on a stream of their own, and each batch is one CUDA graph.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..encoder.encoder import Encoder
from ..encoder.folded import FoldedEncoder
from ..encoder.transform import CROP, crop
from ..workers.ring import RING_BYTES

BATCH = 256
_AHEAD = 2
_UPLOADS = 3
_WARM_UPS = 3


class _Now:
    """A moment on the CPU, where all work is done when its call returns; in place of a CUDA event."""

    def __init__(self) -> None:
        self._at = time.perf_counter()

    def synchronize(self) -> None:
        """Nothing to wait for."""

    def elapsed_time(self, end: "_Now") -> float:
        """Milliseconds from here to `end`."""
        return 1000 * (end._at - self._at)


_Span = tuple[Any, Any]  # two CUDA events, or two of what stands for them


@dataclass
class Rows:
    """A clip's embeddings as they come back. `sent`: its frames so far; `seconds`: the device's, by stage."""

    sent: int = 0
    parts: list[np.ndarray] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=lambda: {"transform": 0.0, "encode": 0.0})

    @property
    def complete(self) -> bool:
        """Whether the embeddings of all frames sent are here."""
        return sum(part.shape[1] for part in self.parts) == self.sent


class BatchEncoder:
    """An encoder that is given frames as they come and fills its batches with them, across clips.

    What is in a batch depends only on the order of the frames, not on how many are added at a time, RING_BYTES at
    most. A clip's seconds are its frames' share of their batches' on the device; uploads overlap with them, and are
    not counted.
    """

    def __init__(self, folded: FoldedEncoder, precision: str, views: Sequence[str], device: str) -> None:
        self._encoder = Encoder(folded, precision, views, device)
        self._device = self._encoder.device
        self._cuda = self._device.type == "cuda"
        self._crops = torch.zeros(BATCH, 3, CROP, CROP, device=self._device).to(memory_format=torch.channels_last)
        self._upload = _Uploads(self._device) if self._cuda else lambda frames: nullcontext(torch.from_numpy(frames))
        self._forward = self._captured() if self._cuda else self._run
        self._shares: list[tuple[Rows, int]] = []
        self._transforms: list[_Span] = []
        self._filled = 0
        self._behind: deque[_Batch] = deque()

    @property
    def room(self) -> int:
        """Frames that the batch being filled still takes, at least 1."""
        return BATCH - self._filled

    def add(self, frames: np.ndarray, rows: Rows) -> None:
        """Take the next frames of a clip: uint8 (n, height, width, 3), n at most `room`. They may be overwritten
        when this returns; their embeddings come to `rows` later.
        """
        end = self._filled + len(frames)
        with self._upload(frames) as uploaded:
            begun = self._mark()
            self._crops[self._filled : end] = crop(uploaded)
            self._transforms.append((begun, self._mark()))
        self._shares.append((rows, len(frames)))
        rows.sent += len(frames)
        self._filled = end
        if end == BATCH:
            self._encode()

    def flush(self) -> None:
        """Encode what is left, in a batch filled up with zeros, and wait until all rows have their embeddings."""
        if self._filled:
            self._crops[self._filled :] = 0
            self._encode()
        while self._behind:
            self._behind.popleft().hand_out()

    def _encode(self) -> None:
        begun = self._mark()
        out = self._forward()
        # New memory each time: a batch may still be on its way here when the next one is.
        embeddings = torch.empty(out.shape, dtype=out.dtype, pin_memory=self._cuda)
        embeddings.copy_(out, non_blocking=True)
        self._behind.append(_Batch(embeddings, self._shares, self._transforms, (begun, self._mark())))
        self._shares, self._transforms, self._filled = [], [], 0
        while len(self._behind) > _AHEAD:
            self._behind.popleft().hand_out()

    def _run(self) -> Tensor:
        return self._encoder(self._crops).to(torch.float16)

    def _captured(self) -> Callable[[], Tensor]:
        """`_run` as a CUDA graph: it reads `_crops`, and overwrites its result each time."""
        with torch.cuda.device(self._device):
            here, aside = torch.cuda.current_stream(), torch.cuda.Stream()
            aside.wait_stream(here)
            with torch.cuda.stream(aside):
                for _ in range(_WARM_UPS):
                    self._run()
            here.wait_stream(aside)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, stream=aside):
                out = self._run()

        def replay() -> Tensor:
            graph.replay()
            return out

        return replay

    def _mark(self) -> Any:
        """This moment in the device's work."""
        if not self._cuda:
            return _Now()
        # Blocking: else a waiting process keeps a core busy that the decoders need.
        event = torch.cuda.Event(enable_timing=True, blocking=True)
        event.record(torch.cuda.current_stream(self._device))
        return event


@dataclass
class _Batch:
    """A batch that the device may still be at: its embeddings-to-be, and how many of them go to whom, in order."""

    embeddings: Tensor
    shares: list[tuple[Rows, int]]
    transforms: list[_Span]
    encode: _Span

    def hand_out(self) -> None:
        """Wait for the device, and give every clip its rows."""
        self.encode[1].synchronize()
        spans = {"transform": self.transforms, "encode": [self.encode]}
        seconds = {stage: sum(a.elapsed_time(b) for a, b in s) / 1000 for stage, s in spans.items()}
        total = sum(count for _, count in self.shares)
        start = 0
        for rows, count in self.shares:
            rows.parts.append(self.embeddings[:, start : start + count].numpy().copy())
            for stage in seconds:
                rows.seconds[stage] += seconds[stage] * count / total
            start += count


class _Uploads:
    """Frames to a CUDA device, through pinned memory, while the device works.

    Each of a few places is a piece of pinned memory and one of device memory. The host may write the former when the
    upload from it is over (`uploaded`); the next upload into the latter waits until its frames have been used
    (`used`).
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)
        self._places = deque(_Place(device, RING_BYTES) for _ in range(_UPLOADS))

    @contextmanager
    def __call__(self, frames: np.ndarray) -> Iterator[Tensor]:
        """The frames on the device, for work that is submitted within this context."""
        self._places.rotate(-1)
        place = self._places[0]
        here = torch.cuda.current_stream(self._device)
        host, device = place.host[: frames.size], place.device[: frames.size]
        place.uploaded.synchronize()
        # By numpy, on one thread: torch's many would wait for each other on cores that are busy decoding.
        np.copyto(host.numpy(), frames.reshape(-1))
        with torch.cuda.stream(self._stream):
            self._stream.wait_event(place.used)
            device.copy_(host, non_blocking=True)
            place.uploaded.record(self._stream)
        here.wait_event(place.uploaded)
        yield device.view(frames.shape)
        place.used.record(here)


class _Place:
    def __init__(self, device: torch.device, size: int) -> None:
        self.host = torch.empty(size, dtype=torch.uint8, pin_memory=True)
        self.device = torch.empty(size, dtype=torch.uint8, device=device)
        self.uploaded = torch.cuda.Event(blocking=True)
        self.used = torch.cuda.Event()
