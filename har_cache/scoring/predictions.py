"""Predictions of any model, from a CSV file; and what it was trained on."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..data.keys import class_of
from ..errors import DataError
from ..evaluation.metrics import Answers, ranked
from ..evaluation.tables import probability_column, split_names
from .data_set import DataSet
from .rows import ClipNames, read_clip_names, read_table

_NEEDED = ("key", "predicted")
_CONFIDENCE = ("probability", "confidence")  # one thing
_UNUSED = ("subset", "frames", "source")  # of predictions.csv: the data set knows them
_OTHERS = ("true", *_CONFIDENCE, "top5", *_UNUSED)
_SUBSET = re.compile(r"train|val|fold[0-9]+")
_SUM_TO_ONE = 0.05  # of probabilities: so far off may rounded ones be
_FIVE = 5


@dataclass(frozen=True)
class Predictions:
    """The place of each clip by key, and the answers, in the order of places."""

    places: Mapping[str, int]
    answers: Answers

    def on(self, keys: Sequence[str]) -> Answers:
        """The answers for these clips, in this order."""
        rows = [self.places[key] for key in keys]
        found = self.answers
        confidence, probabilities = (None if a is None else a[rows] for a in (found.confidence, found.probabilities))
        return Answers(found.ranking[rows], confidence, probabilities)


def read_predictions(path: Path, data_set: DataSet) -> Predictions:
    """The predictions in a file. Raises HarCacheError, with file and line, for what is missing or makes no sense."""
    by_column = {probability_column(name): i for i, name in enumerate(data_set.classes)}
    header, rows = read_table(path, _NEEDED, [*_NEEDED, *_OTHERS, *by_column])
    if not rows:
        raise DataError(f"{path}: holds no prediction")
    columns = {name: [row[i] for _, row in rows] for i, name in enumerate(header)}
    wheres = [where for where, _ in rows]
    names = ClipNames(data_set.sources, data_set.places, data_set.name)
    places = read_clip_names(path, list(zip(wheres, columns["key"], strict=True)), names)
    predicted = _classes(wheres, columns["predicted"], data_set, "predicted")
    if "true" in columns:
        _check_true(wheres, columns["true"], list(places))
    if by_column.keys() & columns.keys():
        return Predictions(places, _from_probabilities(path, wheres, columns, by_column, predicted))
    top = columns.get("top5")
    ranking = _top5(wheres, top, data_set, predicted) if top and any(top) else predicted[:, None]
    return Predictions(places, Answers(ranking, _confidence(path, wheres, columns)))


def read_trained(path: Path, data_set: DataSet) -> dict[str, str]:
    """The subset of each clip that the model was trained or validated on, by key: `val` for the latter. Raises
    HarCacheError, with file and line, for a clip that is not there, or is named twice.
    """
    header, rows = read_table(path, ["key"], ["key", "subset", "source"])
    place = header.index("key")
    names = ClipNames(data_set.sources, data_set.places, data_set.name)
    keys = read_clip_names(path, [(where, row[place]) for where, row in rows], names)
    if "subset" not in header:
        return dict.fromkeys(keys, "train")
    subsets = [row[header.index("subset")] for _, row in rows]
    for (where, _), subset in zip(rows, subsets, strict=True):
        if not _SUBSET.fullmatch(subset):
            raise DataError(f"{where}: subset is {subset[:100]!r}: expected train, val or fold and its number")
    return dict(zip(keys, subsets, strict=True))


def _classes(wheres: Sequence[str], names: Sequence[str], data_set: DataSet, column: str) -> np.ndarray:
    """int64 (rows)."""
    place = {name: i for i, name in enumerate(data_set.classes)}
    for where, name in zip(wheres, names, strict=True):
        if name not in place:
            raise DataError(f"{where}: {column} is {name[:100]!r}, no class of {data_set.name}")
    return np.array([place[name] for name in names], np.int64)


def _check_true(wheres: Sequence[str], names: Sequence[str], keys: Sequence[str]) -> None:
    for where, name, key in zip(wheres, names, keys, strict=True):
        if name != class_of(key):
            raise DataError(f"{where}: true is {name[:100]!r}, but {key} is of class {class_of(key)}")


def _from_probabilities(
    path: Path,
    wheres: Sequence[str],
    columns: Mapping[str, Sequence[str]],
    by_column: Mapping[str, int],
    predicted: np.ndarray,
) -> Answers:
    if lacking := [name for name in by_column if name not in columns]:
        raise DataError(f"{path}, line 1: no column {lacking[0]}: expected one for each class, or for none")
    found = np.array([_shares(path, wheres, columns[name], name) for name in by_column]).T
    sums, best = found.sum(1), found.max(1)
    of_predicted = found[np.arange(len(predicted)), predicted]
    for i, where in enumerate(wheres):
        if abs(sums[i] - 1) > _SUM_TO_ONE:
            raise DataError(f"{where}: the probabilities of its classes are {sums[i]:.3g} together, not 1")
        if of_predicted[i] < best[i]:
            raise DataError(f"{where}: predicted is {columns['predicted'][i]!r}, but another class is likelier")
    first = found.copy()
    first[np.arange(len(predicted)), predicted] = np.inf  # of equals it is the one that was predicted
    return Answers(ranked(first), of_predicted, found)


def _top5(wheres: Sequence[str], texts: Sequence[str], data_set: DataSet, predicted: np.ndarray) -> np.ndarray:
    """int64 (rows, 5), or as many as there are classes."""
    wanted = min(_FIVE, len(data_set.classes))
    found = []
    for where, text, first in zip(wheres, texts, predicted, strict=True):
        names = split_names(text)
        if len(names) != wanted or len(set(names)) != wanted:
            raise DataError(f"{where}: top5 is {text[:100]!r}: expected {wanted} classes with | between them")
        if names[0] != data_set.classes[first]:
            raise DataError(f"{where}: top5 begins with {names[0]!r}, but predicted is {data_set.classes[first]!r}")
        found.append(_classes([where] * wanted, names, data_set, "one of top5"))
    return np.array(found)


def _confidence(path: Path, wheres: Sequence[str], columns: Mapping[str, Sequence[str]]) -> np.ndarray | None:
    given = [name for name in _CONFIDENCE if any(columns.get(name, ()))]
    if len(given) > 1:
        raise DataError(f"{path}, line 1: {' and '.join(given)} are the same thing: keep one")
    return np.array(_shares(path, wheres, columns[given[0]], given[0])) if given else None


def _shares(path: Path, wheres: Sequence[str], texts: Sequence[str], column: str) -> list[float]:
    found = []
    for where, text in zip(wheres, texts, strict=True):
        try:
            share = float(text)
        except ValueError:
            share = math.nan
        if not 0 <= share <= 1:
            raise DataError(f"{where}: {column} is {text[:100]!r}: expected a probability, 0 to 1")
        found.append(share)
    return found
