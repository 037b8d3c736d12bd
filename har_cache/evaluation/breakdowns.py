"""The predictions of an evaluation, class by class and by the length of clips: from predictions.csv, as it stands."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..statistics.intervals import Interval, accuracy_interval
from .tables import ClipPrediction

_QUARTERS = (0.25, 0.5, 0.75)


@dataclass(frozen=True)
class LengthAccuracy:
    """Accuracy on the clips of `least` to `most` frames."""

    least: int
    most: int
    clips: int
    top1: float
    interval: Interval | None


def by_length(predictions: Sequence[ClipPrediction]) -> tuple[LengthAccuracy, ...]:
    """Accuracy on each quarter of the clips, the shortest first; empty where lengths are not known, or all alike."""
    known = [(p.frames, p) for p in predictions if p.frames is not None]
    if not known:
        return ()
    frames = np.array([length for length, _ in known])
    place = np.searchsorted(np.unique(np.quantile(frames, _QUARTERS, method="higher")), frames, side="right")
    found = []
    for group in np.unique(place):
        rows = np.flatnonzero(place == group)
        top1, interval = _accuracy([known[i][1] for i in rows])
        found.append(LengthAccuracy(int(frames[rows].min()), int(frames[rows].max()), len(rows), top1, interval))
    return tuple(found) if len(found) > 1 else ()


def class_intervals(predictions: Sequence[ClipPrediction]) -> dict[str, Interval | None]:
    """The 95% interval of the recall of each class that has clips, by its name; None for fewer than ten films."""
    members: dict[str, list[ClipPrediction]] = {}
    for prediction in predictions:
        members.setdefault(prediction.true, []).append(prediction)
    return {name: _accuracy(clips)[1] for name, clips in members.items()}


def taken_for(predictions: Sequence[ClipPrediction]) -> Mapping[str, Counter[str]]:
    """How many clips of each class were taken for which, by the true class and then by the predicted one."""
    found: dict[str, Counter[str]] = {}
    for prediction in predictions:
        found.setdefault(prediction.true, Counter())[prediction.predicted] += 1
    return found


def _accuracy(predictions: Sequence[ClipPrediction]) -> tuple[float, Interval | None]:
    correct = np.array([prediction.correct for prediction in predictions])
    return float(correct.mean()), accuracy_interval(correct, [prediction.film for prediction in predictions])
