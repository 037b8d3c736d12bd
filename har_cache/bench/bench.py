"""What this machine does, part by part, each beside what bounds it: all measured in one run, so that ratios hold."""

import multiprocessing
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data.hmdb51 import CLASSES, FRAMES, TRAIN_CLIPS
from ..progress import Progress
from ..settings import BenchSettings
from ..system import default_workers, describe, resolve_device
from . import naive
from .extraction import UNIT, Extraction, cycled
from .measurements import Figure, Ledger
from .training import FRAMES as FRAMES_A_CLIP
from .training import HeadTraining

EPOCHS = 64
_PLAIN, _TRAINING, _TRAIN_HEAD = "plain way", "plain training", "train the head"
_PLAIN_CLIPS, _TRAINED_CLIPS = 10, 6


@dataclass(frozen=True)
class Result:
    """Figures, and what follows from them: `bound_by` is the part that bounds stage one; `hours` are those that
    HMDB51 would take: to extract, to train a head for 64 epochs, and to train the plain way for as many.
    """

    machine: dict[str, Any]
    device: str
    workers: int
    precision: str
    figures: tuple[Figure, ...]
    bound_by: str
    hours: dict[str, float]


def bench(settings: BenchSettings, progress: Progress = Progress()) -> Result:
    """Measure. Raises HarCacheError on bad settings, or data of which no clip can be decoded."""
    settings.check()
    workers = settings.workers or default_workers()
    device = resolve_device(settings.device)
    ledger = Ledger()
    with tempfile.TemporaryDirectory(prefix="har-cache-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        progress.say("Preparing: an encoder for these clips, and a stand-in for HMDB51's cache")
        extraction = Extraction(settings.data, folder / "extraction", device, workers, settings.seconds, stack)
        head = HeadTraining(folder / "training", device)
        for i in range(settings.repeats):
            progress.say(f"Run {i + 1} of {settings.repeats}: {workers} workers, {device}, {extraction.precision}")
            extraction.measure(ledger)
            if settings.baseline:
                _measure_baseline(ledger, extraction, device)
            head.measure(ledger)
    chosen = f"encode {extraction.precision}"
    bound_by = min(("decode", "transform", chosen), key=lambda part: ledger[part].median)
    return Result(
        describe(), device, workers, extraction.precision, ledger.figures, bound_by.split()[0], _hours(ledger)
    )


def _measure_baseline(ledger: Ledger, extraction: Extraction, device: str) -> None:
    embedded, trained = (cycled(extraction.paths, count) for count in (_PLAIN_CLIPS, _TRAINED_CLIPS))
    # In a process of its own, as it would be: in this one its memory is already at hand, which makes it faster.
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        frames, clips = pool.apply(naive.measure, (device, CLASSES, embedded, trained, FRAMES_A_CLIP))
    ledger.book(_PLAIN, UNIT, frames)
    ledger.book(_TRAINING, "clips/s", clips)


def _hours(ledger: Ledger) -> dict[str, float]:
    steps = EPOCHS * TRAIN_CLIPS
    seconds = {
        "extract": FRAMES / ledger["pipeline"].median,
        f"train the head, {EPOCHS} epochs": steps / ledger[_TRAIN_HEAD].median,
    }
    if _TRAINING in ledger:
        seconds[f"train the plain way, {EPOCHS} epochs"] = steps / ledger[_TRAINING].median
    return {what: value / 3600 for what, value in seconds.items()}
