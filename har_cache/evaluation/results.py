"""The figures of an evaluation, as they stand in its metrics.json. Accuracies are shares of 1, not percent."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.index import DataSetName
from ..errors import FileError, RunError
from ..model.config import OutOfFold
from ..statistics.intervals import Interval
from ..storage.files import file_sha256, read_sealed_json, seal, sha256, write_file
from ..storage.parsing import parse
from .tables import TABLES, ClipPrediction, prediction_table, read_predictions

if TYPE_CHECKING:
    import pandas

SCHEMA, SCHEMA_1 = "har-evaluation/2", "har-evaluation/1"  # the first one had no seal
METRICS = "metrics.json"
SCORED = "scored"  # stage of a model whose predictions alone are known
_FILES = "files"


@dataclass(frozen=True)
class Accuracy:
    """Accuracy on a group of clips; `top1` is None for an empty one, its 95% interval for fewer than ten films."""

    clips: int
    top1: float | None
    interval: Interval | None
    share: float  # of all clips that were scored


@dataclass(frozen=True)
class Leakage:
    """Accuracy by what the model knew before: the clip itself, another one of its source, neither.

    `other_class`: of the clean clips, those of a film that the model was trained or validated on in another class; None
    in an evaluation of before they were counted.
    """

    seen: Accuracy
    sibling: Accuracy
    clean: Accuracy
    other_class: Accuracy | None = None

    @property
    def leaks(self) -> bool:
        """Whether the model knew any clip, or a sibling of one."""
        return self.seen.clips > 0 or self.sibling.clips > 0


@dataclass(frozen=True)
class TagAccuracy:
    """Accuracy on the clips that HMDB51's annotators gave this value of a tag, in words."""

    tag: str
    value: str
    clips: int
    top1: float
    interval: Interval | None


@dataclass(frozen=True)
class ConfusedPair:
    """Number of clips of one class that were taken for another, and their share of the true class's clips."""

    true: str
    predicted: str
    clips: int
    share: float


@dataclass(frozen=True)
class LinearProbe:
    """Accuracy of logistic regression on what is known of each clip, and its inverse regularisation strength."""

    top1: float
    interval: Interval | None
    C: float


@dataclass(frozen=True)
class StartComparison:
    """The run that a fine-tuned one started from, on the same clips, and how many of them fine-tuning put right
    (`fixed`) and wrong (`broken`).

    `p`: of McNemar's exact test; `interval`: of the difference in accuracy, None for fewer than ten films. Both are
    None in an evaluation of before they were computed.
    """

    run: str
    top1: float
    fixed: int
    broken: int
    p: float | None = None
    interval: Interval | None = None

    @property
    def shown(self) -> bool:
        """Whether these clips show a difference."""
        return self.interval is not None and not self.interval[0] <= 0 <= self.interval[1]


@dataclass(frozen=True)
class NotCompared:
    """The run that a fine-tuned one started from, and why there is nothing to compare with."""

    run: str
    unknown: str


