"""An evaluation as the templates take it: tables, charts, the confusion matrix, errors."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..data.leakage import GROUPS
from ..errors import FileError, RunError
from ..evaluation import summary
from ..evaluation.breakdowns import by_length, class_intervals, taken_for
from ..evaluation.results import Evaluation, Metrics
from ..evaluation.tables import PER_CLASS, PER_CLASS_HEADER, ClipPrediction, read_rows
from ..model.run import METRICS, Run
from ..progress import Progress
from ..statistics.calibration import reliability
from ..training.checkpoints import read_metrics
from .pictures.charts import Chart, curves, reliability_diagram
from .pictures.strips import with_film_strips

_MISTAKES = 12
_FEW = 12  # classes, whose confusion matrix has room for words


@dataclass(frozen=True)
class Cell:
    """Clips of a class that were taken for a class, by their places, and their share of the class."""

    row: int
    column: int
    clips: int
    share: float

    @property
    def shade(self) -> float:
        """How dark it is: on a scale on which rare confusions can be seen."""
        return math.sqrt(self.share)


@dataclass(frozen=True)
class Matrix:
    """A confusion matrix: classes, how many clips each has, and the cells that are not empty, by row and column."""

    names: tuple[str, ...]
    clips: tuple[int, ...]
    cells: Mapping[tuple[int, int], Cell]

    @property
    def small(self) -> bool:
        """Whether there is room for words."""
        return len(self.names) <= _FEW


def figures(evaluations: Sequence[Evaluation], videos: Mapping[str, Path] | None, progress: Progress) -> dict[str, Any]:
    """The context of a model: its first evaluation in full, the others beside it. Raises RunError where a table is
    missing or damaged.
    """
    first = evaluations[0]
    metrics, predictions = first.metrics, first.predictions
    classes = _classes(first)
    wrong = [prediction for prediction in predictions if not prediction.correct]
    surest = [vars(p) for p in sorted(wrong, key=lambda p: (-(p.probability or 0.0), p.key))[:_MISTAKES]]
    return {
        "metrics": metrics,
        "test_lists": [test_list(evaluation.metrics) for evaluation in evaluations],
        "matrix": _matrix([row["class"] for row in classes], predictions),
        "classes": classes,
        "tags": list(_tags(metrics)),
        "lengths": by_length(predictions),
        "calibration": _calibration(predictions),
        "pairs": [{**vars(pair), "pair": f"{pair.true} \u2192 {pair.predicted}"} for pair in metrics.confused],
        "wrong": len(wrong),
        "mistakes": surest if videos is None else list(with_film_strips(surest, videos, progress)),
    }


def training_curves(run: Run) -> tuple[Chart, ...]:
    """Loss and accuracy by epoch; none where the run has no metrics.csv. Raises RunError where that is damaged."""
    if not (run.path / METRICS).exists():
        return ()
    return curves(read_metrics(run.path), run.config.best.epoch if run.config.best else 0)


def test_list(metrics: Metrics) -> dict[str, Any]:
    """The row of a test list, beside others."""
    groups = metrics.leakage
    seed = f", seed {metrics.seed}" if metrics.seed else ""
    return {
        "list": f"split {metrics.split} (trained on {metrics.trained_on}{seed})",
        "clips": metrics.clips,
        "top1": metrics.top1,
        "leaks": groups.leaks,
        **{group: getattr(groups, group).clips for group in GROUPS},
        "clean_top1": groups.clean.top1,
        "clean_interval": groups.clean.interval,
        "other_class": groups.other_class and groups.other_class.clips,
        "other_class_top1": groups.other_class and groups.other_class.top1,
        "linear_on_mean": metrics.linear_on_mean and metrics.linear_on_mean.top1,
        "linear_on_moments": metrics.linear_on_moments and metrics.linear_on_moments.top1,
    }


def _classes(evaluation: Evaluation) -> list[dict[str, Any]]:
    """per_class.csv, with intervals, and all classes that each was taken for."""
    try:
        rows = read_rows(evaluation.folder / PER_CLASS, PER_CLASS_HEADER)
    except FileError as error:
        raise RunError(f"{error}; run `har-cache evaluate` again") from error
    intervals, taken = class_intervals(evaluation.predictions), taken_for(evaluation.predictions)
    for row in rows:
        name = row["class"]
        others = [(other, clips) for other, clips in taken.get(name, {}).items() if other != name]
        row["taken_for"] = sorted(others, key=lambda other: (-other[1], other[0]))
        row["interval"] = intervals.get(name)
    return rows


def _matrix(classes: Sequence[str], predictions: Sequence[ClipPrediction]) -> Matrix:
    taken = taken_for(predictions)
    named = {name for true, found in taken.items() for name in (true, *found)}
    names = tuple(dict.fromkeys([*classes, *sorted(named)]))
    place = {name: i for i, name in enumerate(names)}
    cells = [
        Cell(place[true], place[predicted], clips, clips / found.total())
        for true, found in taken.items()
        for predicted, clips in found.items()
    ]
    totals = tuple(taken[name].total() if name in taken else 0 for name in names)
    return Matrix(names, totals, {(cell.row, cell.column): cell for cell in cells})


def _tags(metrics: Metrics) -> Iterator[dict[str, Any]]:
    """Without tags of one value: they tell nothing."""
    values: dict[str, int] = {}
    for row in metrics.tags:
        values[row.tag] = values.get(row.tag, 0) + 1
    for row in metrics.tags:
        if values[row.tag] > 1:
            yield {**vars(row), "tag": f"{summary.TAG_TITLES.get(row.tag, row.tag)}: {row.value}"}


def _calibration(predictions: Sequence[ClipPrediction]) -> dict[str, Any] | None:
    """The reliability diagram and what it is drawn from; None where probabilities are not known."""
    known = [(p.probability, p.correct) for p in predictions if p.probability is not None and 0 <= p.probability <= 1]
    if len(known) < len(predictions) or not known:
        return None
    confidence, correct = map(np.array, zip(*known, strict=True))
    bins = reliability(confidence, correct)
    return {"bins": bins, "chart": reliability_diagram(bins)}
