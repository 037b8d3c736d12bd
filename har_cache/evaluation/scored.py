"""What a model says of the clips of a test list -> figures and tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ..data.leakage import GROUPS
from . import metrics

_TOP = 5


@dataclass(frozen=True)
class Scored:
    """Clips, what they are, and what the model takes them for; all in one order.

    frames: int (clips); true: int (clips), indices into `classes`; probabilities: float (clips, classes); groups: what
    the model knew of each clip before, seen, sibling or clean.
    """

    classes: Sequence[str]
    keys: Sequence[str]
    sources: Sequence[str]
    frames: np.ndarray
    true: np.ndarray
    probabilities: np.ndarray
    groups: Sequence[str]

    @cached_property
    def confusions(self) -> np.ndarray:
        """int64 (classes, classes): true classes as rows, predicted ones as columns."""
        return metrics.confusions(self.true, self._order[:, 0], len(self.classes))

    def figures(self) -> dict[str, Any]:
        """All figures of metrics.json that come from the predictions."""
        correct = self._order[:, 0] == self.true
        return {
            **metrics.scores(self.true, self.probabilities),
            "interval": metrics.interval(correct, self.sources),
            "leakage": {group: self._group(group, correct) for group in GROUPS},
            "confused": metrics.confused_pairs(self.confusions, self.classes),
            "tags": metrics.by_tag(self.keys, correct, self.sources),
        }

    def predictions(self) -> list[dict[str, Any]]:
        """The rows of predictions.csv."""
        return [
            {
                "key": key,
                "true": self.classes[self.true[i]],
                "predicted": self.classes[order[0]],
                "probability": f"{self.probabilities[i, order[0]]:.6f}",
                "top5": "|".join(self.classes[j] for j in order),
                "subset": self.groups[i],
                "frames": int(self.frames[i]),
            }
            for i, (key, order) in enumerate(zip(self.keys, self._order[:, :_TOP], strict=True))
        ]

    def per_class(self) -> list[dict[str, Any]]:
        """The rows of per_class.csv."""
        return metrics.per_class(self.confusions, self.classes)

    @cached_property
    def _order(self) -> np.ndarray:
        return metrics.ranked(self.probabilities)

    def _group(self, group: str, correct: np.ndarray) -> Mapping[str, Any]:
        rows = [i for i, other in enumerate(self.groups) if other == group]
        figures = metrics.accuracy(correct[rows], [self.sources[i] for i in rows])
        return {**figures, "share": len(rows) / len(correct)}
