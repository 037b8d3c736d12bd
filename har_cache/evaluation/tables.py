"""The tables of an evaluation: their columns, and how they are read back. predictions.csv, linear.csv, per_class.csv
and, where they are asked for, all probabilities.
"""

import dataclasses
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.keys import film_of, source_of
from ..errors import FileError
from ..storage.data_frames import data_frame
from ..storage.files import read_csv, to_csv

if TYPE_CHECKING:
    import pandas

TABLES = PREDICTIONS, LINEAR, PER_CLASS, PROBABILITIES = (
    "predictions.csv",
    "linear.csv",
    "per_class.csv",
    "probabilities.csv",
)
CONFUSION = "confusion.png"
LINEAR_HEADER = ("key", "linear_on_mean", "linear_on_moments")  # the class that each probe predicts, or nothing
PER_CLASS_HEADER = ("class", "support", "precision", "recall", "f1", "mostly_taken_for")
_NAME = re.compile(r"(?:^|\|)((?:[^\\|]|\\.)*)", re.DOTALL)  # one of several that `join_names` has joined
_KINDS: dict[str, Callable[[str], Any]] = {  # of the columns that hold no texts
    "probability": lambda text: float(text) if text else None,
    "frames": lambda text: int(text) if text else None,
    "support": int,
    "precision": lambda text: float(text) if text else None,
    "recall": lambda text: float(text) if text else None,
    "f1": float,
}


@dataclass(frozen=True)
class ClipPrediction:
    """A row of predictions.csv: a clip by its key, its class, and the likeliest one with its probability.

    `top5`: the five likeliest classes, as `join_names` writes them; `subset`: what the model knew of the clip before,
    seen, sibling or clean; `frames`: how many the clip has; `source`: what it was cut from, empty where its name tells.
    `probability` and `frames` are None, and `top5` empty, where they are not known, as of a model of others.
    """

    key: str
    true: str
    predicted: str
    probability: float | None
    top5: str
    subset: str
    frames: int | None
    source: str = ""

    @property
    def correct(self) -> bool:
        """Whether the likeliest class is the true one."""
        return self.true == self.predicted

    @property
    def film(self) -> str:
        """The film that the clip was cut from, whatever its class."""
        return film_of(self.source or source_of(self.key))

    def row(self) -> tuple[Any, ...]:
        """As it stands in the file, without its source."""
        probability = "" if self.probability is None else f"{self.probability:.6f}"
        values = {**vars(self), "probability": probability, "frames": "" if self.frames is None else self.frames}
        return tuple(values[name] for name in PREDICTIONS_HEADER)


def prediction_table(predictions: Iterable[ClipPrediction]) -> "pandas.DataFrame":
    """A row a clip, as in predictions.csv, with its film, and whether it is right. Raises HarCacheError where pandas is
    not installed.
    """
    rows = list(predictions)
    names = (*PREDICTIONS_HEADER, "film", "correct")
    return data_frame({name: [getattr(row, name) for row in rows] for name in names})


def join_names(names: Iterable[str]) -> str:
    """Names in one text, with `|` between them; a `|` or a `\\` of a name has a `\\` before it."""
    return "|".join(name.replace("\\", "\\\\").replace("|", "\\|") for name in names)


def split_names(text: str) -> list[str]:
    """The names that `join_names` has joined."""
    return [re.sub(r"\\(.)", r"\1", name, flags=re.DOTALL) for name in _NAME.findall(text)]


_COLUMNS = tuple(field.name for field in dataclasses.fields(ClipPrediction))
PREDICTIONS_HEADER, _SOURCE = _COLUMNS[:-1], _COLUMNS[-1]


def predictions_table(predictions: Sequence[ClipPrediction]) -> bytes:
    """predictions.csv, with sources where names do not tell them of all clips."""
    if not any(prediction.source for prediction in predictions):
        return to_csv(PREDICTIONS_HEADER, [prediction.row() for prediction in predictions])
    rows = [(*prediction.row(), prediction.source or source_of(prediction.key)) for prediction in predictions]
    return to_csv((*PREDICTIONS_HEADER, _SOURCE), rows)


def probability_column(class_name: str) -> str:
    """What the column of a class's probabilities is called: as the class, or with `p:` before it where another column
    has that name.
    """
    others = (*PREDICTIONS_HEADER, _SOURCE, "confidence")
    return f"p:{class_name}" if class_name in others or class_name.startswith("p:") else class_name


def read_predictions(folder: Path) -> list[ClipPrediction]:
    """The predictions of the evaluation in this folder. Raises FileError where they are missing or damaged."""
    return [ClipPrediction(**row) for row in read_rows(folder / PREDICTIONS, PREDICTIONS_HEADER, _SOURCE)]


def read_linear(folder: Path) -> dict[str, dict[str, str]] | None:
    """What the linear probes of the evaluation in this folder predict for each clip, by key and then by probe; None in
    an evaluation of before that was kept. Raises FileError where it is damaged.
    """
    path = folder / LINEAR
    if not path.exists():
        return None
    return {row.pop("key"): row for row in read_rows(path, LINEAR_HEADER)}


def read_rows(path: Path, header: Sequence[str], last: str = "") -> list[dict[str, Any]]:
    """The rows of a table of an evaluation, numbers as such; it may have one more column, the `last`. Raises FileError
    where it is missing or damaged.
    """
    found, *rows = read_csv(path) or [[]]
    if last and found[-1:] == [last]:
        header = [*header, last]
    if tuple(found) != tuple(header) or any(len(row) != len(header) for row in rows):
        raise FileError(f"{path}: damaged (expected {','.join(header)})")
    try:
        return [{name: _KINDS.get(name, str)(text) for name, text in zip(header, row, strict=True)} for row in rows]
    except ValueError as error:
        raise FileError(f"{path}: damaged ({error})") from error
