"""A head for each part of the training list, which it validates on: predictions for all of the list by heads that have
not seen it, and the mean of the heads as the model.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..data.folds import ALWAYS_TRAINS, divide
from ..errors import RunError
from ..model.config import BestEpoch, OutOfFold
from ..model.ensemble import HeadEnsemble
from ..model.run import OUT_OF_FOLD, TRAINS, Run, check_table, fold_path, fold_subset
from ..model.writer import begin
from ..progress import Progress
from ..statistics.calibration import calibration_error, fit_temperature, mean_loss, tempered
from ..storage.files import read_csv, to_csv, write_file
from .checkpoints import finish, read_metrics, write_metrics
from .heads import Plan, Trained, plan_head, train_one
from .inference import probabilities

_HEADER = ("key", "fold", "true", "predicted", "probability", "probability_of_true")


def plan_folds(plan: Plan, given: Trained, folds: int) -> tuple[Plan, list[Plan]]:
    """The run of all folds, and that of each, below it; `plan`: of the whole training list, whoever validates.

    Raises HarCacheError where there are fewer films than folds.
    """
    cache, listed = given.cache, np.sort(np.concatenate([plan.train, plan.val]))
    part = divide(cache.labels[listed], np.array(cache.sources)[listed], folds)
    config = dataclasses.replace(plan.config, folds=folds, fold=None)
    each = [
        plan_head(
            fold_path(plan.path, k),
            dataclasses.replace(config, fold=k),
            cache,
            listed[part != k],
            listed[part == k],
        )
        for k in range(folds)
    ]
    subset = {
        cache.clip_keys[i]: TRAINS if k == ALWAYS_TRAINS else fold_subset(k) for i, k in zip(listed, part, strict=True)
    }
    return dataclasses.replace(plan, config=config, clips=subset), each


def train_folds(
    whole: Plan, each: list[Plan], given: Trained, resume: bool, overwrite: bool, progress: Progress
) -> Run:
    """Train the head of each fold, or go on, then the run that is their mean; gives that one, finished.

    Raises HarCacheError as `train_one` does.
    """
    if not begin(whole.path, whole.config, whole.clips, resume, overwrite, given.encoder, progress.say, whole.sources):
        return Run.open(whole.path)
    runs = [train_one(plan, given, True, False, progress) for plan in each]
    heads = [run.load_head() for run in runs]
    val = np.concatenate([plan.val for plan in each])
    frames = whole.config.training.frames
    parts = [probabilities(head, given.sequences, plan.val, frames) for head, plan in zip(heads, each, strict=True)]
    found, labels = np.concatenate(parts), given.cache.labels[val]
    outcome = _judge(found, labels)
    folds = np.repeat(np.arange(len(each)), [len(plan.val) for plan in each])
    rows = _rows(whole.config.classes, [given.cache.clip_keys[i] for i in val], folds, labels, found)
    write_file(whole.path / OUT_OF_FOLD, to_csv(_HEADER, rows))
    write_metrics(whole.path, _mean_metrics(runs))
    config = dataclasses.replace(whole.config, out_of_fold=outcome)
    ensemble = HeadEnsemble((head.cpu() for head in heads), outcome.temperature)
    finish(whole.path, config, ensemble, BestEpoch(0, outcome.loss, outcome.accuracy))
    return Run.open(whole.path)


def read_out_of_fold(run: Run) -> dict[str, bool]:
    """Whether each clip, by key, is right by the head that has not seen its film. Raises RunError where the run is not
    the mean of several heads, or the file is damaged.
    """
    path = run.path / OUT_OF_FOLD
    if not path.exists():
        raise RunError(f"{run.path}: has no predictions out of fold; train it with --folds")
    check_table(path, run.config)
    header, *rows = read_csv(path) or [[]]
    if tuple(header) != _HEADER or any(len(row) != len(_HEADER) for row in rows):
        raise RunError(f"{path}: damaged (expected {','.join(_HEADER)}); train again with --overwrite")
    return {key: true == predicted for key, _, true, predicted, *_ in rows}


def _judge(found: np.ndarray, labels: np.ndarray) -> OutOfFold:
    """found: float32 (clips, classes), out of fold; labels: int64 (clips)."""
    temperature = fit_temperature(found, labels)
    scaled = tempered(found, temperature)
    return OutOfFold(
        clips=len(labels),
        accuracy=float((found.argmax(1) == labels).mean()),
        loss=mean_loss(found, labels),
        loss_scaled=mean_loss(scaled, labels),
        temperature=temperature,
        calibration_error=calibration_error(found, labels),
        calibration_error_scaled=calibration_error(scaled, labels),
    )


def _rows(
    classes: Sequence[str], keys: Sequence[str], folds: np.ndarray, labels: np.ndarray, found: np.ndarray
) -> list[tuple[Any, ...]]:
    best = found.argmax(1)
    clips = zip(keys, folds, labels, best, found, strict=True)
    return sorted((key, int(k), classes[y], classes[i], f"{p[i]:.6f}", f"{p[y]:.6f}") for key, k, y, i, p in clips)


def _mean_metrics(runs: list[Run]) -> list[dict[str, float]]:
    """Of each epoch the mean over the heads, and all of their seconds."""
    tables = [read_metrics(run.path) for run in runs]
    means = [
        {name: float(np.mean([row[name] for row in same])) for name in same[0]} for same in zip(*tables, strict=True)
    ]
    return [{**row, "epoch": i, "seconds": row["seconds"] * len(runs)} for i, row in enumerate(means, 1)]
