"""Curves and points, placed in percent of a chart's width and height: pages draw them as SVG, and write beside them."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ...statistics.calibration import Bin

_MOST = 1e9  # what is beyond, or no number, is a gap in a line
_ROOM = 0.06  # above the highest value and below the lowest, as a share of their distance
_SUBSETS = {"train": "training", "val": "validation"}


@dataclass(frozen=True)
class Tick:
    """A value at an axis: its place, from the left or from the bottom, and what it is called."""

    place: float
    label: str


@dataclass(frozen=True)
class Line:
    """A line of a `kind` that the style knows; `parts`: points as SVG has them, several where there are gaps."""

    kind: str
    name: str
    parts: tuple[str, ...]


@dataclass(frozen=True)
class Dot:
    """A point, from the left and from the bottom; `size`: its diameter in pixels."""

    x: float
    y: float
    size: float
    label: str


@dataclass(frozen=True)
class Chart:
    """All that is drawn; `said`: the same in words."""

    title: str
    x_title: str
    x: tuple[Tick, ...]
    y: tuple[Tick, ...]
    lines: tuple[Line, ...]
    dots: tuple[Dot, ...]
    said: str


def curves(rows: Sequence[Mapping[str, float]], best: int) -> tuple[Chart, ...]:
    """Loss, and accuracy in percent, by epoch, in training and validation; `best`: the epoch to mark, if there."""
    if not rows:
        return ()
    epochs = [row["epoch"] for row in rows]
    first, last = min(epochs), max(epochs)
    x = _Scale(first, last if last > first else first + 1)
    x_ticks = tuple(Tick(x.place(value), f"{value:.0f}") for value in _steps(first, last) if value == round(value))
    found = []
    for what, title, factor in (("loss", "Loss (nats)", 1.0), ("accuracy", "Accuracy (% of clips)", 100.0)):
        values = {name: [factor * row[f"{name}_{what}"] for row in rows] for name in _SUBSETS}
        known = [value for each in values.values() for value in each if _drawn(value)] or [0.0]
        y = _Scale(0.0, 100.0) if what == "accuracy" else _around(min(known), max(known))
        lines = tuple(
            Line(
                name,
                word,
                _parts(
                    (x.place(a), y.place(b)) if _drawn(b) else None for a, b in zip(epochs, values[name], strict=True)
                ),
            )
            for name, word in _SUBSETS.items()
        )
        marked = [
            Dot(x.place(best), y.place(value), 11, f"best epoch {best}: {value:.3g}{'%' if factor > 1 else ''}")
            for epoch, value in zip(epochs, values["val"], strict=True)
            if epoch == best and _drawn(value)
        ]
        y_ticks = tuple(Tick(y.place(value), f"{value:g}") for value in _steps(y.low, y.high))
        ends = ", ".join(f"{word} ends at {values[name][-1]:.3g}" for name, word in _SUBSETS.items())
        found.append(Chart(title, "epoch", x_ticks, y_ticks, lines, tuple(marked), f"{title} by epoch: {ends}"))
    return tuple(found)


def reliability_diagram(bins: Sequence[Bin]) -> Chart:
    """Of each bin the share of clips that are right by their mean probability, beside the line where both are alike."""
    most = max(each.clips for each in bins)
    dots = tuple(
        Dot(
            100 * each.confidence,
            100 * each.accuracy,
            6 + 18 * math.sqrt(each.clips / most),
            f"probability {100 * each.confidence:.0f}%: {100 * each.accuracy:.0f}% of {each.clips:,} clips right",
        )
        for each in bins
    )
    ticks = tuple(Tick(place, f"{place}") for place in (0, 25, 50, 75, 100))
    alike = Line("alike", "as sure as right", ("0,100 100,0",))
    said = "Share of clips that are right by the probability of the predicted class; " + "; ".join(
        d.label for d in dots
    )
    return Chart("Right (% of clips)", "probability of the predicted class (%)", ticks, ticks, (alike,), dots, said)


@dataclass(frozen=True)
class _Scale:
    low: float
    high: float

    def place(self, value: float) -> float:
        """In percent of the way from `low` to `high`."""
        return round(100 * (value - self.low) / (self.high - self.low), 3)


def _around(low: float, high: float) -> _Scale:
    room = _ROOM * (high - low) or 0.5
    return _Scale(low - room, high + room)


def _steps(low: float, high: float) -> list[float]:
    """Four to nine round values between two others."""
    span = high - low
    if span <= 0:
        return [low]
    power = 10 ** math.floor(math.log10(span / 4))
    step = max(power * factor for factor in (1, 2, 5) if power * factor <= span / 3.5)
    return [round(i * step, 10) for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _parts(points: Iterable[tuple[float, float] | None]) -> tuple[str, ...]:
    """Points as an SVG polyline has them, from the top; another part after each gap."""
    parts: list[list[str]] = [[]]
    for point in points:
        if point is None:
            parts.append([])
        else:
            parts[-1].append(f"{point[0]:g},{100 - point[1]:g}")
    return tuple(" ".join(part) for part in parts if part)


def _drawn(value: float) -> bool:
    return math.isfinite(value) and abs(value) < _MOST
