"""Tasks of worker processes: a clip in, what is asked of it out, on one thread.

A decoder that hangs, eats memory or crashes takes its process with it; the pool replaces the process and the
parent tells the user which clip it was.
"""

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..cache.record import ClipRecord, source_sha256
from ..encoder.architectures.eager import EagerEncoder, batch_size
from ..encoder.architectures.packing import Packed, unpack, warm_up
from ..encoder.encoder import CPU_BATCH, Encoder
from ..encoder.transform import DEFAULT, Square, Transform, crop, pictures
from ..errors import ClipError
from ..settings.names import CENTER
from ..video.decode import VideoReader, read_frames, spread
from ..video.pixels import Pixels, Tables, store_rgb
from ..video.sampling import Sampling
from ..video.thumbnails import Thumbnails
from .memory import open_array
from .ring import Ring
from .watchdog import CHUNK_BYTES, Sandbox, bounded, rearm

_LONGEST_SAMPLED = 1000


@dataclass(frozen=True)
class Job(Sandbox):
    """Job of a worker: how to decode, and (for embedding) the encoder, how to run it, and the transform of its recipe.

    `rings`: names of those that it may be told to decode to; `tables`: names of arrays of `rgb_table`, by kind, where
    frames may go as planes; `frames`: which of a clip are embedded, as `Sampling.text` has it; `nice`: how far it
    stands back behind other processes.
    """

    decoder: str
    encoder: Packed | None = None
    precision: str = "fp32"
    views: tuple[str, ...] = (CENTER,)
    rings: tuple[str, ...] = ()
    tables: tuple[tuple[Pixels, str], ...] = ()
    frames: str | None = None
    nice: int = 0
    transform: Transform = DEFAULT

    def prepare(self) -> None:
        """Set up the encoder and the rings of this process."""
        global _job, _encoder, _rings, _tables, _sampling
        _job = self
        _sampling = Sampling.parse(self.frames)
        os.nice(self.nice)
        torch.set_num_threads(1)
        _encoder = unpack(self.encoder, self.precision, self.views) if self.encoder else None
        if _encoder:
            warm_up(_encoder)  # before memory is bounded
        _rings = {name: Ring(name) for name in self.rings}  # once: the kernel then has to map each page only once
        _tables = {pixels: open_array(name, np.uint32) for pixels, name in self.tables}


# Of this process, by design: a pool prepares each of its processes once, with one job.
_job: Job
_encoder: Encoder | EagerEncoder | None = None
_rings: dict[str, Ring]
_tables: Tables
_sampling = Sampling()


def embed(key: str, path: Path, thumbnails: Thumbnails | None = None) -> ClipRecord:
    """Decode, transform and encode a whole clip, or those of its frames that the job says. Raises ClipError; dies on a
    stall or for want of memory.
    """
    timer = StageTimer()
    parts = []
    with bounded(), open_video(path) as video:
        frames = thumbnails.watch(chunks(video)) if thumbnails else chunks(video)
        for seen in batches(frames, timer, _job.views, _job.transform):
            parts.append(encoder()(*seen).to(torch.float16).numpy())
            timer.record("encode")
    embeddings = np.concatenate(parts, axis=1)
    check_finite(embeddings)
    return _record(key, path, video, embeddings.shape[1], timer, embeddings)


def embed_with_thumbnails(key: str, path: Path, side: int, most: int) -> tuple[ClipRecord, dict[int, bytes]]:
    """`embed`, and pictures of the same frames: the `jpegs` of `Thumbnails(side, most)`."""
    thumbnails = Thumbnails(side, most)
    return embed(key, path, thumbnails), thumbnails.jpegs


def decode(key: str, path: Path, ring: str) -> ClipRecord:
    """Decode the frames that `embed` embeds into the ring of that name, one of the job's; those that a worker wrote
    before it died over this clip are there. Raises ClipError or dies as `embed` does.
    """
    timer = StageTimer()
    frames, there = 0, _rings[ring].written
    with bounded(), open_video(path) as video:
        for frame in video.stored(_tables):
            timer.record("decode")
            if frames >= there:
                _rings[ring].write(frame, rearm)
            timer.skip()
            frames += 1
        timer.record("decode")
    return _record(key, path, video, frames, timer)


def pick(path: Path, numbers: Sequence[int], square: Square, most: int, ring: str) -> float:
    """Hand over those of the frames that `embed` embeds with these numbers through the ring of that name, as decoded
    where each takes `most` bytes at most, else made squares; gives the seconds that took. Raises ClipError or dies as
    `embed` does.
    """
    begun = time.perf_counter()
    with bounded():
        for frame in read_frames(path, numbers[_rings[ring].written :], rearm, _sampling):
            if frame.nbytes > most:
                frame = square.of(torch.from_numpy(frame[None]))[0].numpy()
            _rings[ring].write(store_rgb(frame), rearm)
    return time.perf_counter() - begun


