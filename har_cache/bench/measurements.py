"""Speeds that a benchmark has measured, run by run, each beside its limit."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Figure:
    """A part's speed, one number a run, beside that of its limit, in the same unit; `limit_is` says what that is."""

    part: str
    unit: str
    runs: tuple[float, ...]
    limits: tuple[float, ...] = ()
    limit_is: str | None = None

    @property
    def median(self) -> float:
        """The median of the runs."""
        return statistics.median(self.runs)

    @property
    def spread(self) -> float:
        """From the slowest run to the fastest, as a share of the median."""
        return _spread(self.runs)

    @property
    def limit_spread(self) -> float | None:
        """The same of the limits: how much the machine varied by itself."""
        return _spread(self.limits) if self.limits else None

    @property
    def limit(self) -> float | None:
        """The median of the limits."""
        return statistics.median(self.limits) if self.limits else None

    @property
    def ratio(self) -> float | None:
        """Speed to limit: the median of what the runs gave, so that a machine that slows down slows both."""
        if not self.limits:
            return None
        return statistics.median(run / limit for run, limit in zip(self.runs, self.limits, strict=True))

    def to_dict(self) -> dict[str, Any]:
        """The figure in JSON."""
        names = ("part", "unit", "median", "spread", "runs", "limit", "limit_spread", "limit_is", "ratio")
        return {name: getattr(self, name) for name in names}


def _spread(runs: Sequence[float]) -> float:
    return (max(runs) - min(runs)) / statistics.median(runs)


class Measurements(dict[str, Figure]):
    """Figures of parts, in the order of their first runs; they grow by a run at a time."""

    def record(
        self, part: str, unit: str, speed: float, limit: float | None = None, limit_is: str | None = None
    ) -> None:
        """Add one run of a part, and what it could have been at most."""
        known = self.get(part, Figure(part, unit, ()))
        limits = known.limits if limit is None else (*known.limits, limit)
        self[part] = Figure(part, unit, (*known.runs, speed), limits, limit_is)
