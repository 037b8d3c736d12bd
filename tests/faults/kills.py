"""Commands that are killed, at random moments and at named steps, and run again until they are done: what they leave is
byte for byte what an undisturbed run leaves.
"""

import math
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from har_cache.storage.failpoints import VARIABLE

from ..helpers.commands import Run
from .subjects import Subject
from .trial import Problem, Trial
from .ways import DISTURBANCES, Disturbance, names, stderr_of

_DEADLINE_S = 300  # for a command that is left alone
_END_S = {signal.SIGKILL: 1.0, signal.SIGINT: 5.0}  # for the command itself, once it has its signal
_OTHER_END_S = 2.0
_LEFT_S = 2.0  # for processes that it started, once it has ended
_STATUS = {signal.SIGKILL: (-9,), signal.SIGINT: (130, -2), signal.SIGTERM: (-15, 143), signal.SIGHUP: (-1,)}


@dataclass
class Round:
    """A command in a folder of its own, disturbed a few times and then left alone. `label`: what to repeat it by."""

    subject: Subject
    folder: Path
    label: str

    def at_random(self, disturbance: Disturbance, most: int, rng: random.Random) -> list[Trial]:
        """Kill it so many times at most, at moments spread evenly over the time it takes, until it is done."""
        trials: list[Trial] = []
        while len(trials) < most:
            moment = rng.uniform(0.02, 1.0) * self.subject.seconds
            with self.subject.started(self.folder, again=bool(trials)) as run:
                is_hit = self._hit(run, disturbance, moment, rng)
                if is_hit and not (disturbance.ends and self._was_done(run)):
                    problem = self._problem_of(run, disturbance)
                    trials.append(self._trial(disturbance.name, f"after {moment:.2f} s", problem))
                    if disturbance.ends:
                        continue
                status = self._wait(run)
                if problem := _problem_left(run):
                    return self._spoilt(trials or [self._trial("nothing", "undisturbed", problem)], problem)
            if status == 0:
                return self._compared(trials)
            if not is_hit:
                trials.append(self._trial("nothing", "undisturbed", ("lost", f"ends with status {status}")))
                return trials
        return self._to_the_end(trials)

    def at_step(self, step: str, action: str) -> list[Trial]:
        """Have it fail at a named step, then run it again."""
        with self.subject.started(self.folder, env={VARIABLE: f"{step}={action}"}) as run:
            status = self._wait(run)
            problem = _problem_left(run)
        expected = {"SIGKILL": (-9,), "SIGTERM": (-15, 143), "SIGINT": (130,), "SIGHUP": (-1,)}.get(action, (1,))
        if not problem and status not in expected:
            problem = "lost", f"exit status {status}, not one of {expected}"
        return self._to_the_end([self._trial(f"{action} at a named step", step, problem)])

    def _to_the_end(self, trials: list[Trial]) -> list[Trial]:
        with self.subject.started(self.folder, again=True) as run:
            status = self._wait(run)
            problem = _problem_left(run)
            if status != 0:
                problem = "lost", f"left alone, it ends with status {status}: {stderr_of(run)[-400:]}"
        return self._spoilt(trials, problem) if problem else self._compared(trials)

    def _compared(self, trials: list[Trial]) -> list[Trial]:
        """The trials of a command that is done, the last one `wrong` where it has left other bytes."""
        found, expected = self.subject.results(self.folder), self.subject.expected or {}
        names = sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))
        if trials and names:
            return self._spoilt(trials, ("wrong", f"{', '.join(names[:5])} differ"))
        return trials

    def _spoilt(self, trials: list[Trial], problem: Problem) -> list[Trial]:
        """The trials, the last one with what came of it in the end."""
        return [*trials[:-1], replace(trials[-1], **self._as_fields(trials[-1], problem))]

    def _hit(self, run: Run, disturbance: Disturbance, moment: float, rng: random.Random) -> bool:
        """Whether it was still there, at that moment, to be disturbed."""
        with suppress(subprocess.TimeoutExpired):
            run.process.wait(moment)
            return False
        while not (whom := disturbance.whom(run, rng)) and run.process.poll() is None:
            time.sleep(0.02)  # until there is one
        for pid in whom:
            with suppress(ProcessLookupError):
                os.kill(pid, disturbance.number)
        return bool(whom)

    def _was_done(self, run: Run) -> bool:
        """Whether it had come to its end in the very moment."""
        with suppress(subprocess.TimeoutExpired):
            return run.process.wait(0.05) == 0
        return False

    def _problem_of(self, run: Run, disturbance: Disturbance) -> Problem | None:
        """What is wrong once it was disturbed, before it is run again."""
        if disturbance.ends:
            patience = _END_S.get(disturbance.number, _OTHER_END_S)
            try:
                status = run.process.wait(patience)
            except subprocess.TimeoutExpired:
                return "left", f"not ended {patience:g} s after {disturbance.number.name}"
            if status not in _STATUS[disturbance.number]:
                return "lost", f"exit status {status} after {disturbance.number.name}: {stderr_of(run)[-300:]}"
            if problem := _problem_left(run):
                return problem
        wrong = self.subject.in_between(self.folder)
        return ("wrong", wrong) if wrong else None

    def _wait(self, run: Run) -> int | None:
        try:
            return run.process.wait(_DEADLINE_S)
        except subprocess.TimeoutExpired:
            return None

    def _trial(self, what: str, name: str, problem: Problem | None) -> Trial:
        trial = Trial(f"{self.subject.name}: {what}", name, "survived")
        return replace(trial, **self._as_fields(trial, problem)) if problem else trial

    def _as_fields(self, trial: Trial, problem: Problem) -> dict[str, Any]:
        return {"outcome": problem[0], "detail": f"{problem[1]} ({trial.name}; {self.label}; {self.folder})"}


