"""The content of a run's config.json: which stage, on which cache, with which settings, and what came of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..cache.recipe import Recipe
from ..errors import CacheError, RunError, SettingError
from ..files import read_json, to_json, write_file
from ..settings import HeadSettings, TrainSettings, TuneSettings

SCHEMA = "har-run/1"
CONFIG = "config.json"
HEAD, FINETUNED = "head", "finetune"  # stages
_SETTINGS: dict[str, type[TrainSettings]] = {HEAD: TrainSettings, FINETUNED: TuneSettings}
# Of each name: its type in the file, and whether every run has it.
_KINDS: dict[str, tuple[type, bool]] = {
    "stage": (str, True),
    "split": (int, True),
    "cache": (str, True),
    "fingerprint": (str, True),
    "recipe": (dict, True),
    "classes": (list, True),
    "head": (dict, True),
    "training": (dict, True),
    "device": (str, False),
    "projection_fit": (str, False),
    "versions": (dict, False),
    "data": (str, False),
    "started_from": (dict, False),
    "skipped": (dict, False),
    "model_sha256": (str, False),
    "best": (dict, False),
}


@dataclass(frozen=True)
class BestEpoch:
    """The epoch whose weights were kept, from 1; 0 where those that it started from were. Loss in nats."""

    epoch: int
    val_loss: float
    val_accuracy: float


@dataclass(frozen=True)
class Start:
    """The run that a fine-tuned one started from."""

    run: str
    model_sha256: str


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """A run, begun or finished: only then there are `best` and `model_sha256`.

    `recipe`: of the embeddings that stage two learnt from; `data`, `started_from` and `skipped` (reason by key): of a
    fine-tuned run alone.
    """

    stage: str
    split: int
    cache: str
    fingerprint: str
    recipe: Recipe
    classes: tuple[str, ...]
    head: HeadSettings
    training: TrainSettings
    device: str = ""
    projection_fit: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    data: str | None = None
    started_from: Start | None = None
    skipped: Mapping[str, str] | None = None
    model_sha256: str | None = None
    best: BestEpoch | None = None

    @property
    def finished(self) -> bool:
        """Whether the training came to its end."""
        return self.best is not None

    def to_dict(self) -> dict[str, Any]:
        """As JSON types, without what there is not."""
        values = {
            "schema": SCHEMA,
            **{name: getattr(self, name) for name in _KINDS},
            "recipe": self.recipe.to_dict(),
            "classes": list(self.classes),
            "head": self.head.to_dict(),
            "training": self.training.to_dict(),
            "started_from": self.started_from and vars(self.started_from),
            "best": self.best and vars(self.best),
        }
        return {name: value for name, value in values.items() if value is not None}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "RunConfig":
        """The reverse of `to_dict`. Raises RunError where a value is missing or makes no sense."""
        if values.get("schema") != SCHEMA:
            raise RunError(f"is no {SCHEMA} config; choose another --run directory")
        if not isinstance(values.get("recipe"), dict) and values.get("stage") in _SETTINGS:
            raise RunError("is of an older har-cache, without its encoder; train again with --overwrite")
        wrong = [name for name, (kind, always) in _KINDS.items() if not _holds(values.get(name), kind, always)]
        if values.get("stage") == FINETUNED:
            wrong += [name for name in ("data", "started_from") if name not in values]
        wrong += ["model_sha256"] if "best" in values and not values.get("model_sha256") else []
        if wrong:
            raise RunError(f"damaged ({', '.join(wrong)} missing or wrong); train again with --overwrite")
        given = {name: values[name] for name in _KINDS if values.get(name) is not None}
        try:
            return cls(**(given | _parsed(given)))
        except (SettingError, CacheError, TypeError, KeyError) as error:
            raise RunError(f"damaged or of another version ({error}); train again with --overwrite") from error


def read_config(run: Path) -> RunConfig | None:
    """The config of the run in this directory, finished or not; None where there is none. Raises HarCacheError."""
    file = run / CONFIG
    if not file.exists():
        return None
    values = read_json(file)
    try:
        return RunConfig.from_dict(values)
    except RunError as error:
        raise RunError(f"{file}: {error}") from error


def write_config(run: Path, config: RunConfig) -> None:
    """Commit config.json."""
    write_file(run / CONFIG, to_json(config.to_dict()))


def _parsed(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values that have a type of their own."""
    if not all(isinstance(name, str) for name in values["classes"]):
        raise TypeError("classes are not names")
    parsed = {
        "recipe": Recipe.from_dict(values["recipe"]),
        "classes": tuple(values["classes"]),
        "head": HeadSettings.from_dict(values["head"]),
        "training": _SETTINGS[values["stage"]].from_dict(values["training"]),
    }
    if "started_from" in values:
        parsed["started_from"] = Start(**values["started_from"])
    if "best" in values:
        parsed["best"] = _best(values["best"])
    return parsed


def _best(values: Mapping[str, Any]) -> BestEpoch:
    best = BestEpoch(**values)
    if not isinstance(best.epoch, int) or not all(isinstance(v, float | int) for v in vars(best).values()):
        raise TypeError("best holds no numbers")
    return best


def _holds(value: Any, kind: type, always: bool) -> bool:
    return not always if value is None else isinstance(value, kind) and not isinstance(value, bool)
