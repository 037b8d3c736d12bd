"""Parts of the pipeline, each over and over for a few seconds: what `bench` runs in worker processes, all at once."""

import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from ..encoder.encoder import CPU_BATCH
from ..encoder.transform import crop
from ..video.container import opened
from ..workers import tasks as worker
from ..workers.sandbox import bounded

_STEPS_AHEAD = 8  # submitted to a device before waiting for it


@bounded()
def decode(paths: tuple[Path, ...], seconds: float) -> float:
    """Clips to RGB frames."""
    return _clocked((len(chunk) for path in itertools.cycle(paths) for chunk in _chunks(path)), seconds)


@bounded()
def bare_decode(paths: tuple[Path, ...], seconds: float) -> float:
    """The video codec alone, on one thread, nothing converted: what decoding cannot be faster than."""
    return _clocked(_bare_frames(paths), seconds)


@bounded()
def transform(path: Path, seconds: float) -> float:
    """The frames at the start of a clip to crops."""
    chunk = next(_chunks(path))
    return _clocked((len(batch) for batch in _batches(itertools.repeat(chunk))), seconds)


@bounded()
def copy(path: Path, seconds: float) -> float:
    """The same frames read, and as many bytes written as their crops have: what the transform cannot be faster than."""
    chunk = torch.from_numpy(next(_chunks(path)))
    crops = torch.empty_like(crop(chunk))
    return _clocked((len(chunk.clone()) + 0 * len(crops.clone()) for _ in itertools.count()), seconds)


@bounded()
def encode(path: Path, seconds: float) -> float:
    """Crops to embeddings, in full batches."""
    crops = next(_batches(itertools.cycle(_chunks(path))))
    embedded = (worker.encoder()(crops).to(torch.float16).numpy() for _ in itertools.count())
    return _clocked((CPU_BATCH for _ in embedded), seconds)


@bounded()
def multiply(dtype: str, seconds: float) -> float:
    """Products of square matrices, as multiplications and additions: what the encoder cannot be faster than."""
    product = products(dtype, "cpu", 512)
    return _clocked((product() for _ in itertools.count()), seconds)


def products(dtype: str, device: str, size: int) -> Callable[[], int]:
    """A function that multiplies two square matrices, and gives how many operations that takes."""
    a, b = torch.randn(2, size, size, device=device).to(getattr(torch, dtype))

    def product() -> int:
        torch.mm(a, b)
        return 2 * size**3

    return product


def on_device(step: Callable[[], int], seconds: float, device: str) -> float:
    """What `step` counts in a second on a CUDA device."""

    def finished() -> Iterator[int]:
        while True:
            count = sum(step() for _ in range(_STEPS_AHEAD))
            torch.cuda.synchronize(device)
            yield count

    return _clocked(finished(), seconds)


def _chunks(path: Path) -> Iterator[np.ndarray]:
    with worker.open_video(path) as video:
        yield from worker.chunks(video)


def _batches(chunks: Iterator[np.ndarray]) -> Iterator[torch.Tensor]:
    return worker.batches(chunks, worker.StageTimer())


def _bare_frames(paths: tuple[Path, ...]) -> Iterator[int]:
    for path in itertools.cycle(paths):
        with opened(path) as video:
            yield from (1 for _ in video.container.decode(video.stream))


def _clocked(steps: Iterator[int], seconds: float) -> float:
    """Take steps for so many seconds, after a tenth of that to warm up; gives what they count in a second."""
    total, begun, warm = 0, time.perf_counter(), False
    for count in steps:
        total += count
        passed = time.perf_counter() - begun
        if not warm and passed >= seconds / 10:
            total, begun, warm = 0, time.perf_counter(), True
        elif warm and passed >= seconds:
            return total / passed
    raise AssertionError("steps ended")
