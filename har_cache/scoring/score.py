"""Predictions of any model, scored as `evaluate` scores a run: what it knew of the list, intervals, classes, tags."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.keys import FILES
from ..data.leakage import groups, in_other_class
from ..errors import DataError, HarCacheError
from ..evaluation.metrics import ScoredClips, write_scored
from ..evaluation.results import METRICS, SCORED, Metrics, in_short
from ..evaluation.tables import CONFUSION, TABLES, ClipPrediction, prediction_table
from ..model.run import REPORT, VALIDATES
from ..pages.report import report_scored
from ..progress import Progress
from ..settings.evaluation import ScoreSettings
from ..storage.files import foreign_names, make_directory
from .data_set import DataSet, label_of, read_data_set
from .predictions import Predictions, read_predictions, read_trained

if TYPE_CHECKING:
    import pandas

_NAMED = 3  # clips in an error


@dataclass(frozen=True)
class Score:
    """The figures, the prediction for each clip, and the page about them, None where no files were asked for."""

    metrics: Metrics
    predictions: Sequence[ClipPrediction]
    page: Path | None

    def __repr__(self) -> str:
        return f"Score({in_short(self.metrics)})"

    def to_dict(self) -> dict[str, Any]:
        """The figures, as JSON types."""
        return self.metrics.to_dict()

    def to_pandas(self) -> "pandas.DataFrame":
        """A row a clip: what it shows, what it was taken for, and what the model knew of it. Raises HarCacheError
        without pandas.
        """
        return prediction_table(self.predictions)


def score(settings: ScoreSettings, progress: Progress = Progress()) -> Score:
    """Score predictions on the test list of `split`, or of the one split whose test list they hold.

    Raises HarCacheError: no such data set or split; in a file of predictions or of training clips, with its line, a
    clip that is not there or is there twice, an unknown class; a clip of the test list without prediction; an `out`
    that holds other files.
    """
    settings.check()
    if settings.out:
        _check_out(settings.out)
    data_set = read_data_set(settings)
    predictions = read_predictions(settings.predictions, data_set)
    trained = read_trained(settings.trained_on, data_set)
    split = _split(settings, data_set, predictions)
    tested = _tested(settings.predictions, data_set, predictions, split)
    if others := len(predictions.places) - len(tested):
        progress.say(f"{others:,} predictions are of clips that are not on the test list of split {split}: not counted")
    known = {key: data_set.sources[key] for key in trained}
    scored = ScoredClips(
        classes=data_set.classes,
        sources=tested,
        frames=[data_set.frames.get(key) for key in tested],
        true=np.array([label_of(key, data_set) for key in tested]),
        answers=predictions.on(list(tested)),
        groups=groups(known, tested),
        in_other_class=in_other_class(known, tested),
    )
    metrics = _metrics(data_set, split, scored, list(trained.values()))
    if not settings.out:
        return Score(metrics, scored.predictions(), None)
    evaluation = write_scored(settings.out, metrics, scored, {})
    page = report_scored(evaluation, _said(settings))
    return Score(metrics, evaluation.predictions, page)


def _metrics(data_set: DataSet, split: int, scored: ScoredClips, subsets: Sequence[str]) -> Metrics:
    val = subsets.count(VALIDATES)
    listed = data_set.listed_absent(split)
    return Metrics(
        stage=SCORED,
        split=split,
        trained_on=None,
        splits_from=data_set.splits_from,
        train_clips=len(subsets) - val,
        val_clips=val,
        fingerprint=data_set.fingerprint,
        model_sha256=None,
        projection_fit=None,
        projection_saw_test_clips=False,
        clips=len(scored.keys),
        classes=len(scored.classes),
        chance=1 / len(scored.classes),
        **scored.figures(),
        linear_on_mean=None,
        missing={key: why for key, why in listed.items() if key not in scored.sources},
        sources_from=FILES if data_set.sources_from == FILES else None,
        data_set=data_set.size,
    )


def _split(settings: ScoreSettings, data_set: DataSet, predictions: Predictions) -> int:
    if settings.split:
        data_set.check_split(settings.split)
        return settings.split
    found = [split for split in data_set.splits if _holds(predictions, data_set, split)]
    if len(found) == 1 or len(data_set.splits) == 1:
        return (found or [1])[0]
    what = f"holds the test lists of splits {', '.join(map(str, found))}" if found else "holds no whole test list"
    raise HarCacheError(f"{settings.predictions}: {what}: say with --split which one is to be scored")


def _holds(predictions: Predictions, data_set: DataSet, split: int) -> bool:
    """Whether there are predictions for the test list, and for all of it."""
    some = any(key in predictions.places for key in data_set.tested(split))
    return some and not _unpredicted(predictions, data_set, split)


def _unpredicted(predictions: Predictions, data_set: DataSet, split: int) -> list[str]:
    """Clips of the test list that are there, and are not predicted."""
    return [key for key in data_set.tested(split) if key not in predictions.places and key not in data_set.absent]


def _tested(path: Path, data_set: DataSet, predictions: Predictions, split: int) -> dict[str, str]:
    """The clips to be scored: sources by key."""
    listed = data_set.tested(split)
    if not any(key in predictions.places for key in listed):
        raise DataError(f"{path}: holds no prediction of a clip of the test list of split {split} of {data_set.name}")
    if lacking := _unpredicted(predictions, data_set, split):
        raise DataError(
            f"{path}: {len(lacking):,} of the {len(listed):,} clips of the test list of split {split} are not "
            f"predicted: {', '.join(lacking[:_NAMED])}{', ...' if len(lacking) > _NAMED else ''}"
        )
    known = {key: source for key, source in listed.items() if key in predictions.places}
    if unknown := [key for key in known if label_of(key, data_set) is None]:
        raise DataError(f"{path}: {unknown[0]} is of a class of which {data_set.name} holds no clip")
    return known


def _check_out(out: Path) -> None:
    if not out.exists():
        return
    make_directory(out)  # or its error
    if foreign := foreign_names(out, (METRICS, *TABLES, CONFUSION, REPORT)):
        raise HarCacheError(f"{out}: holds other files ({min(foreign)}, ...); choose an empty directory for --out")


def _said(settings: ScoreSettings) -> Mapping[str, str]:
    """What the page says of where its figures are from."""
    return {name: str(value) for name, value in vars(settings).items() if value and name != "out"}
