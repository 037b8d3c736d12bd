"""What PyAV and torchvision, the plain way, make of a clip, beside what the cache has of it. In a worker process: what
the extraction survives may break this one.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import zip_longest
from pathlib import Path

import av
import numpy as np
import torch
from torch import Tensor
from torchvision.models import MNASNet, MNASNet0_5_Weights

from har_cache.errors import ClipError
from har_cache.video.decode import VideoReader
from har_cache.workers.watchdog import Sandbox, bounded, rearm

from ...helpers.plain import plain_model

_BATCH = 16
_PACKET = 188  # bytes, of MPEG transport streams
_LARGEST = 64 << 20  # bytes of a frame that torchvision's transform is left to resize whole
_ALLOWED = 4e-3  # of an embedding's largest value: float16 rounds to 5e-4 of each


@dataclass(frozen=True)
class Seen:
    """What PyAV makes of a clip alone: its `frames`, and whether all of it decodes (`clean`). `difference`: what the
    cache has otherwise, or nothing; `encoded`: whether embeddings were compared too.
    """

    frames: int
    clean: bool
    difference: str = ""
    encoded: bool = False


@dataclass(frozen=True, kw_only=True)
class Examiner(Sandbox):
    """A process that examines clips, with the encoder of that file."""

    encoder: Path | None

    def prepare(self) -> None:
        global _encoder
        _encoder = self.encoder
        torch.set_num_threads(1)


_encoder: Path | None  # of this process


@cache
def _model() -> MNASNet:
    assert _encoder is not None
    return plain_model(_encoder)


def decode_alone(path: Path) -> Seen:
    """What PyAV makes of a clip that the cache has not."""
    with bounded():
        frames = PlainFrames(path)
        return Seen(sum(1 for _ in frames), frames.clean)


def compare(path: Path, cached: np.ndarray, encode: bool) -> Seen:
    """What PyAV makes of a clip, and whether VideoReader and the cache, float16 (frames, 256), have just that."""
    with bounded():
        plain = PlainFrames(path)
        count, rows, difference = 0, [], ""
        for ours, theirs in zip_longest(_ours(path), plain):
            if ours is None or theirs is None or not np.array_equal(ours, theirs):
                more = {ours is None: "PyAV has more frames", theirs is None: "PyAV has fewer frames"}
                difference = difference or f"frame {count}: {more.get(True, 'other pixels')}"
            count += theirs is not None
            encode = encode and theirs is not None and _fits(theirs)
            if encode:
                rows.append(theirs)
        if not difference and count != len(cached):
            difference = f"{len(cached)} frames in the cache, {count} by PyAV"
        if encode and not difference:
            difference = _other_embeddings(rows, cached)
        return Seen(count, plain.clean, difference, encode)


class PlainFrames:
    """The frames of a file by PyAV on one thread, one after another, as RGB. `clean`: no packet has raised so far."""

    def __init__(self, path: Path) -> None:
        self._path, self.clean = path, True

    def __iter__(self) -> Iterator[np.ndarray]:
        av.logging.set_level(None)
        try:
            path = self._path.absolute()
            with av.open(str(path), format=_transport_stream(path), metadata_errors="replace") as container:
                stream = container.streams.video[0]
                stream.codec_context.thread_count = 1
                for packet in container.demux(stream):
                    for frame in self._decoded(packet):
                        rearm()
                        yield frame.to_ndarray(format="rgb24")
        except (av.error.FFmpegError, IndexError, AttributeError):  # the latter: no stream, or an unknown codec
            self.clean = False

    def _decoded(self, packet: av.Packet) -> list[av.VideoFrame]:
        try:
            return packet.decode()  # type: ignore[return-value]
        except av.error.InvalidDataError:
            self.clean = False
            return []


def _transport_stream(path: Path) -> str | None:
    """The format of a file that begins as an MPEG transport stream: FFmpeg takes damaged ones for others."""
    with path.open("rb") as file:
        head = file.read(4 * _PACKET)
    return "mpegts" if len(head) == 4 * _PACKET and set(head[::_PACKET]) == {ord("G")} else None


def _ours(path: Path) -> Iterator[np.ndarray]:
    try:
        with VideoReader(path, on_frame=rearm) as video:
            for chunk in video.chunks(2):
                yield from chunk
    except ClipError as error:
        yield np.array(str(error))  # equal to no frame


def _fits(frame: np.ndarray) -> bool:
    height, width = frame.shape[:2]
    scale = 256 / min(height, width)
    return 3 * 4 * height * width * max(1.0, scale * scale) <= _LARGEST


@torch.inference_mode()
def _other_embeddings(frames: list[np.ndarray], cached: np.ndarray) -> str:
    transform = MNASNet0_5_Weights.IMAGENET1K_V1.transforms()
    crops = torch.stack([transform(torch.from_numpy(frame).permute(2, 0, 1)) for frame in frames])
    expected = torch.cat([_model()(batch) for batch in crops.split(_BATCH)])
    return differs(torch.from_numpy(cached).float(), expected)


def differs(found: Tensor, expected: Tensor) -> str:
    """Which embedding is furthest from what is expected, if it is too far."""
    error = (found - expected).abs().amax(1) / expected.abs().amax(1)
    worst = int(error.argmax())
    return "" if error[worst] <= _ALLOWED else f"frame {worst}: its embedding is {error[worst]:.2g} off"