def _problem_left(run: Run) -> Problem | None:
    """A traceback on the terminal, or processes that do not end with the command."""
    if "Traceback" in (said := stderr_of(run)):
        return "traceback", said[-1500:]
    if not run.all_gone(_LEFT_S):
        return "left", f"{len(run.members())} processes {_LEFT_S:g} s later: {names(run)}"
    return None


_SHARES = {  # of the kills at random moments
    "extract": 60,
    "extract --overwrite": 36,
    "train-head": 28,
    "train-head --overwrite": 10,
    "finetune": 14,
    "evaluate": 14,
    "report": 8,
    "predict": 14,
    "download": 16,
}
_WITH_WORKERS = ("extract", "extract --overwrite", "finetune", "predict")
_AT_A_TIME = 4  # kills of one run, until it is done


def random_kills(
    subjects: Mapping[str, Subject], world: Path, folder: Path, count: int, seed: int
) -> Iterator[Callable[[], list[Trial]]]:
    """Rounds of kills at random moments, until there are about as many as are asked for: the commands in proportion to
    what they have to lose, each in all ways. A command may be done before its moment: then there is another round.
    """
    left = _quotas(count)
    order = sorted(left)
    random.Random(f"kills {seed}").shuffle(order)
    for number in range(10 * count):
        waiting = [pair for pair in order if left[pair] > 0]
        if not waiting:
            return
        pair = waiting[number % len(waiting)]
        label = f"seed {seed}, round {number}"

        def job(pair: tuple[str, str] = pair, label: str = label, number: int = number) -> list[Trial]:
            name, way = pair
            round_ = Round(subjects[name], subjects[name].folder(world, folder / str(number)), label)
            most = max(1, min(_AT_A_TIME, left[pair]))
            trials = round_.at_random(DISTURBANCES[way], most, random.Random(f"{label} {name} {way}"))
            left[pair] -= len(trials)
            return _tidied(folder / str(number), trials)

        yield job


def _quotas(count: int) -> dict[tuple[str, str], int]:
    """How many kills of each command in each way."""
    quotas = {}
    for name, share in _SHARES.items():
        possible = [way for way in DISTURBANCES.values() if way.ends or name in _WITH_WORKERS]
        whole = sum(way.weight for way in possible)
        for way in possible:
            quotas[name, way.name] = math.ceil(count * share / sum(_SHARES.values()) * way.weight / whole)
    return quotas


_MOMENTS = ("opened", "written", "synced", "renamed")
_ACTIONS = ("SIGKILL", "SIGTERM", "SIGINT", "SIGHUP", "ENOSPC", "EIO")


def step_kills(
    subjects: Mapping[str, Subject], world: Path, folder: Path, count: int, seed: int
) -> Iterator[Callable[[], list[Trial]]]:
    """Failures at so many named steps, drawn at random."""
    rng = random.Random(f"steps {seed}")
    drawn = [(name, *each) for name, subject in subjects.items() for each in _steps(subject.commits)]
    weights = [3.0 if action == "SIGKILL" else 1.0 for *_, action in drawn]
    for number, (name, step, action) in enumerate(rng.choices(drawn, weights, k=count)):
        label = f"seed {seed}, step {number}"
        yield partial(_failed, subjects[name], world, folder / str(number), step, action, label)


def _failed(subject: Subject, world: Path, folder: Path, step: str, action: str, label: str) -> list[Trial]:
    return _tidied(folder, Round(subject, subject.folder(world, folder), label).at_step(step, action))


def _tidied(folder: Path, trials: list[Trial]) -> list[Trial]:
    """What survived need not be looked at."""
    if all(trial.outcome == "survived" for trial in trials):
        shutil.rmtree(folder)
    return trials


def _steps(files: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Steps of the commits of these files, and how to fail there."""
    for file in files:
        for moment in _MOMENTS:
            for action in _ACTIONS:
                # Once it has its name, a file cannot be refused any more.
                if not (moment == "renamed" and action in ("ENOSPC", "EIO")):
                    yield f"{moment}:{file}", action
