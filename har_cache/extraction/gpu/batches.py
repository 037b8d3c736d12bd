"""Frames of one clip after another -> embeddings, in batches of one fixed shape, on any device.

On CUDA nothing here waits for the device, but to stay no more than two batches ahead of it: frames are uploaded on a
stream of their own, and each batch is one CUDA graph.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...encoder.architectures.eager import EagerEncoder
from ...encoder.architectures.packing import Packed, unpack
from ...encoder.transform import pictures
from ...errors import ClipError
from ...settings.names import FULL
from ...video.pixels import Layout, Pixels, Tables
from ...workers.ring import Piece
from .colours import to_rgb
from .uploads import Uploads

BATCH = 256
_AHEAD = 2
_WARM_UPS = 3
_NOISE = 8  # pictures


class _Now:
    """A moment on the CPU, where all work is done when its call returns; in place of a CUDA event."""

    def __init__(self) -> None:
        self._at = time.perf_counter()

    def synchronize(self) -> None:
        """Nothing to wait for."""

    def query(self) -> bool:
        """Whether it has come."""
        return True

    def elapsed_time(self, end: "_Now") -> float:
        """Milliseconds from here to `end`."""
        return 1000 * (end._at - self._at)


_Span = tuple[Any, Any]  # two CUDA events, or two of what stands for them


@dataclass
class Rows:
    """A clip's embeddings as they come back. `sent`: its frames so far; `seconds`: the device's, by stage; `error`: why
    the device cannot take its frames.
    """

    sent: int = 0
    error: ClipError | None = None
    parts: list[np.ndarray] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=lambda: {"transform": 0.0, "encode": 0.0})

    @property
    def complete(self) -> bool:
        """Whether the embeddings of all frames sent are here."""
        return sum(part.shape[1] for part in self.parts) == self.sent


class BatchEncoder:
    """An encoder that is given frames as they come and fills its batches with them, across clips.

    What is in a batch depends only on the order of the frames, not on how many are added at a time. A clip's seconds
    are its frames' share of their batches' on the device; uploads overlap with them, and are not counted. A context
    manager: what was added and has not come back when it ends is lost.

    `batch`: its frames; `forward` embeds it as it stands, float16 (views, batch, dim) on the device, overwritten the
    next time; `uploads.from_rings` tells whether the device reads frames where they are.
    """

    def __init__(
        self,
        packed: Packed,
        precision: str,
        views: Sequence[str],
        device: str,
        tables: Tables | None = None,
        memories: Sequence[np.ndarray] = (),
    ) -> None:
        """`tables`: for frames that come as planes; `memories`: those that frames are views of, as far as is known."""
        self._encoder, self._views = unpack(packed, precision, views, device), tuple(views)
        self._transform = self._encoder.transform
        self.batch = min(BATCH, self._encoder.batch) if isinstance(self._encoder, EagerEncoder) else BATCH
        self._device = self._encoder.device
        self._cuda = self._device.type == "cuda"
        self._pictures = [
            torch.zeros(self.batch, 3, self._transform.crop, self._transform.crop, device=self._device).to(
                memory_format=torch.channels_last
            )
            for _ in range(2 if FULL in views else 1)
        ]
        self._tables: Mapping[Pixels, Tensor] = {
            pixels: torch.from_numpy(table.view(np.int32)).to(self._device) for pixels, table in (tables or {}).items()
        }
        self.uploads = Uploads(self._device, memories) if self._cuda else _NoUploads()
        self.forward = self._captured() if self._cuda else self._run
        self._shares: list[tuple[Rows, int]] = []
        self._transforms: list[_Span] = []
        self._filled = 0
        self._behind: deque[_Batch] = deque()

    def __enter__(self) -> "BatchEncoder":
        return self

    def __exit__(self, *error: Any) -> None:
        self.uploads.__exit__(*error)

    @property
    def room(self) -> int:
        """Frames that the batch being filled still takes, at least 1."""
        return self.batch - self._filled

    def add(self, piece: Piece, rows: Rows, release: Callable[[], None] = lambda: None) -> None:
        """Take the next frames of a clip, at most `room`; their embeddings come to `rows` later. `release` is called
        when they may be overwritten: now, or by `poll` or `wait`. Frames that the device has no memory for are left
        black, and `rows.error` says so.
        """
        end = self._filled + len(piece)
        with self.uploads(piece.data, release) as stored:
            begun = self._mark()
            self._fill([places[self._filled : end] for places in self._pictures], stored, piece.layout, rows)
            self._transforms.append((begun, self._mark()))
        self._shares.append((rows, len(piece)))
        rows.sent += len(piece)
        self._filled = end
        if end == self.batch:
            self._encode()

    def poll(self) -> None:
        """Release frames that have been read, and hand out embeddings that are there; waits for nothing."""
        self.uploads.poll()
        while self._behind and self._behind[0].encode[1].query():
            self._behind.popleft().hand_out()

    def wait(self) -> None:
        """Wait until all frames that were added are released."""
        self.uploads.wait()

    def pad(self) -> None:
        """Encode what has been added, in a batch filled up with zeros."""
        if self._filled:
            for places in self._pictures:
                places[self._filled :] = 0
            self._encode()

    def finish(self) -> None:
        """Wait until all full batches' embeddings are handed out."""
        while self._behind:
            self._behind.popleft().hand_out()

    def _fill(self, places: Sequence[Tensor], stored: Tensor, layout: Layout, rows: Rows) -> None:
        """Put the pictures of frames in their places; by halves where memory runs out."""
        try:
            for place, made in zip(places, self._shown(to_rgb(stored, layout, self._tables)), strict=True):
                place[:] = made
            return
        except torch.OutOfMemoryError:
            pass  # what follows is done when the error no longer holds what was made so far
        if half := len(places[0]) // 2:
            self._fill([place[:half] for place in places], stored[:half], layout, rows)
            self._fill([place[half:] for place in places], stored[half:], layout, rows)
        else:
            for place in places:
                place.zero_()
            size = f"{layout.width}x{layout.height}"
            rows.error = ClipError(f"{self._device} has not even memory for one of its frames ({size})")

    def _shown(self, frames: Tensor) -> Iterator[Tensor]:
        return pictures(frames, self._views, self._transform)

    def _encode(self) -> None:
        begun = self._mark()
        out = self.forward()
        # New memory each time: a batch may still be on its way here when the next one is.
        embeddings = torch.empty(out.shape, dtype=out.dtype, pin_memory=self._cuda)
        embeddings.copy_(out, non_blocking=True)
        self._behind.append(_Batch(embeddings, self._shares, self._transforms, (begun, self._mark())))
        self._shares, self._transforms, self._filled = [], [], 0
        while len(self._behind) > _AHEAD:
            self._behind.popleft().hand_out()

    def _run(self) -> Tensor:
        return self._encoder(*self._pictures).to(torch.float16)

    def _captured(self) -> Callable[[], Tensor]:
        """`_run` as a CUDA graph: it reads `_pictures`, and overwrites its result each time."""
        for places in self._pictures:
            places[:] = _noise(*places.shape[::2])  # convolutions are tried on what comes first
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


def _noise(count: int, side: int) -> Tensor:
    """A batch of pictures, the same every time."""
    pictures = torch.randint(0, 256, (_NOISE, 3, side, side), generator=torch.Generator().manual_seed(0))
    return pictures.float().repeat(-(-count // _NOISE), 1, 1, 1)[:count]


class _NoUploads:
    """In place of uploads to CUDA: frames are used where they are, before `add` returns."""

    from_rings = True

    @contextmanager
    def __call__(self, data: np.ndarray, release: Callable[[], None]) -> Iterator[Tensor]:
        yield torch.from_numpy(data)
        release()

    def poll(self) -> None:
        """Nothing is under way."""

    wait = poll

    def __exit__(self, *_: object) -> None:
        """Nothing to end."""
