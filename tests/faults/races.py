"""Two commands at once in one folder, and readers beside a writer: one is refused in one line, or both do the same; no
reader sees anything but the truth or an error; what is there in the end is what one of them, alone, leaves.
"""

import random
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from har_cache import FeatureCache
from har_cache.cache.verify import verify
from har_cache.errors import CacheError, HarCacheError
from har_cache.evaluation.results import read_evaluation
from har_cache.model.run import Run as TrainedRun

from ..conftest import settled
from ..helpers.commands import Run
from .subjects import EXTRACT, TRAIN, Results, Subject, run_results
from .trial import Job, Problem, Trial
from .ways import stderr_of

_DEADLINE_S = 300
_REFUSED = (
    "at work here",
    "made with another recipe",
    "holds a finished run",
    "holds an unfinished run",
)


@dataclass(frozen=True)
class Race:
    """Two commands, the second a while after the first. `ends`: what either of them, alone, may leave."""

    name: str
    first: Subject
    second: list[str]
    ends: tuple[str, ...]
    reads: Callable[[Path], "str | None"] | None = None


def races(subjects: dict[str, Subject]) -> list[Race]:
    """All that are run."""
    extract, over = subjects["extract"], subjects["extract --overwrite"]
    train, retrain, evaluate = subjects["train-head"], subjects["train-head --overwrite"], subjects["evaluate"]
    seeded = [*EXTRACT, "--seed", "1"]
    retrained = [*TRAIN, "--overwrite"]
    beside = replace(retrain, arguments=["evaluate", "run"])
    return [
        Race("extract, twice the same", extract, EXTRACT, ("mine",)),
        Race("extract, two recipes", extract, seeded, ("mine", "other")),
        Race("extract --overwrite, two recipes", over, [*seeded, "--overwrite"], ("mine", "other")),
        Race("extract, a reader beside it", extract, [], ("mine",), _read_cache),
        Race("extract --overwrite, a reader beside it", over, [], ("mine",), _read_cache),
        Race("train-head, twice the same", train, TRAIN, ("run",)),
        Race("train-head --overwrite, twice", retrain, retrained, ("run",)),
        Race("train-head --resume beside train-head", train, [*TRAIN, "--resume"], ("run",)),
        Race("evaluate, twice", evaluate, ["evaluate", "run"], ("evaluation",)),
        Race("evaluate, a reader beside it", evaluate, [], ("evaluation",), _read_evaluation),
        Race("evaluate beside train-head --overwrite", beside, retrained, ("run", "evaluated")),
        Race("train-head --overwrite, a reader beside it", retrain, [], ("run",), _read_run),
    ]


def run_race(race: Race, world: Path, folder: Path, known: dict[str, Results], rng: random.Random, label: str) -> Trial:
    """Run it once; `known`: what may be left, by name."""
    folder = race.first.folder(world, folder)
    delay = rng.uniform(0, 1.0) * race.first.seconds * (rng.random() < 0.75)
    trial = Trial(race.name, f"{delay:.2f} s later", "survived")
    problem = _raced(race, folder, delay) or _left(race, folder, known)
    if not problem:
        return trial
    return replace(trial, outcome=problem[0], detail=f"{problem[1]} ({trial.name}; {label}; {folder})")


def _raced(race: Race, folder: Path, delay: float) -> Problem | None:
    with ExitStack() as stack:
        first = stack.enter_context(race.first.started(folder))
        if race.reads:
            return _beside(first, race.reads, folder) or _problem(first, may_be_refused=False)
        with suppress(subprocess.TimeoutExpired):
            first.process.wait(delay)
        other = replace(race.first, arguments=race.second, again=None)
        place = folder.with_name(f"{folder.name}-second")
        place.symlink_to(folder)
        second = stack.enter_context(other.started(place))
        for run in (first, second):
            run.process.wait(_DEADLINE_S)
        statuses = [first.process.returncode, second.process.returncode]
        if 0 not in statuses:
            return "lost", f"neither came to its end: {statuses}: {stderr_of(first)[-200:]} {stderr_of(second)[-200:]}"
        return _problem(first) or _problem(second)


def _beside(writer: Run, reads: Callable[[Path], str | None], folder: Path) -> Problem | None:
    """Read all the time while it writes."""
    while writer.process.poll() is None:
        if wrong := reads(folder):
            return "wrong", wrong
    return None


def _problem(run: Run, may_be_refused: bool = True) -> Problem | None:
    said, status = stderr_of(run), run.process.returncode
    if "Traceback" in said:
        return "traceback", said[-1500:]
    if not run.all_gone(2.0):
        return "left", f"{len(run.members())} processes"
    refused = may_be_refused and status == 1 and any(text in said.splitlines()[-1] for text in _REFUSED)
    return None if status == 0 or refused else ("lost", f"exit status {status}: {said[-300:]}")


def _left(race: Race, folder: Path, known: dict[str, Results]) -> Problem | None:
    """What is there in the end, if it is what neither of them leaves alone."""
    ends = [known[name] for name in race.ends]
    found = race.first.results(folder)
    if found not in ends:
        names = [name for name in found if all(found[name] != end.get(name) for end in ends)]
        return "wrong", f"left: {', '.join(names[:5]) or sorted(found)}"
    cache = folder / "cache"
    problems = verify(cache) if race.name.startswith("extract") else []
    return ("wrong", "; ".join(problems)) if problems else None


def _read_cache(folder: Path) -> str | None:
    """What a reader sees that is wrong: another embedding than the truth, of the recipe that it says it is of."""
    world = folder.parents[1] / "world"
    try:
        found = FeatureCache(folder / "cache")
        arrays = found.arrays()[0]
    except CacheError:
        return None
    for name in ("cache", "other"):
        truth = FeatureCache(world / name)
        if truth.fingerprint == found.fingerprint:
            return None if np.array_equal(arrays, truth.arrays()[0]) else "a reader saw other embeddings"
    return "a reader saw a cache of no recipe"


def _read_run(folder: Path) -> str | None:
    try:
        run = TrainedRun.open(folder / "run")
        run.load_head()
    except HarCacheError:
        return None
    truth = TrainedRun.open(folder.parents[1] / "world" / "run")
    return None if run.model_sha256 == truth.model_sha256 and run.clips == truth.clips else "a reader saw another run"


def _read_evaluation(folder: Path) -> str | None:
    try:
        found = read_evaluation(folder / "run" / "evaluate" / "split1")
    except HarCacheError:
        return None
    truth = read_evaluation(folder.parents[1] / "world" / "evaluated" / "evaluate" / "split1")
    return None if (found.metrics, found.predictions) == (truth.metrics, truth.predictions) else "a reader saw others"


def ends(world: Path, subjects: dict[str, Subject]) -> dict[str, Results]:
    """What may be left, by name."""
    expected = {name: subject.expected or {} for name, subject in subjects.items()}
    return {
        "mine": expected["extract"],
        "other": settled(world / "other"),
        "run": expected["train-head"],
        "evaluated": run_results("evaluated")(world),  # who is late evaluates what was trained meanwhile
        "evaluation": expected["evaluate"],
    }


def all_races(
    world: Path, folder: Path, count: int, seed: int, subjects: dict[str, Subject], known: dict[str, Results]
) -> Iterator[Job]:
    """So many races, in turns."""
    kinds = races(subjects)
    first = seed % len(kinds)
    for number in range(count):
        race, place = kinds[(first + number) % len(kinds)], folder / str(number)
        how = random.Random(f"{seed} {number}"), f"seed {seed}, race {number}"
        yield lambda race=race, place=place, how=how: [run_race(race, world, place, known, *how)]
