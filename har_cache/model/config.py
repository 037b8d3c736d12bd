"""The content of a run's config.json: which stage, on which cache, with which settings, and what came of it."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from ..cache.recipe import Recipe
from ..errors import FileError, RunError, SettingError
from ..options import Settings
from ..settings.training import HeadSettings, TrainSettings, TuneSettings
from ..storage.files import read_sealed_json, seal, write_file
from ..storage.parsing import parse, to_json_types

SCHEMA, SCHEMA_1 = "har-run/2", "har-run/1"  # the first one had no seal
CONFIG = "config.json"
HEAD, FINETUNED = "head", "finetune"  # stages

_MOST_FOLDS = 1000

S = TypeVar("S", bound=Settings)


@dataclass(frozen=True)
class BestEpoch:
    """The epoch whose weights were kept, from 1; 0 where those that it started from were, and for the mean of several
    heads, each of which has its own. Loss in nats.
    """

    epoch: int
    val_loss: float
    val_accuracy: float


@dataclass(frozen=True)
class OutOfFold:
    """Predictions for the clips of the training list, each by the head that has not seen its film, averaged over the
    ways of a test. `loss` (nats) and `calibration_error` (a share of 1) as they are, and `scaled` by the `temperature`,
    which was fitted on them and which the run's model has.
    """

    clips: int
    accuracy: float
    loss: float
    loss_scaled: float
    temperature: float
    calibration_error: float
    calibration_error_scaled: float


@dataclass(frozen=True)
class Candidate:
    """Weights as the validation clips judge them, in all ways that a test averages. `blend`: the share of the tuned
    weights in them, 0 where it is the start; `scaled_loss`: in nats as `loss`, once the logarithms of the probabilities
    are divided by `temperature`, the best for these clips.
    """

    blend: float
    loss: float
    scaled_loss: float
    accuracy: float
    temperature: float


@dataclass(frozen=True)
class Choice:
    """Which weights a fine-tuning kept, and why. `candidates`: the start, the blend and, where that is not the same,
    the tuned weights; `gain`: of the blend over the start, the mean over clips of the difference in scaled loss;
    `error`: its standard error over films; `needed`: what the gain had to exceed, that error, made larger where films
    are few; both None for one film; `kept`: the `blend` of what was kept, 0 or that of the second candidate.
    """

    candidates: tuple[Candidate, ...]
    clips: int
    films: int
    gain: float
    error: float | None
    needed: float | None
    kept: float
    reason: str

    @property
    def start(self) -> Candidate:
        """The weights that it started from."""
        return self.candidates[0]

    @property
    def blend(self) -> Candidate:
        """The weights that may be kept in their place."""
        return self.candidates[1]


@dataclass(frozen=True)
class Start:
    """The run that a fine-tuned one started from."""

    run: str
    model_sha256: str


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """A run, begun or finished: only then there are `best` and `model_sha256`.

    `fold`: which clips of the training list validate, None where the seed drew them, as it once did; `folds`: into how
    many parts the list is divided, with a head for each: `fold` is one of them, or None in the run that is their mean,
    which alone has `out_of_fold`; `validate_on`: of which split the whole test list validates, with none held out;
    `val_set_apart`: true where the clips that validate are those that the data set sets apart for that, else None.
    `files`: sha256 of the run's tables by name, of those that are written for good; none in runs of before.
    `recipe`: of the embeddings that stage two learnt from; `data`, `started_from`, `skipped` (reason by key) and, once
    it is finished, `choice`: of a fine-tuned run alone. Runs of an earlier version have no `choice`, and kept the tuned
    weights as they were, or the start.
    """

    stage: str
    split: int
    cache: str
    fingerprint: str
    recipe: Recipe
    classes: tuple[str, ...]
    head: HeadSettings
    training: TrainSettings
    fold: int | None = None
    folds: int | None = None
    out_of_fold: OutOfFold | None = None
    validate_on: int | None = None
    val_set_apart: bool | None = None
    device: str = ""
    projection_fit: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    data: str | None = None
    started_from: Start | None = None
    skipped: Mapping[str, str] | None = None
    model_sha256: str | None = None
    best: BestEpoch | None = None
    choice: Choice | None = None

    @property
    def heads(self) -> int | None:
        """Of how many heads the model is the mean; None where it is one head, or a network with one."""
        return self.folds if self.fold is None else None

    @property
    def finished(self) -> bool:
        """Whether the training came to its end."""
        return self.best is not None

    def to_dict(self) -> dict[str, Any]:
        """As JSON types, without what there is not."""
        values = {"schema": SCHEMA, **to_json_types(vars(self))}
        return {name: value for name, value in values.items() if value is not None and (name, value) != ("files", {})}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: object) -> "RunConfig":
        """The reverse of `to_dict`. Raises RunError where a value is missing or makes no sense."""
        if values.get("schema") not in (SCHEMA, SCHEMA_1):
            raise RunError(f"{where}: is no {SCHEMA} config; choose another --run directory")
        if "recipe" not in values and "stage" in values:
            raise RunError(f"{where}: is of an older har-cache, without its encoder; train again with --overwrite")
        tuned = values.get("stage") == FINETUNED
        parsed = {**values, **(_blend_of_earlier(values, where) if tuned else {})}
        for name, kind in (("head", HeadSettings), ("training", TuneSettings if tuned else TrainSettings)):
            if name in parsed:
                parsed[name] = _settings(kind, parsed[name], where)
        config = parse(cls, parsed, where, error=RunError)
        if config.stage not in (HEAD, FINETUNED):
            raise RunError(f"{where}: stage is {config.stage!r}, expected {HEAD} or {FINETUNED}")
        if tuned and None in (config.data, config.started_from):
            raise RunError(f"{where}: does not say what it was fine-tuned on")
        for name, value in (("split", config.split), ("validate_on", config.validate_on)):
            if value is not None and value < 1:
                raise RunError(f"{where}: {name} is {value}, expected 1 or more")
        if config.folds is not None and not 2 <= config.folds <= _MOST_FOLDS:
            raise RunError(f"{where}: folds is {config.folds}, expected 2 to {_MOST_FOLDS}")
        if config.best and not config.model_sha256:
            raise RunError(f"{where}: model_sha256 is missing")
        return config


def read_config(run: Path) -> RunConfig | None:
    """The config of the run in this directory, finished or not; None where there is none. Raises HarCacheError."""
    file = run / CONFIG
    if not file.exists():
        return None
    try:
        values = read_sealed_json(file, SCHEMA_1)
    except FileError as error:
        raise RunError(f"{error}; train again with --overwrite") from error
    return RunConfig.from_dict(values, file)


def write_config(run: Path, config: RunConfig) -> None:
    """Commit config.json."""
    write_file(run / CONFIG, seal(config.to_dict(), in_order=True))


def _blend_of_earlier(values: Mapping[str, Any], where: object) -> dict[str, Any]:
    """What an earlier version did not write: it kept the tuned weights as they were, of an epoch chosen otherwise."""
    training = values.get("training")
    if not isinstance(training, Mapping) or "blend" in training:
        return {}
    if "best" not in values:
        raise RunError(f"{where}: was begun by an earlier har-cache, without --blend; start over with --overwrite")
    return {"training": {**training, "blend": 1.0}}


def _settings(kind: type[S], values: Any, where: object) -> S:
    settings = parse(kind, values, where, error=RunError)
    if unknown := sorted(set(values) - {f.name for f in dataclasses.fields(settings)}):  # type: ignore[arg-type]
        raise RunError(f"{where}: has settings that this version does not know: {', '.join(unknown)}")
    try:
        settings.check()
    except SettingError as error:
        raise RunError(f"{where}: {error}") from error
    return settings
