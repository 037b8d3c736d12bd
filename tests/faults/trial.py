"""One fault that was tried, and what came of it."""

from dataclasses import dataclass
from typing import Literal

# Gone or refused without a documented reason; other data than an undisturbed run's; processes left.
Outcome = Literal["survived", "lost", "wrong", "traceback", "left"]


@dataclass(frozen=True)
class Trial:
    """A fault: `kind`, the row of the table that it counts in; `name`, which one it was; `detail`, what was seen where
    it did not survive, with the seed to repeat it.
    """

    kind: str
    name: str
    outcome: Outcome
    detail: str = ""
