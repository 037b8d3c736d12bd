"""Probabilities and true classes -> figures. Accuracies are shares of 1, not percent."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.metrics import confusion_matrix, f1_score, log_loss, recall_score

from ..data.hmdb51 import TAG_WORDS, parse_tags

_DRAWS = 2000
_TAIL = 0.025


def ranked(probabilities: np.ndarray) -> np.ndarray:
    """int64 (clips, classes): the classes of each clip, the likeliest first; equals in the order of the classes."""
    return np.argsort(-probabilities, axis=1, kind="stable")


def scores(true: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """top1, top5, loss (nats), macro_f1, mean_class_accuracy; the last two over the classes that have clips.

    true: int (clips), at least one; probabilities: float (clips, classes).
    """
    order = ranked(probabilities)
    hits = order == true[:, None]
    exact = probabilities.astype(np.float64)
    exact /= exact.sum(1, keepdims=True)
    present = np.unique(true)
    predicted = order[:, 0]
    return {
        "top1": float(hits[:, 0].mean()),
        "top5": float(hits[:, :5].any(1).mean()),
        "loss": float(log_loss(true, exact, labels=range(exact.shape[1]))),
        "macro_f1": float(f1_score(true, predicted, labels=present, average="macro", zero_division=0)),
        "mean_class_accuracy": float(recall_score(true, predicted, labels=present, average="macro", zero_division=0)),
    }


def interval(correct: np.ndarray, sources: Sequence[str], seed: int = 0) -> tuple[float, float] | None:
    """A 95% interval of the accuracy, by bootstrap; None for fewer than two sources.

    Whole sources are drawn, not clips: clips of one film are right or wrong together, and drawing them one by one
    would give too narrow an interval. Where all clips are right, or none, every draw is the same and says nothing: the
    open end is then the exact (Clopper-Pearson) one, each source counted once.
    """
    names, place = np.unique(np.asarray(sources), return_inverse=True)
    if len(names) < 2:
        return None
    if correct.all() or not correct.any():
        end = _TAIL ** (1 / len(names))
        return (end, 1.0) if correct.all() else (0.0, 1 - end)
    hits, clips = np.bincount(place, correct), np.bincount(place)
    draws = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), _DRAWS)
    low, high = np.quantile((draws @ hits) / (draws @ clips), (_TAIL, 1 - _TAIL))
    return float(low), float(high)


def accuracy(correct: np.ndarray, sources: Sequence[str]) -> dict[str, Any]:
    """clips, top1 and its interval, of any group of clips; top1 is None for an empty one."""
    clips = len(correct)
    return {
        "clips": clips,
        "top1": float(correct.mean()) if clips else None,
        "interval": interval(correct, sources),
    }


def confusions(true: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """int64 (classes, classes): how many clips of each true class (row) were taken for each class (column)."""
    return confusion_matrix(true, predicted, labels=range(classes))


def per_class(matrix: np.ndarray, classes: Sequence[str]) -> list[dict[str, Any]]:
    """For each class that has clips or was predicted: support, precision, recall, f1, and what it is mostly taken for.

    The recall of a class is its accuracy; it is None for a class without clips, as is the precision of one that was
    never predicted.
    """
    rows = []
    for i, name in enumerate(classes):
        right, clips, named = int(matrix[i, i]), int(matrix[i].sum()), int(matrix[:, i].sum())
        if not clips and not named:
            continue
        wrong = matrix[i].copy()
        wrong[i] = 0
        rows.append(
            {
                "class": name,
                "support": clips,
                "precision": right / named if named else None,
                "recall": right / clips if clips else None,
                "f1": 2 * right / (clips + named),
                "mostly_taken_for": classes[wrong.argmax()] if wrong.any() else "",
            }
        )
    return rows


def confused_pairs(matrix: np.ndarray, classes: Sequence[str], count: int = 10) -> list[dict[str, Any]]:
    """The pairs of true and predicted class that are confused most often, with clips and share of the true class."""
    wrong = matrix - np.diag(np.diag(matrix))
    shares = wrong / np.maximum(matrix.sum(1), 1)[:, None]
    pairs = sorted(np.argwhere(wrong).tolist(), key=lambda p: (-wrong[*p], -shares[*p], p))[:count]
    return [
        {"true": classes[a], "predicted": classes[b], "clips": int(wrong[a, b]), "share": float(shares[a, b])}
        for a, b in pairs
    ]


def by_tag(keys: Sequence[str], correct: np.ndarray, sources: Sequence[str]) -> list[dict[str, Any]]:
    """Accuracy by what HMDB51's annotators marked: tag, value (its words), clips, top1, interval. Empty elsewhere."""
    members: dict[tuple[str, Any], list[int]] = {}
    for i, key in enumerate(keys):
        if tags := parse_tags(*key.split("/", 1)):
            for tag in (*TAG_WORDS, "people"):
                members.setdefault((tag, getattr(tags, tag)), []).append(i)
    values = [(tag, value) for tag, words in TAG_WORDS.items() for value in words]
    values += sorted(member for member in members if member[0] == "people")
    return [
        {
            "tag": tag,
            "value": TAG_WORDS[tag][value] if tag in TAG_WORDS else str(value),
            **accuracy(correct[members[tag, value]], [sources[i] for i in members[tag, value]]),
        }
        for tag, value in values
        if (tag, value) in members
    ]
