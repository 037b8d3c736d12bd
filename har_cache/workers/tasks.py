"""What runs inside a worker process: one clip at a time, on one thread, within bounds of time and memory.

A decoder that hangs, eats memory or crashes takes its process with it; the pool replaces the process and the
parent tells the user which clip it was.
"""

import contextlib
import ctypes
import hashlib
import os
import resource
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..encoder.encoder import CPU_BATCH, Encoder
from ..encoder.folded import FoldedEncoder
from ..encoder.transform import RESIZE, crop
from ..errors import ClipError
from ..video.decode import VideoInfo, probe, read_chunks, read_frames
from .ring import Ring

OUT_OF_MEMORY = 77  # exit status of a worker that met its memory limit
_CHUNK_BYTES = 32 << 20
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


@dataclass(frozen=True)
class Job:
    """What a worker needs to know: how to decode, and (for embedding) the encoder and how to run it.

    `stall_s`: seconds without a new chunk of frames after which the worker is killed; `memory_bytes`: address
    space it may take beyond what it has after its imports; `rings`: names of those that it may be told to decode to.
    """

    decoder: str
    encoder: FoldedEncoder | None = None
    precision: str = "fp32"
    views: tuple[str, ...] = ("center",)
    stall_s: float = 60.0
    memory_bytes: int = 2 << 30
    rings: tuple[str, ...] = ()


@dataclass
class Embedded:
    """A clip's embeddings, float16 (views, frames, 256), what is known of its file, and seconds by stage."""

    embeddings: np.ndarray
    fps: float
    declared_frames: int | None
    source_sha256: str
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass
class Decoded:
    """How many frames a clip gave, what is known of its file, and the seconds that decoding took."""

    frames: int
    fps: float
    declared_frames: int | None
    source_sha256: str
    decode_s: float


_job: Job
_encoder: Encoder | None = None
_rings: dict[str, Ring]


def start(job: Job) -> None:
    """Prepare this process: the pool calls it once, before the first clip."""
    global _job, _encoder, _rings
    _job = job
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    torch.set_num_threads(1)
    _keep_freed_memory()
    _encoder = Encoder(job.encoder, job.precision, job.views) if job.encoder else None
    _rings = {name: Ring(name) for name in job.rings}  # once: the kernel then has to map each page only once
    _limit_memory(job.memory_bytes)


def embed(path: Path) -> Embedded:
    """Decode, transform and encode a whole clip. Raises ClipError; dies on a stall or for want of memory."""
    clock = Stopwatch()
    parts = []
    with bounded():
        info = probe(path)
        for crops in batches(chunks(path, info), clock):
            parts.append(encoder()(crops).to(torch.float16).numpy())
            clock.lap("encode")
    embeddings = np.concatenate(parts, axis=1)
    check_finite(embeddings)
    return Embedded(embeddings, info.fps, info.declared_frames, source_sha256(path), clock.seconds)


def decode(path: Path, ring: str) -> Decoded:
    """Decode a whole clip into the ring of that name, one of the job's. Raises ClipError or dies as `embed` does."""
    clock = Stopwatch()
    frames = 0
    with bounded():
        info = probe(path)
        for chunk in chunks(path, info):
            clock.lap("decode")
            _rings[ring].write(chunk, _rearm)
            clock.lap("hand over")
            frames += len(chunk)
        clock.lap("decode")
    return Decoded(frames, info.fps, info.declared_frames, source_sha256(path), clock.seconds["decode"])


def count(path: Path) -> int:
    """Decode a whole clip to see whether that can be done: its frames. Raises ClipError or dies as `embed` does."""
    with bounded():
        return sum(len(chunk) for chunk in chunks(path, probe(path)))


def encoder() -> Encoder:
    """This process's encoder. Raises AssertionError where its job has none."""
    assert _encoder is not None
    return _encoder


def pick(path: Path, numbers: Sequence[int], ring: str) -> float:
    """Hand over the frames of a clip with these numbers, resized and cut to 256x256, through the ring of that name;
    gives the seconds that took. Raises ClipError or dies as `embed` does.
    """
    clock = Stopwatch()
    with bounded():
        probe(path)
        for frame in read_frames(path, numbers):
            side = crop(torch.from_numpy(frame[None]), RESIZE)
            clock.lap("decode")
            _rings[ring].write(side.permute(0, 2, 3, 1).to(torch.uint8).numpy(), _rearm)
            clock.lap("hand over")
            _rearm()
    return sum(clock.seconds.values())


def check_finite(embeddings: np.ndarray) -> None:
    """Raise ClipError where float16 embeddings hold an infinity or a NaN."""
    if not np.isfinite(embeddings).all():
        raise ClipError("its embeddings are not finite in float16: these weights do not suit")


def source_sha256(path: Path) -> str:
    """Hex sha256 of a clip's file; empty where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


class Stopwatch:
    """Seconds by stage: `lap(stage)` books the time since the last lap."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        """Book the time since the last lap on `stage`."""
        now = time.perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._last
        self._last = now


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """Kill this process when no chunk comes for `stall_s` (a kernel timer: it works whatever holds the GIL), and
    when memory runs out: a decoder that has just failed to get memory is in no known state.
    """
    _rearm()
    try:
        yield
    except (MemoryError, ClipError, RuntimeError) as error:
        if any(isinstance(e, MemoryError) or "can't allocate memory" in str(e) for e in (error, error.__cause__)):
            os._exit(OUT_OF_MEMORY)
        raise
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _rearm() -> None:
    signal.setitimer(signal.ITIMER_REAL, _job.stall_s)


def chunks(path: Path, info: VideoInfo) -> Iterator[np.ndarray]:
    """All frames of a clip, as many at a time as a batch holds where memory allows; each puts the watchdog off."""
    for chunk in read_chunks(path, _job.decoder, _chunk_size(info.width * info.height * 3)):
        yield chunk
        _rearm()


def _keep_freed_memory() -> None:
    """Have glibc reuse the big buffers of each chunk, instead of asking the kernel for zeroed pages every time
    (measured: the transform alone takes half the time).
    """
    with contextlib.suppress(OSError, AttributeError):  # another C library
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(_M_MMAP_THRESHOLD, _CHUNK_BYTES)
        libc.mallopt(_M_TRIM_THRESHOLD, 1 << 30)


def _limit_memory(extra: int) -> None:
    if not Path("/proc/self/statm").exists():  # no Linux
        return
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + extra
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))


def _chunk_size(frame_bytes: int) -> int:
    """Frames to decode at a time: a power of two up to the encoder's batch, at most 32 MiB where frames allow."""
    size = CPU_BATCH
    while size > 1 and size * frame_bytes > _CHUNK_BYTES:
        size //= 2
    return size


def batches(chunks: Iterator[np.ndarray], clock: Stopwatch) -> Iterator[Tensor]:
    """Crops in batches of CPU_BATCH, the clip's last one smaller: the same batches whatever the chunks."""
    waiting: list[Tensor] = []
    for chunk in chunks:
        clock.lap("decode")
        waiting.append(crop(torch.from_numpy(chunk)))
        clock.lap("transform")
        if len(waiting) * len(chunk) >= CPU_BATCH:
            yield waiting[0] if len(waiting) == 1 else torch.cat(waiting)  # a copy costs 0.1 ms a frame
            waiting = []
    clock.lap("decode")
    if waiting:
        yield torch.cat(waiting)
