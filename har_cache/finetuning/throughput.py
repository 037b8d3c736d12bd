"""Throughput of a training from raw frames, and what limits it: the decoding of its frames, or its own arithmetic."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from ..training.batches import Batch
from ..workers.prefetch import LoaderStats


@dataclass(frozen=True)
class Throughput:
    """Clips per second: what training achieved, what its workers alone decode, and what the device alone trains on.
    `waited`: the share of the time that training waited for frames.
    """

    achieved: float
    decode: float
    compute: float
    waited: float


class Stopwatch:
    """Measures the throughput of training, validation left out. `loader`: to be filled in by who loads the batches.

    On CUDA a step takes the time that the device needs for it; the worker processes of the CPU share it with what is
    trained, and decode alone what they decode in the time that they were given.
    """

    def __init__(self, workers: int, device: torch.device) -> None:
        self.loader, self._workers = LoaderStats(), workers
        self._device, self._cuda = device, device.type == "cuda"
        self._passed_s = self._compute_s = 0.0

    def timed(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The batches of an epoch; what happens until the next is asked for is a step."""
        begun, spans = time.perf_counter(), []
        for batch in batches:
            start = self._mark()
            yield batch
            spans.append((start, self._mark()))
        if self._cuda:
            torch.cuda.synchronize(self._device)
        self._passed_s += time.perf_counter() - begun
        self._compute_s += sum(a.elapsed_time(b) / 1000 if self._cuda else b - a for a, b in spans)

    @property
    def throughput(self) -> Throughput | None:
        """The throughput so far; None where nothing was trained."""
        clips = self.loader.clips
        if not (clips and self._compute_s and self.loader.busy_s):
            return None
        return Throughput(
            achieved=clips / self._passed_s,
            decode=self._workers * clips / self.loader.busy_s,
            compute=clips / self._compute_s,
            waited=self.loader.waited_s / self._passed_s,
        )

    def _mark(self) -> Any:
        if not self._cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return event
