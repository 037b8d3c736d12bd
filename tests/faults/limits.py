"""Commands whose resources are scarce: each ends well, or with one line of why, and goes on once there are more."""

import os
import random
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

from har_cache.system import cores

from ..helpers.commands import COMMAND, Run, started
from .scarce import Limit, Room, can_be_nobody, can_mount, environment
from .scarce import limits as all_limits
from .subjects import Subject
from .trial import Problem, Trial
from .ways import stderr_of

_DEADLINE_S = 300
_LEFT_S = 2.0  # on a machine that has nothing else to do
_CHEAP = ("train-head", "evaluate", "extract", "train-head")
_ALL = (*_CHEAP, "evaluate", "extract", "report", "train-head", "evaluate", "extract --overwrite", "finetune")
_FEW = 8


def limits(
    world: Path, folder: Path, count: int, seed: int, subjects: dict[str, Subject], say: Callable[[str], None]
) -> Iterator[Trial]:
    """Try so many limits, each on a command. What does not survive stays in `folder`, where it is a plain one."""
    rng = random.Random(seed)
    for tried, without in ((can_mount(), "full file systems (no `mount`)"), (can_be_nobody(), "other users' limits")):
        if not tried:
            say(f"limits: not tried here: {without}")
    folder.mkdir(parents=True, exist_ok=True)
    names = _CHEAP if count <= _FEW else _ALL
    for number, limit in enumerate(islice(all_limits(rng), count)):
        subject = subjects[names[number % len(names)] if count <= _FEW else rng.choice(names)]
        yield _Try(limit, subject, folder / f"limit-{number}", f"limit {number}, seed {seed}").trial(world)


class _Try:
    """A command under a limit."""

    def __init__(self, limit: Limit, subject: Subject, path: Path, label: str) -> None:
        self._limit, self._subject, self._path, self._label = limit, subject, path, label
        self._logs = path.with_suffix(".log")

    def trial(self, world: Path) -> Trial:
        """Run it under the limit, then without."""
        self._logs.mkdir()
        with self._limit.room(self._subject, world, self._path) as room:
            problem = self._limited(room) or self._lifted(room)
        kind, name = f"limits: {self._limit.kind}", f"{self._subject.name}, {self._limit.detail}".rstrip(", ")
        if problem is None:
            return Trial(kind, name, "survived")
        return Trial(kind, name, problem[0], f"{problem[1]} ({name}; {self._label}; {self._logs})")

    def _limited(self, room: Room) -> Problem | None:
        status, said, left = self._run(room, self._subject.arguments, limited=True)
        errors = [line for line in said.splitlines() if line.startswith("Error: ")]
        if left:
            return left
        if "Traceback" in said:
            return "traceback", said[-1500:]
        if status is None:
            return "lost", f"not over after {_DEADLINE_S} s: {said[-300:]}"
        if status == 0:
            return self._compared(room, "within the limit")
        if status != 1 or (len(errors) != 1 and not room.quiet):
            return "lost", f"status {status}, {len(errors)} lines of what is wrong: {said[-600:]}"
        return None

    def _lifted(self, room: Room) -> Problem | None:
        room.lift()
        again = self._subject.again
        arguments = again(room.folder) if again else self._subject.arguments
        status, said, left = self._run(room, arguments, limited=False)
        if left or status != 0:
            return left or ("lost", f"once the limit is lifted: status {status}: {said[-600:]}")
        return self._compared(room, "once the limit was lifted")

    def _compared(self, room: Room, when: str) -> Problem | None:
        found, expected = self._subject.results(room.folder), self._subject.expected or {}
        names = sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))
        return ("wrong", f"{', '.join(names[:5])} differ {when}") if names else None

    def _run(self, room: Room, arguments: list[str], limited: bool) -> tuple[int | None, str, Problem | None]:
        """Its exit status, None where it does not end; what it said; processes that it left."""
        how = {
            "cwd": room.folder,
            "env": environment(room.env if limited else {}),
            "command": [*room.prefix, *(self._subject.command or COMMAND)],
            "preexec_fn": room.first if limited else None,
        }
        with (
            (self._logs / "stdout.txt").open("wb") as output,
            started(arguments, self._logs, stdout=output, **how) as run,
        ):
            try:
                status = run.process.wait(_DEADLINE_S)
            except subprocess.TimeoutExpired:
                status = None
            left = status is not None and not run.all_gone(_left_s())
            problem: Problem | None = ("left", _names(run)) if left else None
            return status, stderr_of(run), problem


def _left_s() -> float:
    return _LEFT_S * max(1.0, os.getloadavg()[0] / cores())


def _names(run: Run) -> str:
    found = []
    for pid in run.members():
        with suppress(OSError):
            found.append(Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:100])
    return f"{len(found)} processes {_left_s():.0f} s later: {'; '.join(found)}"
