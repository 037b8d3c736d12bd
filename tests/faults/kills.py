"""Commands that are killed, at random moments and at named steps, and run again until they are done: what they leave is
byte for byte what an undisturbed run leaves.
"""

import os
import random
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from har_cache.failpoints import VARIABLE

from ..helpers.commands import COMMAND, Run, started
from .subjects import Subject
from .trial import Outcome, Trial

ROOT = Path(__file__).parents[2]
_DEADLINE_S = 300  # for a command that is left alone
_END_S = {signal.SIGKILL: 1.0, signal.SIGINT: 5.0}  # for the command itself, once it has its signal
_OTHER_END_S = 2.0
_LEFT_S = 2.0  # for processes that it started, once it has ended
_STATUS = {signal.SIGKILL: (-9,), signal.SIGINT: (130, -2), signal.SIGTERM: (-15, 143), signal.SIGHUP: (-1,)}


@dataclass(frozen=True)
class Disturbance:
    """A way to kill: which of its processes get which signal; whether the command should end of it."""

    name: str
    number: signal.Signals
    whom: Callable[[Run, random.Random], list[int]]
    ends: bool = True


def _all(run: Run, rng: random.Random) -> list[int]:
    return run.members()


def _itself(run: Run, rng: random.Random) -> list[int]:
    return [run.process.pid]


def _group(run: Run, rng: random.Random) -> list[int]:
    """As a terminal does, at Ctrl-C or when it closes."""
    return [pid for pid in run.members() if _group_of(pid) == run.process.pid]


def _fork_server(run: Run, rng: random.Random) -> list[int]:
    return [pid for pid in run.members() if b"forkserver" in _read(pid, "cmdline") and _parent(pid) == run.process.pid]


def _worker(run: Run, rng: random.Random) -> list[int]:
    servers = _fork_server(run, rng)
    workers = [pid for pid in run.members() if _parent(pid) in servers]
    return [rng.choice(workers)] if workers else []


DISTURBANCES = {
    each.name: each
    for each in (
        Disturbance("SIGKILL of all its processes", signal.SIGKILL, _all),
        Disturbance("SIGKILL of the command alone", signal.SIGKILL, _itself),
        Disturbance("SIGKILL of a worker", signal.SIGKILL, _worker, ends=False),
        Disturbance("SIGKILL of the fork server", signal.SIGKILL, _fork_server, ends=False),
        Disturbance("SIGINT (Ctrl-C)", signal.SIGINT, _group),
        Disturbance("SIGTERM", signal.SIGTERM, _itself),
        Disturbance("SIGHUP", signal.SIGHUP, _group),
    )
}


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
            with self._started(again=bool(trials)) as run:
                if self._hit(run, disturbance, moment, rng):
                    problem = self._problem_of(run, disturbance)
                    trials.append(self._trial(disturbance.name, f"after {moment:.2f} s", problem))
                    if disturbance.ends:
                        continue
                if self._wait(run) == 0:
                    return self._compared(trials)
        return self._to_the_end(trials)

    def at_step(self, step: str, action: str) -> list[Trial]:
        """Have it fail at a named step, then run it again."""
        with self._started(again=False, env={VARIABLE: f"{step}={action}"}) as run:
            status = self._wait(run)
            problem = _problem_left(run)
        expected = {"SIGKILL": (-9,), "SIGTERM": (-15, 143), "SIGINT": (130,), "SIGHUP": (-1,)}.get(action, (1,))
        if not problem and status not in expected:
            problem = "lost", f"exit status {status}, not one of {expected}"
        return self._to_the_end([self._trial(f"{action} at a named step", step, problem)])

    def _to_the_end(self, trials: list[Trial]) -> list[Trial]:
        with self._started(again=True) as run:
            status = self._wait(run)
            problem = _problem_left(run)
            if status != 0:
                problem = "lost", f"left alone, it ends with status {status}: {_said(run)[-400:]}"
        return (
            [*trials[:-1], replace(trials[-1], **self._as_fields(trials[-1], problem))]
            if problem
            else self._compared(trials)
        )

    def _compared(self, trials: list[Trial]) -> list[Trial]:
        """The trials of a command that is done, the last one `wrong` where it has left other bytes."""
        found, expected = self.subject.results(self.folder), self.subject.expected or {}
        names = sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))
        if trials and names:
            problem: Problem = ("wrong", f"{', '.join(names[:5])} differ")
            return [*trials[:-1], replace(trials[-1], **self._as_fields(trials[-1], problem))]
        return trials

    @contextmanager
    def _started(self, again: bool, env: Mapping[str, str] | None = None) -> Iterator[Run]:
        arguments = self.subject.next_arguments(self.folder) if again else self.subject.arguments
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **(env or {})}
        how = {"cwd": self.folder, "env": environment, "command": self.subject.command or COMMAND}
        logs = self.folder.with_suffix(".log")
        logs.mkdir(exist_ok=True)
        with (logs / "stdout.txt").open("wb") as output, started(arguments, logs, stdout=output, **how) as run:
            yield run

    def _hit(self, run: Run, disturbance: Disturbance, moment: float, rng: random.Random) -> bool:
        """Whether it was still there, at that moment, to be disturbed."""
        with suppress(subprocess.TimeoutExpired):
            run.process.wait(moment)
            return False
        whom = disturbance.whom(run, rng)
        for pid in whom:
            with suppress(ProcessLookupError):
                os.kill(pid, disturbance.number)
        return bool(whom)

    def _problem_of(self, run: Run, disturbance: Disturbance) -> "Problem | None":
        """What is wrong once it was disturbed, before it is run again."""
        if disturbance.ends:
            patience = _END_S.get(disturbance.number, _OTHER_END_S)
            try:
                status = run.process.wait(patience)
            except subprocess.TimeoutExpired:
                return "left", f"not ended {patience:g} s after {disturbance.number.name}"
            if status not in _STATUS[disturbance.number]:
                return "lost", f"exit status {status} after {disturbance.number.name}: {_said(run)[-300:]}"
            if problem := _problem_left(run):
                return problem
        wrong = self.subject.in_between(self.folder)
        return ("wrong", wrong) if wrong else None

    def _wait(self, run: Run) -> int | None:
        try:
            return run.process.wait(_DEADLINE_S)
        except subprocess.TimeoutExpired:
            return None

    def _trial(self, what: str, name: str, problem: "Problem | None") -> Trial:
        trial = Trial(f"{self.subject.name}: {what}", name, "survived")
        return replace(trial, **self._as_fields(trial, problem)) if problem else trial

    def _as_fields(self, trial: Trial, problem: "Problem") -> dict[str, Any]:
        return {"outcome": problem[0], "detail": f"{problem[1]} ({trial.name}; {self.label}; {self.folder})"}


