"""The speed of this machine, part by part, each beside what bounds it: all in one run, so that ratios hold."""

import itertools
import multiprocessing
import statistics
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data.hmdb51 import CLASSES, FRAMES, TRAIN_CLIPS
from ..devices import resolve_device
from ..progress import Progress
from ..settings.tools import BenchSettings
from ..system import default_workers, describe
from . import naive
from .extraction import UNIT, Extraction
from .measurements import Figure, Measurements
from .training import FRAMES as FRAMES_A_CLIP
from .training import HeadTraining

EPOCHS = 64
_BASELINE, _BASELINE_TRAINING, _TRAIN_HEAD = "naive baseline", "naive training", "train the head"
_EMBEDDED_CLIPS, _TRAINED_CLIPS = 10, 6


@dataclass(frozen=True)
class Result:
    """Figures, and what follows from them: `bound_by` is the part that bounds stage one; `faster_than_baseline` how
    many times as fast as the naive baseline the pipeline is, the median over runs; `hours_for_hmdb51` those that it
    would take to extract, to train a head for 64 epochs, and to train the naive baseline for as many.
    """

    machine: dict[str, Any]
    device: str
    workers: int
    precision: str
    figures: tuple[Figure, ...]
    bound_by: str
    faster_than_baseline: float | None
    hours_for_hmdb51: dict[str, float]


def bench(settings: BenchSettings, progress: Progress = Progress()) -> Result:
    """Measure. Raises HarCacheError on bad settings, or data of which no clip can be decoded."""
    settings.check()
    workers = settings.workers or default_workers()
    device = resolve_device(settings.device, progress.say)
    measured = Measurements()
    with tempfile.TemporaryDirectory(prefix="har-cache-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        progress.say("Preparing: an encoder for these clips, and a stand-in for HMDB51's cache")
        extraction = Extraction(
            settings.data, folder / "extraction", device, workers, settings.seconds, stack, settings.encoder
        )
        head = HeadTraining(folder / "training", device)
        for i in range(settings.repeats):
            progress.say(f"Run {i + 1} of {settings.repeats}: {workers} workers, {device}, {extraction.precision}")
            extraction.measure(measured)
            if settings.baseline:
                _measure_baseline(measured, extraction, device, settings.encoder)
            head.measure(measured)
    chosen = f"encode {extraction.precision}"
    parts = [part for part in ("decode", "hand over", "transform", chosen) if part in measured]
    bound_by = min(parts, key=lambda part: measured[part].median)
    return Result(
        machine=describe(),
        device=device,
        workers=workers,
        precision=extraction.precision,
        figures=tuple(measured.values()),
        bound_by="encode" if bound_by == chosen else bound_by,
        faster_than_baseline=_times_baseline(measured) if settings.baseline else None,
        hours_for_hmdb51=_hours(measured),
    )


def _measure_baseline(measured: Measurements, extraction: Extraction, device: str, encoder: str) -> None:
    embedded, trained = (
        list(itertools.islice(itertools.cycle(extraction.paths), count)) for count in (_EMBEDDED_CLIPS, _TRAINED_CLIPS)
    )
    # In a process of its own, as it would be: in this one its memory is already at hand, which makes it faster. Nor in
    # a worker of the pool, which keeps freed memory and has one thread.
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        frames, clips = pool.apply(naive.measure, (device, CLASSES, encoder, embedded, trained, FRAMES_A_CLIP))
    measured.record(_BASELINE, UNIT, frames)
    measured.record(_BASELINE_TRAINING, "clips/s", clips)


def _times_baseline(measured: Measurements) -> float:
    pairs = zip(measured["pipeline"].runs, measured[_BASELINE].runs, strict=True)
    return statistics.median(ours / naive for ours, naive in pairs)


def _hours(measured: Measurements) -> dict[str, float]:
    steps = EPOCHS * TRAIN_CLIPS
    seconds = {
        "extract": FRAMES / measured["pipeline"].median,
        f"train the head, {EPOCHS} epochs": steps / measured[_TRAIN_HEAD].median,
    }
    if _BASELINE_TRAINING in measured:
        seconds[f"train the naive baseline, {EPOCHS} epochs"] = steps / measured[_BASELINE_TRAINING].median
    return {what: value / 3600 for what, value in seconds.items()}
