"""How fast a training from raw frames goes, and what holds it up: its frames, or its own sums."""

import time
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch import Callback

from ..workers.prefetch import LoaderStats as Clock


@dataclass(frozen=True)
class Pace:
    """Clips per second: what training achieved, what its workers alone decode, and what the device alone trains on.
    `waited`: the share of the time that training waited for frames.
    """

    achieved: float
    decode: float
    compute: float
    waited: float


class Pacer(Callback):
    """Measures the pace of training, validation left out.

    `clock`: that of the batches. On CUDA a step takes the time that the device needs for it; the worker processes of
    the CPU share it with what is trained, and decode alone what they decode in the time that they were given.
    """

    def __init__(self, clock: Clock, workers: int, device: str) -> None:
        self._clock, self._workers, self._cuda = clock, workers, device == "cuda"
        self._begun = self._passed_s = self._compute_s = 0.0
        self._spans: list[tuple[Any, Any]] = []
        self._start: Any = None

    @property
    def pace(self) -> Pace | None:
        """The pace so far; None where nothing was trained."""
        clips = self._clock.clips
        if not (clips and self._compute_s and self._clock.busy_s):
            return None
        return Pace(
            achieved=clips / self._passed_s,
            decode=self._workers * clips / self._clock.busy_s,
            compute=clips / self._compute_s,
            waited=self._clock.waited_s / self._passed_s,
        )

    def on_train_epoch_start(self, *_: Any) -> None:
        """Start the clock."""
        self._begun = time.perf_counter()

    def on_train_batch_start(self, *_: Any) -> None:
        """The batch is there: a step starts."""
        self._start = self._mark()

    def on_train_batch_end(self, *_: Any) -> None:
        """The step is over, or on its way to the device."""
        self._spans.append((self._start, self._mark()))

    def on_validation_start(self, *_: Any) -> None:
        """Training's part of the epoch is over."""
        if self._cuda:
            torch.cuda.synchronize()
        self._passed_s += time.perf_counter() - self._begun
        spans, self._spans = self._spans, []
        self._compute_s += sum(a.elapsed_time(b) / 1000 if self._cuda else b - a for a, b in spans)

    def _mark(self) -> Any:
        if not self._cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event