def sample(path: Path, count: int) -> np.ndarray:
    """`count` frames spread evenly over the clip (all where it has fewer): uint8 (n, 3, 224, 224).

    Of all of its frames, whichever are embedded: so the encoder that is fitted on them is the same.
    """
    with bounded(), open_video(path, Sampling()) as video:
        frames = video.info.declared_frames or _counted(path)
        wanted = spread(min(frames, _LONGEST_SAMPLED), count)
        crops = [_cropped(frame) for frame in video.frames(wanted)]
    if not crops:
        raise ClipError("too short to sample")
    return torch.cat(crops).numpy()


def features(path: Path, count: int) -> np.ndarray:
    """Features before the projection of the frames that `sample` takes: float32 (n, features)."""
    crops = torch.from_numpy(sample(path, count)).split(batch_size(_job.transform))
    return torch.cat([encoder().features(part.float()) for part in crops]).numpy()


def open_video(path: Path, sampling: Sampling | None = None) -> VideoReader:
    """Open a clip as the job says, or with another sampling; each frame puts the watchdog off."""
    return VideoReader(path, _job.decoder, rearm, sampling or _sampling)


def chunks(video: VideoReader) -> Iterator[np.ndarray]:
    """The frames of a clip, as many at a time as a batch holds where memory allows."""
    return video.chunks(_chunk_size(video.info.width * video.info.height * 3, batch_size(_job.transform)))


def batches(
    chunks: Iterator[np.ndarray],
    timer: "StageTimer",
    views: Sequence[str] = (CENTER,),
    transform: Transform = DEFAULT,
) -> Iterator[list[Tensor]]:
    """Pictures for these views in the encoder's batches, the clip's last one smaller: the same whatever the chunks."""
    size = batch_size(transform)
    waiting: list[list[Tensor]] = []
    for chunk in chunks:
        timer.record("decode")
        waiting.append(list(pictures(torch.from_numpy(chunk), views, transform)))
        timer.record("transform")
        if len(waiting) * len(chunk) >= size:
            yield waiting[0] if len(waiting) == 1 else _joined(waiting)  # a copy costs 0.1 ms a frame
            waiting = []
    timer.record("decode")
    if waiting:
        yield _joined(waiting)


def _joined(parts: list[list[Tensor]]) -> list[Tensor]:
    return [torch.cat(row) for row in zip(*parts, strict=True)]


def encoder() -> Encoder | EagerEncoder:
    """This process's encoder. Raises AssertionError where its job has none."""
    assert _encoder is not None
    return _encoder


def transform() -> Transform:
    """That of this process's job."""
    return _job.transform


def tables() -> Tables:
    """This process's tables of colours."""
    return _tables


def check_finite(embeddings: np.ndarray) -> None:
    """Raise ClipError where float16 embeddings hold an infinity or a NaN."""
    if not np.isfinite(embeddings).all():
        raise ClipError("its embeddings are not finite in float16: these weights do not suit")


class StageTimer:
    """Seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def record(self, stage: str) -> None:
        """Add the time since the last call to `stage`."""
        self.seconds[stage] = self.seconds.get(stage, 0.0) + self.skip()

    def skip(self) -> float:
        """Leave the time since the last call out; gives it."""
        last, self._last = self._last, time.perf_counter()
        return self._last - last


def _record(
    key: str, path: Path, video: VideoReader, frames: int, timer: StageTimer, embeddings: np.ndarray | None = None
) -> ClipRecord:
    info, times = video.info, np.array(video.times)
    digest = source_sha256(path)
    return ClipRecord(key, frames, info.fps, info.declared_frames, digest, "", embeddings, timer.seconds, times)


def _cropped(frame: np.ndarray) -> Tensor:
    """uint8 (1, 3, side, side)."""
    return crop(torch.from_numpy(frame[None]), _job.transform.crop, _job.transform).to(torch.uint8)


def _counted(path: Path) -> int:
    """The frames of a clip that declares no number (MKV, WebM), as far as they are sampled."""
    with open_video(path, Sampling()) as video:
        return video.count(_LONGEST_SAMPLED)


def _chunk_size(frame_bytes: int, size: int = CPU_BATCH) -> int:
    """Frames to decode at a time: a power of two up to the `size` of a batch, at most 32 MiB where frames allow."""
    while size > 1 and size * frame_bytes > CHUNK_BYTES:
        size //= 2
    return size
