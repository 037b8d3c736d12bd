"""Probabilities and true classes -> figures and tables. Accuracies are shares of 1, not percent."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import confusion_matrix, f1_score, log_loss, recall_score

from ..data.hmdb51 import TAG_WORDS, parse_tags
from ..data.keys import film_of, source_of
from ..data.leakage import GROUPS
from ..plots import plot_confusion
from ..statistics.calibration import calibration_error, confidence_error
from ..statistics.intervals import accuracy_interval
from ..storage.files import make_directory, to_csv
from .results import Accuracy, ConfusedPair, Evaluation, Leakage, Metrics, TagAccuracy, write_evaluation
from .tables import CONFUSION, PER_CLASS, PER_CLASS_HEADER, PREDICTIONS, ClipPrediction, join_names, predictions_table

_PAIRS = 10
_FIVE = 5


@dataclass(frozen=True)
class Answers:
    """What a model takes clips for. `ranking`: int (clips, n), classes, the likeliest first, as many as are known;
    `confidence`: float (clips), the probability of the likeliest; `probabilities`: float (clips, classes), of all. None
    where they are not known.
    """

    ranking: np.ndarray
    confidence: np.ndarray | None = None
    probabilities: np.ndarray | None = None

    @classmethod
    def of(cls, probabilities: np.ndarray) -> "Answers":
        """Where all probabilities are known, float (clips, classes)."""
        ranking = ranked(probabilities)
        return cls(ranking, np.take_along_axis(probabilities, ranking[:, :1], 1)[:, 0], probabilities)


@dataclass(frozen=True)
class ClassScores:
    """One class: its clips, precision, recall, f1, and the class that it is mostly taken for, or "".

    The recall of a class is its accuracy; it is None for a class without clips, as is the precision of one that was
    never predicted.
    """

    name: str
    support: int
    precision: float | None
    recall: float | None
    f1: float
    mostly_taken_for: str


@dataclass(frozen=True)
class ScoredClips:
    """The clips of a test list, what they are, and what the model takes them for; all in one order.

    sources: of each clip by its key; frames: how many each has, or None; true: int (clips), indices into `classes`;
    groups: what the model knew of each clip before, seen, sibling or clean; in_other_class: bool for each clip, whether
    the model knew its film from other classes only.
    """

    classes: Sequence[str]
    sources: Mapping[str, str]
    frames: Sequence[int | None]
    true: np.ndarray
    answers: Answers
    groups: Sequence[str]
    in_other_class: Sequence[bool]

    @cached_property
    def keys(self) -> Sequence[str]:
        """The clips' keys."""
        return list(self.sources)

    @cached_property
    def films(self) -> Sequence[str]:
        """The film that each clip was cut from, whatever its class."""
        return [film_of(source) for source in self.sources.values()]

    @cached_property
    def correct(self) -> np.ndarray:
        """Which clips the model has right, bool (clips)."""
        return self._predicted == self.true

    @cached_property
    def confusions(self) -> np.ndarray:
        """int64 (classes, classes): true classes as rows, predicted ones as columns."""
        return confusion_matrix(self.true, self._predicted, labels=range(len(self.classes)))

    def figures(self) -> dict[str, Any]:
        """The fields of `Metrics` that come from the predictions."""
        return {
            **scores(self.true, self.answers, len(self.classes)),
            "films": len(set(self.films)),
            "interval": accuracy_interval(self.correct, self.films),
            "leakage": self._leakage(),
            "confused": confused_pairs(self.confusions, self.classes),
            "tags": by_tag(self.keys, self.correct, self.films),
        }

    def predictions(self) -> list[ClipPrediction]:
        """What predictions.csv holds."""
        ranking, confidence = self.answers.ranking[:, :_FIVE], self.answers.confidence
        return [
            ClipPrediction(
                key=key,
                true=self.classes[self.true[i]],
                predicted=self.classes[order[0]],
                probability=None if confidence is None else float(confidence[i]),
                top5=join_names(self.classes[j] for j in order) if len(order) > 1 else "",
                subset=self.groups[i],
                frames=self.frames[i],
                source="" if source == source_of(key) else source,
            )
            for i, ((key, source), order) in enumerate(zip(self.sources.items(), ranking, strict=True))
        ]

    @property
    def _predicted(self) -> np.ndarray:
        return self.answers.ranking[:, 0]

    def _leakage(self) -> Leakage:
        of_groups = {name: self._accuracy([group == name for group in self.groups]) for name in GROUPS}
        return Leakage(**of_groups, other_class=self._accuracy(self.in_other_class))

    def _accuracy(self, chosen: Sequence[bool]) -> Accuracy:
        rows = np.flatnonzero(chosen)
        correct = self.correct[rows]
        top1 = float(correct.mean()) if len(rows) else None
        return Accuracy(len(rows), top1, accuracy_interval(correct, _at(rows, self.films)), len(rows) / len(chosen))


