"""The tables of an evaluation, predictions.csv, linear.csv and per_class.csv: their columns, how they are read back."""

import dataclasses
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data.keys import film_of, source_of
from ..errors import FileError
from ..storage.files import read_csv

TABLES = PREDICTIONS, LINEAR, PER_CLASS = "predictions.csv", "linear.csv", "per_class.csv"
LINEAR_HEADER = ("key", "linear_on_mean", "linear_on_moments")  # the class that each probe predicts, or nothing
PER_CLASS_HEADER = ("class", "support", "precision", "recall", "f1", "mostly_taken_for")
_NAME = re.compile(r"(?:^|\|)((?:[^\\|]|\\.)*)", re.DOTALL)  # one of several that `join_names` has joined
_KINDS: dict[str, Callable[[str], Any]] = {  # of the columns that hold no texts
    "probability": float,
    "frames": int,
    "support": int,
    "precision": lambda text: float(text) if text else None,
    "recall": lambda text: float(text) if text else None,
    "f1": float,
}


@dataclass(frozen=True)
class ClipPrediction:
    """A row of predictions.csv: a clip by its key, its class, and the likeliest one with its probability.

    `top5`: the five likeliest classes, as `join_names` writes them; `subset`: what the model knew of the clip before,
    seen, sibling or clean; `frames`: how many the clip has.
    """

    key: str
    true: str
    predicted: str
    probability: float
    top5: str
    subset: str
    frames: int

    @property
    def correct(self) -> bool:
        """Whether the likeliest class is the true one."""
        return self.true == self.predicted

    @property
    def film(self) -> str:
        """The film that the clip was cut from, whatever its class."""
        return film_of(source_of(self.key))

    def row(self) -> tuple[Any, ...]:
        """As it stands in the file."""
        values = {**vars(self), "probability": f"{self.probability:.6f}"}
        return tuple(values.values())


def join_names(names: Iterable[str]) -> str:
    """Names in one text, with `|` between them; a `|` or a `\\` of a name has a `\\` before it."""
    return "|".join(name.replace("\\", "\\\\").replace("|", "\\|") for name in names)


def split_names(text: str) -> list[str]:
    """The names that `join_names` has joined."""
    return [re.sub(r"\\(.)", r"\1", name, flags=re.DOTALL) for name in _NAME.findall(text)]


PREDICTIONS_HEADER = tuple(field.name for field in dataclasses.fields(ClipPrediction))


def read_predictions(folder: Path) -> list[ClipPrediction]:
    """The predictions of the evaluation in this folder. Raises FileError where they are missing or damaged."""
    return [ClipPrediction(**row) for row in read_rows(folder / PREDICTIONS, PREDICTIONS_HEADER)]


def read_linear(folder: Path) -> dict[str, dict[str, str]] | None:
    """What the linear probes of the evaluation in this folder predict for each clip, by key and then by probe; None in
    an evaluation of before that was kept. Raises FileError where it is damaged.
    """
    path = folder / LINEAR
    if not path.exists():
        return None
    return {row.pop("key"): row for row in read_rows(path, LINEAR_HEADER)}


def read_rows(path: Path, header: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of a table of an evaluation, numbers as such. Raises FileError where it is missing or damaged."""
    found, *rows = read_csv(path) or [[]]
    if tuple(found) != tuple(header) or any(len(row) != len(header) for row in rows):
        raise FileError(f"{path}: damaged (expected {','.join(header)})")
    try:
        return [{name: _KINDS.get(name, str)(text) for name, text in zip(header, row, strict=True)} for row in rows]
    except ValueError as error:
        raise FileError(f"{path}: damaged ({error})") from error
