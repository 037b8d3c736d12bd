"""The figures of the models of several splits and seeds together."""

import math
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ..data.leakage import CLEAN
from ..statistics.intervals import Interval, mean_accuracy_interval
from .results import SCHEMA, Evaluation, Metrics
from .tables import ClipPrediction


def summarise(evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    """Figures of the models of several splits and seeds together, as JSON types: the mean of each and what it is the
    mean of, None where fewer than two models have it. `leaking`: how many of them know clips, or siblings of clips,
    that they are scored on. `seeds`: of models that differ in their seed alone, how many there are for each list, and
    the standard deviation of top-1 among them, pooled over lists: that of training, where the interval is that of
    films; None where each list has one model.

    Of `top1` and `clean_top1` an interval, in which a film counts once for all test lists. Of splits there is no
    standard deviation: training lists and test lists share clips, and no estimate of it from the splits is unbiased
    (Bengio and Grandvalet 2004).
    """
    all_metrics = [evaluation.metrics for evaluation in evaluations]
    clean = [[p for p in evaluation.predictions if p.subset == CLEAN] for evaluation in evaluations]
    top1 = _over(m.top1 for m in all_metrics)
    clean_top1 = _over(m.leakage.clean.top1 for m in all_metrics)
    linear = {name: [getattr(m, name) for m in all_metrics] for name in ("linear_on_mean", "linear_on_moments")}
    figures = ("top5", "loss", "macro_f1", "mean_class_accuracy")
    return {
        "schema": SCHEMA,
        "splits": [
            {"trained_on": m.trained_on, "tested_on": m.split, "seed": m.seed, "top1": m.top1} for m in all_metrics
        ],
        "seeds": _over_seeds(all_metrics),
        "chance": all_metrics[0].chance,
        "top1": top1 and {**top1, "interval": _interval(evaluation.predictions for evaluation in evaluations)},
        **{name: _over(getattr(m, name) for m in all_metrics) for name in figures},
        "leaking": sum(m.leakage.leaks for m in all_metrics),
        "clean_top1": clean_top1 and {**clean_top1, "interval": _interval(filter(None, clean))},
        **{name: _over(probe and probe.top1 for probe in probes) for name, probes in linear.items()},
    }


def _over_seeds(all_metrics: Sequence[Metrics]) -> dict[str, Any] | None:
    by_list: dict[tuple[int | None, int], list[float]] = {}
    for metrics in all_metrics:
        by_list.setdefault((metrics.trained_on, metrics.split), []).append(metrics.top1)
    several = [values for values in by_list.values() if len(values) > 1]
    if not several:
        return None
    squares = sum(statistics.variance(values) * (len(values) - 1) for values in several)
    freedom = sum(len(values) - 1 for values in several)
    return {"each_list": min(map(len, several)), "standard_deviation": math.sqrt(squares / freedom)}


def _over(values: Iterable[float | None]) -> dict[str, Any] | None:
    each = list(values)
    known = [value for value in each if value is not None]
    return {"mean": statistics.mean(known), "each": each} if len(known) > 1 else None


def _interval(lists: Iterable[Sequence[ClipPrediction]]) -> Interval | None:
    return mean_accuracy_interval(
        [(np.array([p.correct for p in predictions]), [p.film for p in predictions]) for predictions in lists]
    )
