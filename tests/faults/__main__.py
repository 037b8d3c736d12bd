"""`python -m tests.faults`: the commands, files and clips under every fault that is known, counted.

A few of each in under five minutes; with --long all of them, in an hour or so. Exit status 1 where a fault has cost
more than the work that it interrupted. Linux only.
"""

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from har_cache.system import describe

from .damage import Damages
from .decoding.trials import fuzz
from .hostile.trials import hostile
from .kills import random_kills, step_kills
from .limits import limits
from .plan import LONG, SHORT, Plan
from .races import all_races, ends
from .subjects import Subject, make_world
from .table import Tally, page
from .trial import Trial, in_parallel


def main() -> int:
    """Try all that is asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--long", action="store_true", help="all of them")
    parser.add_argument("--seed", type=int, default=0, help="of all that is drawn")
    parser.add_argument("--only", action="append", choices=list(Plan.__dataclass_fields__), help="of these alone")
    parser.add_argument("--page", type=Path, help="write the table to this Markdown file")
    parser.add_argument("--folder", type=Path, help="where to work, and where what fails stays")
    asked = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background, and for its children
    folder = asked.folder or Path(tempfile.mkdtemp(prefix="har-cache-faults-"))
    plan = LONG if asked.long else SHORT
    begun = time.monotonic()
    tally = Tally()
    try:
        for area, trials in _areas(folder, plan, asked.seed, asked.only or list(Plan.__dataclass_fields__)):
            _count(tally, area, trials)
    finally:
        print(tally.table(), flush=True)
    minutes = (time.monotonic() - begun) / 60
    if asked.page:
        asked.page.write_text(page(tally, describe(), asked.seed, minutes))
    bad = tally.bad
    print(f"{tally.tried} faults in {minutes:.1f} minutes, {len(bad)} of them cost more than they had to", flush=True)
    if not bad:
        shutil.rmtree(folder, ignore_errors=True)
    return int(bool(bad))


def _count(tally: Tally, area: str, trials: Iterator[Trial]) -> None:
    begun, before = time.monotonic(), tally.tried
    for trial in trials:
        tally.add(area, trial)
        if trial.outcome != "survived":
            _say(f"{trial.outcome.upper()}: {trial.kind}: {trial.name}: {trial.detail}")
    _say(f"{area}: {tally.tried - before} tried in {time.monotonic() - begun:.0f} s")


def _areas(folder: Path, plan: Plan, seed: int, wanted: list[str]) -> Iterator[tuple[str, Iterator[Trial]]]:
    """What there is to be tried, by the name of its area."""
    world = folder / "world"
    subjects: dict[str, Subject] = {}
    if {*wanted} - {"fuzz"}:
        subjects = make_world(world, _say)
    areas: dict[str, Callable[[int], Iterator[Trial]]] = {
        "damages": lambda count: _damages(Damages(world, folder / "damages", seed), count),
        "hostile": lambda count: hostile(world, folder / "hostile", count, seed, _say),
        "steps": lambda count: in_parallel(step_kills(subjects, world, folder / "steps", count, seed), count),
        "kills": lambda count: in_parallel(random_kills(subjects, world, folder / "kills", count, seed), count),
        "races": lambda count: in_parallel(
            all_races(world, folder / "races", count, seed, subjects, ends(world, subjects)), count
        ),
        "limits": lambda count: limits(world, folder / "limits", count, seed, subjects, _say),
        "fuzz": lambda count: fuzz(folder / "fuzz", count, seed, _say),
    }
    for name, trials in areas.items():
        if name in wanted:
            yield name, trials(getattr(plan, name))


def _damages(damages: Damages, count: int) -> Iterator[Trial]:
    yield from damages.of_caches(count // 2)
    yield from damages.of_runs(count - count // 2)


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    sys.exit(main())
