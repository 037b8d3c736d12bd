"""Ways to kill a command: which of its processes get which signal."""

import random
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..helpers.commands import Run


@dataclass(frozen=True)
class Disturbance:
    """A way to kill: which of its processes get which signal, how often beside others; whether the command ends."""

    name: str
    number: signal.Signals
    whom: Callable[[Run, random.Random], list[int]]
    weight: int
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
        Disturbance("SIGKILL of all its processes", signal.SIGKILL, _all, 3),
        Disturbance("SIGKILL of the command alone", signal.SIGKILL, _itself, 2),
        Disturbance("SIGKILL of a worker", signal.SIGKILL, _worker, 4, ends=False),
        Disturbance("SIGKILL of the fork server", signal.SIGKILL, _fork_server, 1, ends=False),
        Disturbance("SIGINT (Ctrl-C)", signal.SIGINT, _group, 2),
        Disturbance("SIGTERM", signal.SIGTERM, _itself, 2),
        Disturbance("SIGHUP", signal.SIGHUP, _group, 1),
    )
}


def names(run: Run) -> str:
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


def stderr_of(run: Run) -> str:
    """What a command has said on stderr so far."""
    return run.errors.read_text(errors="replace")
