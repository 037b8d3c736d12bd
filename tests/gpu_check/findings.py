"""What was found, one line each, and how it is shown."""

import json
import operator
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

_COMPARED = {">=": operator.ge, "<=": operator.le, "=": operator.eq}


@dataclass(frozen=True)
class Finding:
    """A value beside what is expected of it, `">= 0.85"`, say; `note`: what it was measured on. Without an expectation
    it is just told.
    """

    what: str
    value: Any
    expected: str = ""
    note: str = ""

    @property
    def falls_short(self) -> bool:
        """Whether it is not as expected."""
        if not self.expected:
            return False
        sign, _, bound = self.expected.partition(" ")
        return not _COMPARED[sign](self.value, type(self.value)(float(bound)))

    def line(self) -> str:
        """One line of the table."""
        value = f"{self.value:,.5g}" if isinstance(self.value, float) else f"{self.value}"
        if isinstance(self.value, float) and abs(self.value) >= 100:
            value = f"{self.value:,.0f}"
        verdict = "SHORT" if self.falls_short else "ok" if self.expected else ""
        return f"{self.what:<52} {value:>14} {self.expected:>10} {verdict:<6} {self.note}".rstrip()


@dataclass
class Findings:
    """All of a check. `errors`: steps that ended without a figure, and why."""

    machine: dict[str, Any] = field(default_factory=dict)
    found: list[Finding] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def add(self, what: str, value: Any, expected: str = "", note: str = "") -> None:
        """One more; it is shown at once."""
        self.found.append(Finding(what, value, expected, note))
        print(self.found[-1].line(), flush=True)

    @property
    def short(self) -> list[str]:
        """Everything that is not as it should be."""
        return [finding.line() for finding in self.found if finding.falls_short] + self.errors

    def lines(self) -> Iterator[str]:
        """The table, and then what fell short."""
        yield ", ".join(f"{name} {value}" for name, value in self.machine.items())
        yield f"{'':<52} {'found':>14} {'expected':>10}"
        yield from (finding.line() for finding in self.found)
        yield ""
        yield "Everything is as expected." if not self.short else "Fell short:"
        yield from self.short

    def write(self, path: Path) -> None:
        """All of it as JSON."""
        found = [{**asdict(finding), "falls_short": finding.falls_short} for finding in self.found]
        content = {"machine": self.machine, "found": found, "errors": self.errors, "short": self.short}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=2) + "\n")
