"""Stage one on a GPU, as far as this process does it: frames handed over, and batches encoded."""

from collections.abc import Mapping
from contextlib import ExitStack
from itertools import islice
from pathlib import Path

import torch

from ..encoder.architectures.packing import Packed
from ..extraction.gpu.batches import BATCH, BatchEncoder, Rows
from ..extraction.gpu.feed import RING_BYTES, rgb_tables
from ..video.decode import VideoReader
from ..workers.ring import Piece, Ring
from . import tasks as rates


class DeviceParts:
    """The frames of a clip in a ring, and encoders of several precisions on the device; `tables`: of colours."""

    def __init__(
        self, encoders: Mapping[str, Packed], clip: Path, device: str, seconds: float, stack: ExitStack
    ) -> None:
        """`encoders`: by precision. Raises ClipError where the clip does not decode."""
        self._device, self._seconds = device, seconds
        self._cuda = torch.device(device).type == "cuda"
        self.tables = tables = rgb_tables()
        ring = stack.enter_context(Ring.create(RING_BYTES))
        with VideoReader(clip) as video:
            for frame in islice(video.stored(tables), BATCH):
                if (ring.written + 1) * frame[0].frame_bytes <= RING_BYTES:
                    ring.write(frame, _no_wait)
        piece = ring.read(BATCH)
        assert piece is not None
        self._piece = piece
        stack.callback(self.__dict__.pop, "_piece")  # a view of the ring
        self._encoders = {
            name: stack.enter_context(BatchEncoder(packed, name, ("center",), device))
            for name, packed in encoders.items()
        }
        name, packed = next(iter(encoders.items()))
        handing = _Unencoded(packed, name, ("center",), device, tables, [ring.memory])
        self._handing = stack.enter_context(handing)

    def hand_over(self) -> float:
        """Frames a second from the ring to crops on the device; the copies of this process, where it makes any."""
        rows = Rows()

        def step() -> int:
            count = min(len(self._piece), self._handing.room)
            self._handing.add(Piece(self._piece.layout, self._piece.data[:count]), rows)
            self._handing.poll()
            return count

        return rates.on_device(step, self._seconds, self._device)

    def copy(self) -> float:
        """As many bytes a second as a frame has, from pinned memory to the device: what `hand_over` cannot be faster
        than.
        """
        pinned = torch.empty(self._piece.data.shape, dtype=torch.uint8, pin_memory=self._cuda)
        there = torch.empty_like(pinned, device=self._device, pin_memory=False)
        return rates.on_device(lambda: len(there.copy_(pinned, non_blocking=True)), self._seconds, self._device)

    def encode(self, precision: str) -> float:
        """Frames a second from crops to embeddings, one view of them, as they are encoded in an extraction."""
        encoder = self._encoders[precision]
        return rates.on_device(lambda: encoder.forward().shape[1], self._seconds, self._device)


def _no_wait() -> None:
    raise AssertionError("the ring is full")


class _Unencoded(BatchEncoder):
    """Frames are handed over, and that is all."""

    def _encode(self) -> None:
        self._shares, self._transforms, self._filled = [], [], 0
