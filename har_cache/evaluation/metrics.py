"""The figures of an evaluation, as they stand in its metrics.json. Accuracies are shares of 1, not percent."""

import dataclasses
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import FileError, RunError
from ..files import read_json
from ..parsing import parse

SCHEMA = "har-evaluation/1"
METRICS = "metrics.json"

Interval = tuple[float, float]


@dataclass(frozen=True)
class Accuracy:
    """Accuracy on a group of clips; `top1` is None for an empty one, its 95% interval for fewer than two sources."""

    clips: int
    top1: float | None
    interval: Interval | None
    share: float  # of all clips that were scored


@dataclass(frozen=True)
class Leakage:
    """Accuracy by what the model knew before: the clip itself, another one of its source, neither."""

    seen: Accuracy
    sibling: Accuracy
    clean: Accuracy

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
    """How many clips of one class were taken for another, and their share of the true class's clips."""

    true: str
    predicted: str
    clips: int
    share: float


@dataclass(frozen=True)
class LinearProbe:
    """Accuracy of logistic regression on each clip's mean embedding, and its inverse regularisation strength."""

    top1: float
    interval: Interval | None
    C: float


@dataclass(frozen=True)
class StartComparison:
    """The run that a fine-tuned one started from, on the same clips, and how many of them fine-tuning put right
    (`fixed`) and wrong (`broken`).
    """

    run: str
    top1: float
    fixed: int
    broken: int


@dataclass(frozen=True)
class NotCompared:
    """The run that a fine-tuned one started from, and why there is nothing to compare with."""

    run: str
    unknown: str


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """One model on one test list.

    `split`: whose test list; `splits_from`: `lists`, or drawn by source. `loss` in nats; `macro_f1` and
    `mean_class_accuracy` over the classes that have clips. `confused`: the pairs confused most often. `linear_on_mean`:
    None where too few classes train. `missing`: why clips of the list were not scored, by key. `stage_two`: of a
    fine-tuned run alone.
    """

    stage: str
    split: int
    trained_on: int
    splits_from: str
    train_clips: int
    val_clips: int
    fingerprint: str
    model_sha256: str
    projection_fit: str
    projection_saw_test_clips: bool
    clips: int
    classes: int
    chance: float
    top1: float
    top5: float
    loss: float
    macro_f1: float
    mean_class_accuracy: float
    interval: Interval | None
    leakage: Leakage
    confused: tuple[ConfusedPair, ...]
    tags: tuple[TagAccuracy, ...]
    linear_on_mean: LinearProbe | None
    missing: Mapping[str, str]
    stage_two: StartComparison | NotCompared | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        values = {"schema": SCHEMA, **dataclasses.asdict(self)}
        if self.stage_two is None:
            del values["stage_two"]
        return values

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], where: object) -> "Metrics":
        """The reverse of `to_dict`. Raises RunError, naming `where`, if a value is missing or of another type."""
        if content.get("schema") != SCHEMA:
            raise RunError(f"{where}: of another version of har-cache")
        return parse(cls, content, where, error=RunError)


@dataclass(frozen=True)
class Evaluation:
    """A folder with the files of an evaluation, and the figures in it."""

    folder: Path
    metrics: Metrics


def read_evaluation(folder: Path) -> Evaluation:
    """The evaluation in this folder. Raises RunError where its metrics.json cannot be read, or was changed."""
    path = folder / METRICS
    try:
        return Evaluation(folder, Metrics.from_dict(read_json(path), path))
    except (RunError, FileError) as error:
        raise RunError(f"{error}; run `har-cache evaluate` again") from error


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation of a figure over several splits."""

    mean: float
    std: float


@dataclass(frozen=True)
class SplitScore:
    """Accuracy of the model of one split."""

    trained_on: int
    tested_on: int
    top1: float


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The models of several splits together. `leaking`: how many of them know clips, or siblings of clips, that they
    are scored on.
    """

    splits: tuple[SplitScore, ...]
    chance: float
    top1: Spread | None
    top5: Spread | None
    loss: Spread | None
    macro_f1: Spread | None
    mean_class_accuracy: Spread | None
    leaking: int
    clean_top1: Spread | None
    linear_on_mean: Spread | None

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        return {"schema": SCHEMA, **dataclasses.asdict(self)}


def summarise(all_metrics: Sequence[Metrics]) -> Summary:
    """What several models have in common; a figure that fewer than two of them have is None."""
    return Summary(
        splits=tuple(SplitScore(m.trained_on, m.split, m.top1) for m in all_metrics),
        chance=all_metrics[0].chance,
        top1=_spread(m.top1 for m in all_metrics),
        top5=_spread(m.top5 for m in all_metrics),
        loss=_spread(m.loss for m in all_metrics),
        macro_f1=_spread(m.macro_f1 for m in all_metrics),
        mean_class_accuracy=_spread(m.mean_class_accuracy for m in all_metrics),
        leaking=sum(m.leakage.leaks for m in all_metrics),
        clean_top1=_spread(m.leakage.clean.top1 for m in all_metrics),
        linear_on_mean=_spread(m.linear_on_mean.top1 if m.linear_on_mean else None for m in all_metrics),
    )


def _spread(values: Iterable[float | None]) -> Spread | None:
    known = [value for value in values if value is not None]
    return Spread(statistics.mean(known), statistics.stdev(known)) if len(known) > 1 else None
