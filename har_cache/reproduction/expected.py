"""What was expected of HMDB51 before it was seen, and the figures beside it."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from ..comparison.tables import Table

# Of others, on HMDB51: to judge the expected ranges by.
SOURCES = (
    "two-stream, the spatial net alone, fine-tuned: 40.5 (Simonyan and Zisserman, NIPS 2014)",
    "MobileNetV2 and BiGRU, split 1: 41.0 frozen, 43.9 fine-tuned (README of linshenhao/hmdb51-action-recognition)",
    "TSN with ResNet-50, ImageNet weights alone, fine-tuned: 48.95 (mmaction2, tsn_r50_1x1x8_50e_hmdb51_imagenet_rgb)",
    "a headline of the other protocol: 88.39 (README of reshalfahsi/action-recognition)",
)
NOT_THEIRS = "None of them is of this project's; the ranges are judgements, written down before any figure was seen."


@dataclass(frozen=True)
class Expected:
    """A range of top-1 in percent, both ends included."""

    least: float
    most: float

    def __str__(self) -> str:
        return f"{self.least:g} to {self.most:g}"

    def verdict(self, percent: float) -> str:
        """Whether a figure is inside, as it is shown: with one decimal."""
        shown = round(percent, 1)
        return "below" if shown < self.least else "above" if shown > self.most else "inside"


FROZEN, FINE_TUNED, HEADLINE = Expected(36, 42), Expected(39, 46), Expected(80, 93)


@dataclass(frozen=True)
class Figure:
    """Top-1, shares of 1, on the test list of each split, None where there is none. `expected`: None where nothing was
    said beforehand.
    """

    what: str
    top1: tuple[float | None, ...]
    expected: Expected | None = None

    @property
    def mean(self) -> float | None:
        """Over the splits; None unless all have a figure."""
        known = [value for value in self.top1 if value is not None]
        return statistics.mean(known) if len(known) == len(self.top1) else None

    @property
    def verdicts(self) -> tuple[str | None, ...]:
        """Of each split's, and of the mean: `inside`, `below`, `above`; None where there is no figure, or no range."""
        values = (*self.top1, self.mean)
        return tuple(None if v is None or not self.expected else self.expected.verdict(100 * v) for v in values)

    @property
    def summary(self) -> str:
        """The verdicts in words."""
        found = [verdict for verdict in self.verdicts if verdict]
        if not found:
            return "-"
        return found[0] if len(set(found)) == 1 else f"{found.count('inside')} of {len(found)} inside"


def table(figures: Sequence[Figure], title: str, notes: Sequence[str]) -> Table:
    """A row for each: every figure beside the range that was stated beforehand."""
    return Table(
        title=title,
        header=("", *(f"split {k}" for k, _ in enumerate(figures[0].top1, 1)), "mean", "expected of HMDB51", ""),
        rows=tuple(_row(figure) for figure in figures),
        notes=tuple(notes),
    )


def _row(figure: Figure) -> tuple[str, ...]:
    cells = [_cell(v, verdict) for v, verdict in zip((*figure.top1, figure.mean), figure.verdicts, strict=True)]
    return (figure.what, *cells, str(figure.expected or "-"), figure.summary)


def _cell(top1: float | None, verdict: str | None) -> str:
    mark = {"below": " <", "above": " >"}.get(verdict or "", "")
    return "-" if top1 is None else f"{100 * top1:.1f}{mark}"