Problem = tuple[Outcome, str]


def _problem_left(run: Run) -> Problem | None:
    """A traceback on the terminal, or processes that do not end with the command."""
    if "Traceback" in (said := _said(run)):
        return "traceback", said[-1500:]
    if not run.all_gone(_LEFT_S):
        return "left", f"{len(run.members())} processes {_LEFT_S:g} s later: {_names(run)}"
    return None


def _said(run: Run) -> str:
    return run.errors.read_text(errors="replace")


def _names(run: Run) -> str:
    return "; ".join(_read(pid, "cmdline").replace(b"\0", b" ").decode(errors="replace")[:120] for pid in run.members())


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def _parent(pid: int) -> int:
    fields = _read(pid, "stat").rpartition(b")")[2].split()
    return int(fields[1]) if fields else 0


def _group_of(pid: int) -> int:
    fields = _read(pid, "stat").rpartition(b")")[2].split()
    return int(fields[2]) if fields else 0


STEPS = {
    "extract": (
        "encoder.safetensors",
        "plan.json",
        "00000.h5",
        "00000.json",
        "0000?.h5@4",
        "0000?.json@8",
        "failures.csv",
        "manifest.json",
    ),
    "extract --overwrite": ("encoder.safetensors", "plan.json", "00000.h5", "manifest.json"),
    "train-head": (
        "clips.csv",
        "config.json",
        "best.ckpt",
        "last.ckpt",
        "last.ckpt@3",
        "metrics.csv@4",
        "model.safetensors",
        "curves.png",
        "config.json@2",
    ),
    "train-head --overwrite": ("clips.csv", "config.json", "last.ckpt@2", "config.json@2"),
    "finetune": ("config.json", "last.ckpt", "model.safetensors", "config.json@2"),
    "evaluate": ("confusion.png", "predictions.csv", "linear.csv", "per_class.csv", "metrics.json"),
    "report": ("report.html",),
}
_MOMENTS = ("opened", "written", "synced", "renamed")
_ACTIONS = ("SIGKILL", "SIGKILL", "SIGKILL", "SIGTERM", "SIGINT", "SIGHUP", "ENOSPC", "EIO")


def steps(subject: Subject, rng: random.Random) -> Iterator[tuple[str, str]]:
    """Steps of its commits, and how to fail there, in an order drawn at random."""
    files = STEPS.get(subject.name, ())
    drawn = [
        (f"{moment}:{file}", action) for file in files for moment in _MOMENTS for action in dict.fromkeys(_ACTIONS)
    ]
    # Once it has its name, a file cannot be refused any more.
    possible = [(step, action) for step, action in drawn if not (step.startswith("renamed") and action[0] == "E")]
    rng.shuffle(possible)
    possible.sort(key=lambda each: each[1] != "SIGKILL")
    yield from possible
