"""The models of several splits together."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .metrics import SCHEMA, Metrics


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation of a figure over several splits."""

    mean: float
    std: float


@dataclass(frozen=True)
class SplitScore:
    """Accuracy of the model of one split."""

    trained_on: int
    tested_on: int
    top1: float


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The models of several splits together. `leaking`: how many of them know clips, or siblings of clips, that they
    are scored on.
    """

    splits: tuple[SplitScore, ...]
    chance: float
    top1: Spread | None
    top5: Spread | None
    loss: Spread | None
    macro_f1: Spread | None
    mean_class_accuracy: Spread | None
    leaking: int
    clean_top1: Spread | None
    linear_on_mean: Spread | None

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        return {"schema": SCHEMA, **asdict(self)}


def summarise(all_metrics: Sequence[Metrics]) -> Summary:
    """What several models have in common; a figure that fewer than two of them have is None."""
    return Summary(
        splits=tuple(SplitScore(m.trained_on, m.split, m.top1) for m in all_metrics),
        chance=all_metrics[0].chance,
        top1=_spread(m.top1 for m in all_metrics),
        top5=_spread(m.top5 for m in all_metrics),
        loss=_spread(m.loss for m in all_metrics),
        macro_f1=_spread(m.macro_f1 for m in all_metrics),
        mean_class_accuracy=_spread(m.mean_class_accuracy for m in all_metrics),
        leaking=sum(m.leakage.leaks for m in all_metrics),
        clean_top1=_spread(m.leakage.clean.top1 for m in all_metrics),
        linear_on_mean=_spread(m.linear_on_mean.top1 if m.linear_on_mean else None for m in all_metrics),
    )


def _spread(values: Iterable[float | None]) -> Spread | None:
    known = [value for value in values if value is not None]
    return Spread(statistics.mean(known), statistics.stdev(known)) if len(known) > 1 else None
