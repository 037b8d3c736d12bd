"""The standard error of a figure on clips, by films: clips of one film are right or wrong together."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Mean:
    """A mean over clips of so many films. `error`: its standard error, which few films give roughly, to be used with
    Student's t of one degree of freedom less than there are films; None for one film.
    """

    value: float
    error: float | None
    films: int


def mean_by_film(values: np.ndarray, films: Sequence[str]) -> Mean:
    """The mean of `values`, real numbers (clips), one clip or more, by the film of each clip."""
    names, place = np.unique(np.asarray(films, str), return_inverse=True)
    count, mean = len(names), float(np.mean(values))
    if count < 2:
        return Mean(mean, None, count)
    sums, clips = np.bincount(place, values), np.bincount(place)
    without = (sums.sum() - sums) / (clips.sum() - clips)
    return Mean(mean, standard_error(without - mean), count)


def standard_error(changes: np.ndarray) -> float:
    """Of a figure, by the jackknife (Efron and Stein 1981), from how it changes without each film, float (films)."""
    count = len(changes)
    return float(np.sqrt((count - 1) / count * (changes**2).sum()))
