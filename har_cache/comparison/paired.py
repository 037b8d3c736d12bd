"""Two models on the same clips: how far apart they are, and whether these clips show it. Accuracies are shares of 1."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..statistics.intervals import LEVEL, Interval, least_difference_shown, mcnemar, mean_difference_interval


class ClipList(NamedTuple):
    """The clips of a test list that all models were scored on: their keys and films, and how many others there are."""

    split: int
    keys: tuple[str, ...]
    films: tuple[str, ...]
    left_out: int = 0


@dataclass(frozen=True)
class Difference:
    """A model, and how much more often than another one, the `reference`, it is right on the same clips.

    `difference`: of the accuracies `top1` and `reference_top1`, each the mean over test lists; `interval`: of it, at
    `level`, None for fewer than ten films. `fixed`, `broken`: clips that the model has right and the reference has not,
    and the reverse; None where one of them is a mean of several models. `p`: of McNemar's exact test; None, too, where
    a clip is in several lists. `shown`: whether the interval holds no 0. `least_shown`: the smallest true difference
    that such clips would show 8 times in 10; None where that cannot be known.
    """

    reference: str
    name: str
    reference_top1: float
    top1: float
    difference: float
    level: float
    interval: Interval | None
    fixed: int | None
    broken: int | None
    p: float | None
    shown: bool
    least_shown: float | None


def difference(
    reference: str,
    name: str,
    before: Sequence[np.ndarray],
    now: Sequence[np.ndarray],
    lists: Sequence[ClipList],
    comparisons: int = 1,
) -> Difference:
    """The difference of the model `name`, which has `now` right, to the reference, which has `before`.

    before, now: of each list which clips are right, float (clips): 1 or 0, or the share of several models that have it
    right. comparisons: how many are made and read together: the level is such that all their intervals hold the truth
    95 times in 100 or more, whatever they have in common (Bonferroni).
    """
    level = 1 - (1 - LEVEL) / comparisons
    gains = [(after - first, clips.films) for after, first, clips in zip(now, before, lists, strict=True)]
    interval = mean_difference_interval(gains, level)
    fixed, broken = _counts(before, now)
    keys = [key for clips in lists for key in clips.keys]
    counted = fixed is not None and broken is not None and len(set(keys)) == len(keys)
    tops = [float(np.mean([right.mean() for right in model])) for model in (before, now)]
    return Difference(
        reference=reference,
        name=name,
        reference_top1=tops[0],
        top1=tops[1],
        difference=tops[1] - tops[0],
        level=level,
        interval=interval,
        fixed=fixed,
        broken=broken,
        p=mcnemar(fixed, broken) if counted else None,  # type: ignore[arg-type]
        shown=interval is not None and not interval[0] <= 0 <= interval[1],
        least_shown=least_difference_shown(gains, level),
    )


def _counts(before: Sequence[np.ndarray], now: Sequence[np.ndarray]) -> tuple[int | None, int | None]:
    first, after = np.concatenate(before), np.concatenate(now)
    if not np.isin(np.concatenate([first, after]), (0, 1)).all():
        return None, None
    return int((after > first).sum()), int((first > after).sum())