@dataclass(frozen=True)
class DataSetSize:
    """The data set that a test list is of: its name, how many of its clips and classes are known, and whether its
    videos are drawn.
    """

    name: str
    clips: int
    classes: int
    drawn: bool = False

    @classmethod
    def of(cls, known: DataSetName | None, clips: int, classes: int) -> "DataSetSize | None":
        """None where no name is known."""
        return None if known is None else cls(known.name, clips, classes, known.drawn)


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """One model on one test list.

    `split`: whose test list; `splits_from`: `lists`, or drawn by source. `top5`: None for five classes or fewer, where
    every answer is among five. `loss` in nats; `macro_f1` and `mean_class_accuracy` over the classes that have clips.
    `confused`: the pairs confused most often. `linear_on_mean`, `linear_on_moments`: on the mean embedding, and on that
    and the first moment in time; None where too few classes train, and the latter in an evaluation of before there was
    one. `missing`: why clips of the list were not scored, by key. `films`: None in an evaluation of before intervals
    were by films; its intervals are by class and film. `stage_two`: of a fine-tuned run alone. `calibration_error`:
    expected, a share of 1, and `seed`, both None in an evaluation of before; `heads`, `out_of_fold`: of a run that is
    the mean of so many heads. `validated_on`: of which split the whole test list picked the best epoch, where no clip
    was held out for that; `val_clips` are then those of it that did not train. `val_set_apart`: true where the data set
    sets apart the clips that picked it, else None. `sources_from`: FILES where each file is taken for a source of its
    own, else None. `data_set`: None in an evaluation of before, or where nobody knows.

    Of a model whose predictions alone are known the stage is SCORED, and what they do not tell is None: `trained_on`,
    `model_sha256`, `projection_fit`, `top5`, `loss`, `calibration_error`, `seed`, the linear probes; `fingerprint` is
    that of the cache that knows the clips, None without one.
    """

    stage: str
    split: int
    trained_on: int | None
    splits_from: str
    train_clips: int
    val_clips: int
    fingerprint: str | None
    model_sha256: str | None
    projection_fit: str | None
    projection_saw_test_clips: bool
    clips: int
    classes: int
    chance: float
    top1: float
    top5: float | None
    loss: float | None
    macro_f1: float
    mean_class_accuracy: float
    interval: Interval | None
    leakage: Leakage
    confused: tuple[ConfusedPair, ...]
    tags: tuple[TagAccuracy, ...]
    linear_on_mean: LinearProbe | None
    missing: Mapping[str, str]
    films: int | None = None
    linear_on_moments: LinearProbe | None = None
    stage_two: StartComparison | NotCompared | None = None
    calibration_error: float | None = None
    seed: int | None = None
    heads: int | None = None
    out_of_fold: OutOfFold | None = None
    validated_on: int | None = None
    val_set_apart: bool | None = None
    sources_from: str | None = None
    data_set: DataSetSize | None = None

    @property
    def has_top5(self) -> bool:
        """Whether `top5` says anything: earlier versions wrote it for five classes too, where it is always 1."""
        return self.top5 is not None and self.classes > 5

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        values = {"schema": SCHEMA, **dataclasses.asdict(self)}
        of_some = ("stage_two", "heads", "out_of_fold", "val_set_apart", "sources_from", "data_set")
        return {name: value for name, value in values.items() if value is not None or name not in of_some}


@dataclass(frozen=True)
class Evaluation:
    """A folder with the files of an evaluation, the figures in it, and the prediction for each clip. `failures`: why
    clips did not decode when it was made, by key; of one that is read back, they are among `metrics.missing` alone.
    """

    folder: Path
    metrics: Metrics
    predictions: Sequence[ClipPrediction]
    failures: Mapping[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Evaluation({str(self.folder)!r}: {in_short(self.metrics)})"

    def to_dict(self) -> dict[str, Any]:
        """The figures, as JSON types."""
        return self.metrics.to_dict()

    def to_pandas(self) -> "pandas.DataFrame":
        """A row a clip: what it shows, what it was taken for, and what the model knew of it. Raises HarCacheError
        without pandas.
        """
        return prediction_table(self.predictions)


def in_short(metrics: Metrics) -> str:
    """Accuracy in a few words; where the model knew clips, that on the clean ones first."""
    clean = metrics.leakage.clean
    if not metrics.leakage.leaks:
        return f"top-1 {metrics.top1:.1%} of {metrics.clips:,} clips, split {metrics.split}"
    of_clean = "no clean clip" if clean.top1 is None else f"top-1 {clean.top1:.1%} of {clean.clips:,} clean clips"
    return f"{of_clean}; leaks: the others of {metrics.clips:,} are known; split {metrics.split}"


def read_evaluation(folder: Path) -> Evaluation:
    """The evaluation in this folder. Raises RunError where its metrics.json or its predictions.csv cannot be read, or
    was changed.
    """
    path = folder / METRICS
    try:
        content = read_sealed_json(path, SCHEMA_1)
        if content.get("schema") not in (SCHEMA, SCHEMA_1):
            raise RunError(f"{path}: of another version of har-cache")
        _check_tables(folder, content.get(_FILES, {}))
        return Evaluation(folder, parse(Metrics, content, path, error=RunError), read_predictions(folder))
    except (RunError, FileError) as error:
        raise RunError(f"{error}; run `har-cache evaluate` again") from error


def write_evaluation(folder: Path, metrics: Metrics, tables: Mapping[str, bytes]) -> None:
    """Commit the tables of an evaluation by name, then its metrics.json, which knows their sha256. Raises FileError."""
    for name, data in tables.items():
        write_file(folder / name, data)
    files = {name: sha256(data) for name, data in tables.items()}
    write_file(folder / METRICS, seal({**metrics.to_dict(), _FILES: files}, in_order=True))


def _check_tables(folder: Path, files: Any) -> None:
    """Raise RunError where a table is not the one whose sha256 this is, by name. Evaluations of before had none."""
    if not isinstance(files, Mapping):
        raise RunError(f"{folder / METRICS}: {_FILES} is no object")
    for name, expected in files.items():
        if name not in TABLES or file_sha256(folder / name) != expected:
            raise RunError(f"{folder / name}: damaged or edited (its sha256 is not that of {METRICS})")
