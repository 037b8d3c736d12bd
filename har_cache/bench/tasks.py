"""Parts of the pipeline, each over and over for a few seconds: what `bench` runs in worker processes, all at once."""

import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch

from ..encoder.transform import crop
from ..extraction.gpu.feed import RING_BYTES
from ..video.container import opened
from ..workers import tasks as worker
from ..workers.watchdog import bounded

_STEPS_AHEAD = 8  # submitted to a device before waiting for it


@bounded()
def decode(paths: tuple[Path, ...], seconds: float) -> float:
    """Clips to RGB frames."""
    frames = (len(chunk) for path in itertools.cycle(paths) for chunk in _chunks(path))
    return _clocked(lambda: next(frames), seconds)


@bounded()
def store(paths: tuple[Path, ...], seconds: float) -> float:
    """Clips to frames as they are handed over to a GPU, one after another in memory as large as a ring."""
    ring = np.empty(RING_BYTES, np.uint8)
    frames = _stored(itertools.cycle(paths), ring)
    return _clocked(lambda: next(frames), seconds)


@bounded()
def bare_decode(paths: tuple[Path, ...], seconds: float) -> float:
    """The video codec alone, on one thread, nothing converted: what decoding cannot be faster than."""
    frames = _bare_frames(paths)
    return _clocked(lambda: next(frames), seconds)


@bounded()
def transform(path: Path, seconds: float) -> float:
    """The frames at the start of a clip to crops."""
    chunk = next(_chunks(path))
    batches = _batches(itertools.repeat(chunk))
    return _clocked(lambda: len(next(batches)[0]), seconds)


@bounded()
def copy(path: Path, seconds: float) -> float:
    """The same frames read, and as many bytes written as their crops have: what the transform cannot be faster than."""
    chunk = torch.from_numpy(next(_chunks(path)))
    crops = torch.empty_like(crop(chunk, worker.transform().crop, worker.transform()))
    return _clocked(lambda: len(chunk.clone()) + 0 * len(crops.clone()), seconds)


@bounded()
def encode(path: Path, seconds: float) -> float:
    """Crops to embeddings, in full batches."""
    seen = next(_batches(itertools.cycle(_chunks(path))))
    return _clocked(lambda: worker.encoder()(*seen).to(torch.float16).numpy().shape[1], seconds)


@bounded()
def multiply(dtype: str, seconds: float) -> float:
    """Products of square matrices, as multiplications and additions: what the encoder cannot be faster than."""
    return _clocked(products(dtype, "cpu", 512), seconds)


def products(dtype: str, device: str, size: int) -> Callable[[], int]:
    """A function that multiplies two square matrices, and gives how many operations that takes."""
    a, b = torch.randn(2, size, size, device=device).to(getattr(torch, dtype))

    def product() -> int:
        torch.mm(a, b)
        return 2 * size**3

    return product


def on_device(step: Callable[[], int], seconds: float, device: str) -> float:
    """Speed of `step` on a device: its count a second."""

    def finished() -> int:
        count = sum(step() for _ in range(_STEPS_AHEAD))
        if torch.device(device).type == "cuda":
            torch.cuda.synchronize(device)
        return count

    return _clocked(finished, seconds)


def _chunks(path: Path) -> Iterator[np.ndarray]:
    with worker.open_video(path) as video:
        yield from worker.chunks(video)


def _batches(chunks: Iterator[np.ndarray]) -> Iterator[list[torch.Tensor]]:
    return worker.batches(chunks, worker.StageTimer(), transform=worker.transform())


def _stored(paths: Iterable[Path], ring: np.ndarray) -> Iterator[int]:
    end = 0
    for path in paths:
        with worker.open_video(path) as video:
            for layout, planes in video.stored(worker.tables()):
                start = end if end + layout.frame_bytes <= len(ring) else 0
                end = start + layout.frame_bytes
                layout.fill(ring[start:end], planes)
                yield 1


def _bare_frames(paths: tuple[Path, ...]) -> Iterator[int]:
    for path in itertools.cycle(paths):
        with opened(path) as video:
            yield from (1 for _ in video.container.decode(video.stream))


def _clocked(step: Callable[[], int], seconds: float) -> float:
    """Speed of `step`: its count a second, taken for so many seconds, after a tenth of that to warm up."""
    total, begun, warm = 0, time.perf_counter(), False
    while True:
        total += step()
        passed = time.perf_counter() - begun
        if not warm and passed >= seconds / 10:
            total, begun, warm = 0, time.perf_counter(), True
        elif warm and passed >= seconds:
            return total / passed
