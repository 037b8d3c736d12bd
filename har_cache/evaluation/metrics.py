"""The figures of an evaluation, as they stand in its metrics.json. Accuracies are shares of 1, not percent."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from ..errors import FileError, RunError
from ..files import read_json

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
    def from_dict(cls, values: Mapping[str, Any]) -> "Metrics":
        """The reverse of `to_dict`. Raises RunError where a value is missing or of another type."""
        if values.get("schema") != SCHEMA:
            raise RunError("of another version of har-cache")
        return _parse(cls, values, "")


@dataclass(frozen=True)
class Evaluation:
    """A folder with the files of an evaluation, and the figures in it."""

    folder: Path
    metrics: Metrics


def read_evaluation(folder: Path) -> Evaluation:
    """The evaluation in this folder. Raises RunError where its metrics.json cannot be read, or was changed."""
    path = folder / METRICS
    try:
        return Evaluation(folder, Metrics.from_dict(read_json(path)))
    except RunError as error:
        raise RunError(f"{path}: {error}; run `har-cache evaluate` again") from error
    except FileError as error:
        raise RunError(f"{error}; run `har-cache evaluate` again") from error


def _parse(kind: Any, value: Any, name: str) -> Any:
    """A value of JSON as the type that its field is declared with. Raises RunError, naming the field."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin is UnionType:
        return _parse_union(parts, value, name)
    if origin is Mapping and isinstance(value, dict):
        return {key: _parse(parts[1], part, name) for key, part in value.items()}
    if origin is tuple and isinstance(value, list):
        kinds = parts[:1] * len(value) if parts[-1] is ... else parts
        if len(kinds) == len(value):
            return tuple(_parse(part, element, name) for part, element in zip(kinds, value, strict=True))
    if dataclasses.is_dataclass(kind) and isinstance(value, Mapping):
        return _parse_fields(kind, value, f"{name}." if name else "")
    if type(value) in ((int, float) if kind is float else (kind,)):
        return value
    raise RunError(f"damaged ({name} is missing or wrong)")


def _parse_union(kinds: Sequence[Any], value: Any, name: str) -> Any:
    errors = []
    for kind in kinds:
        try:
            return _parse(kind, value, name)
        except RunError as error:
            errors.append(error)
    raise errors[0]


def _parse_fields(kind: Any, values: Mapping[str, Any], prefix: str) -> Any:
    kinds = get_type_hints(kind)
    needed = [field.name for field in dataclasses.fields(kind) if field.default is dataclasses.MISSING]
    names = [name for name in kinds if name in values or name in needed]
    return kind(**{name: _parse(kinds[name], values.get(name, dataclasses.MISSING), prefix + name) for name in names})