def ranked(probabilities: np.ndarray) -> np.ndarray:
    """int64 (clips, classes): the classes of each clip, the likeliest first; equals in the order of the classes."""
    return np.argsort(-probabilities, axis=1, kind="stable")


def scores(true: np.ndarray, answers: Answers, classes: int) -> dict[str, float | None]:
    """top1, top5, loss (nats), macro_f1, mean_class_accuracy, calibration_error; F1 and class accuracy over the classes
    that have clips; top5 is None for five classes or fewer. None is what takes more than the answers tell.

    true: int (clips), at least one.
    """
    hits = answers.ranking == true[:, None]
    present = np.unique(true)
    predicted = answers.ranking[:, 0]
    return {
        "top1": float(hits[:, 0].mean()),
        "top5": float(hits[:, :_FIVE].any(1).mean()) if hits.shape[1] >= _FIVE < classes else None,
        **_loss_and_calibration(true, answers),
        "macro_f1": float(f1_score(true, predicted, labels=present, average="macro", zero_division=0)),
        "mean_class_accuracy": float(recall_score(true, predicted, labels=present, average="macro", zero_division=0)),
    }


def _loss_and_calibration(true: np.ndarray, answers: Answers) -> dict[str, float | None]:
    if answers.probabilities is None:
        known = answers.confidence
        error = None if known is None else confidence_error(known, answers.ranking[:, 0] == true)
        return {"loss": None, "calibration_error": error}
    exact = answers.probabilities.astype(np.float64)
    exact /= exact.sum(1, keepdims=True)
    loss = float(log_loss(true, exact, labels=range(exact.shape[1])))
    return {"loss": loss, "calibration_error": calibration_error(exact, true)}


def write_scored(folder: Path, metrics: Metrics, scored: ScoredClips, more: Mapping[str, bytes]) -> Evaluation:
    """Write an evaluation into its folder, with `more` tables by name. Raises FileError."""
    make_directory(folder)
    title = f"Test list of split {metrics.split}: {metrics.clips:,} clips, {metrics.top1:.1%} right"
    plot_confusion(scored.confusions, scored.classes, folder / CONFUSION, title)
    predictions = scored.predictions()
    classes = per_class(scored.confusions, scored.classes)
    tables = {
        PREDICTIONS: predictions_table(predictions),
        **more,
        PER_CLASS: to_csv(PER_CLASS_HEADER, map(astuple, classes)),
    }
    write_evaluation(folder, metrics, tables)
    return Evaluation(folder, metrics, predictions)


def per_class(matrix: np.ndarray, classes: Sequence[str]) -> list[ClassScores]:
    """The scores of each class that has clips or was predicted, from its confusion matrix."""
    found = []
    for i, name in enumerate(classes):
        right, clips, named = int(matrix[i, i]), int(matrix[i].sum()), int(matrix[:, i].sum())
        if not clips and not named:
            continue
        wrong = matrix[i].copy()
        wrong[i] = 0
        precision = right / named if named else None
        recall = right / clips if clips else None
        mostly = classes[wrong.argmax()] if wrong.any() else ""
        found.append(ClassScores(name, clips, precision, recall, 2 * right / (clips + named), mostly))
    return found


def confused_pairs(matrix: np.ndarray, classes: Sequence[str]) -> tuple[ConfusedPair, ...]:
    """The ten pairs of true and predicted class that are confused most often."""
    wrong = matrix - np.diag(np.diag(matrix))
    shares = wrong / np.maximum(matrix.sum(1), 1)[:, None]
    pairs = sorted(np.argwhere(wrong).tolist(), key=lambda p: (-wrong[*p], -shares[*p], p))[:_PAIRS]
    return tuple(ConfusedPair(classes[a], classes[b], int(wrong[a, b]), float(shares[a, b])) for a, b in pairs)


def by_tag(keys: Sequence[str], correct: np.ndarray, films: Sequence[str]) -> tuple[TagAccuracy, ...]:
    """Accuracy by what HMDB51's annotators marked; empty for other data."""
    members: dict[tuple[str, Any], list[int]] = {}
    for i, key in enumerate(keys):
        if tags := parse_tags(*key.split("/", 1)):
            for tag in (*TAG_WORDS, "people"):
                members.setdefault((tag, getattr(tags, tag)), []).append(i)
    values = [(tag, value) for tag, words in TAG_WORDS.items() for value in words]
    values += sorted(member for member in members if member[0] == "people")
    found = []
    for tag, value in values:
        if rows := members.get((tag, value)):
            words = TAG_WORDS[tag][value] if tag in TAG_WORDS else str(value)
            right = correct[rows]
            found.append(
                TagAccuracy(tag, words, len(rows), float(right.mean()), accuracy_interval(right, _at(rows, films)))
            )
    return tuple(found)


def _at(rows: Iterable[Any], values: Sequence[str]) -> list[str]:
    return [values[i] for i in rows]
