"""The count of faults, as a table."""

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, get_args

from .trial import Outcome, Trial

OUTCOMES: tuple[str, ...] = get_args(Outcome)
_TITLES = {
    "damages": "Files damaged",
    "hostile": "Files made to do harm",
    "steps": "Commands failing at a named step of a commit",
    "kills": "Commands killed at random moments",
    "races": "Two commands at once, readers beside writers",
    "limits": "Commands that lack something",
    "fuzz": "Clips",
}
_HEADER = f"| fault | tried | {' | '.join(OUTCOMES)} |\n|---|{'---:|' * (1 + len(OUTCOMES))}"


class Tally:
    """Trials, counted by area and kind."""

    def __init__(self) -> None:
        self._counts: dict[str, dict[str, Counter[str]]] = {}
        self.bad: list[Trial] = []

    def add(self, area: str, trial: Trial) -> None:
        """Count one in."""
        self._counts.setdefault(area, {}).setdefault(trial.kind, Counter())[trial.outcome] += 1
        if trial.outcome != "survived":
            self.bad.append(trial)

    @property
    def tried(self) -> int:
        """How many."""
        return sum(count.total() for kinds in self._counts.values() for count in kinds.values())

    def table(self) -> str:
        """In Markdown: a row for each kind, one for each area, one for all."""
        lines = [_HEADER]
        for area, kinds in self._counts.items():
            lines.append(_row(f"**{_TITLES[area]}**", sum(kinds.values(), Counter())))
            lines += [_row(kind, count) for kind, count in sorted(kinds.items())]
        whole = sum((count for kinds in self._counts.values() for count in kinds.values()), Counter())
        return "\n".join([*lines, _row("**all**", whole)])


def _row(name: str, count: Counter[str]) -> str:
    return f"| {name} | {count.total():,} | {' | '.join(f'{count[outcome]:,}' for outcome in OUTCOMES)} |"


def page(tally: Tally, machine: Mapping[str, Any], seed: int, minutes: float) -> str:
    """docs/reliability.md."""
    where = f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, {machine['system']}"
    versions = machine["versions"]
    with_what = ", ".join(f"{name} {versions[name]}" for name in ("python", "torch", "av", "h5py") if name in versions)
    bad = "\n".join(f"- {trial.outcome}: {trial.kind}: {trial.name}" for trial in tally.bad)
    return f"""# Reliability

What was done to har-cache on purpose, how often, and what was lost. Again:
`make test-faults ARGS="--long --seed {seed}"` ({minutes:.0f} minutes); the short one, `make test-faults`, is part of
every submission's check.

- {datetime.now(UTC):%Y-%m-%d}, commit `{machine["commit"]}`
- {where}; {with_what}

**survived**: no more was lost than the work in hand; run again, the command left byte for byte what it leaves
undisturbed, a damage was found, a hostile file refused in one line, or the fault made no difference. **lost**: work
that had been finished, a refusal without its true reason, a command that does not come to its end. **wrong**: other
bytes, embeddings or figures. **traceback**: one on the terminal instead of a line. **left**: a command that goes on
more than 2 s after its signal (5 s after Ctrl-C), or processes 2 s after it has ended.

{tally.table()}

{"Nothing was lost, nothing was wrong." if not tally.bad else bad}

How each is tried: `tests/faults`. Steps of a commit fail where `HAR_CACHE_FAILPOINT` says
(`har_cache/storage/failpoints.py`). Clips are compared with PyAV's own decode frame by frame, and a quarter of them
with embeddings by the library's own model.
"""
