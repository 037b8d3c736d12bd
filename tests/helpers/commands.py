"""The `har-cache` command as a process with processes of its own."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

COMMAND = [sys.executable, "-m", "har_cache_cli.main"]
_MARK = "HAR_CACHE_TEST"


class Run:
    """The command, or another, as a process group of its own; what it starts, directly or not, is known by its
    environment.
    """

    def __init__(
        self,
        arguments: list[str],
        folder: Path,
        env: Mapping[str, str] = os.environ,
        command: Sequence[str] = COMMAND,
        **how: Any,
    ) -> None:
        self.errors = folder / "stderr.txt"
        self._mark = f"{_MARK}={folder}".encode()
        how["env"] = {**env, _MARK: str(folder)}
        with self.errors.open("w") as file:
            self.process = subprocess.Popen([*command, *arguments], stderr=file, start_new_session=True, **how)

    def members(self) -> list[int]:
        """Its processes that are alive."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
                if state != "Z" and self._mark in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
            except OSError:
                continue
        return found

    def wait_until(self, condition: Callable[[], bool], seconds: float = 120) -> None:
        """Wait for the condition, or for the process to end."""
        deadline = time.monotonic() + seconds
        while not condition() and self.process.poll() is None:
            assert time.monotonic() < deadline, self.errors.read_text()
            time.sleep(0.01)

    def all_gone(self, seconds: float = 10) -> bool:
        """Whether they are, at last."""
        deadline = time.monotonic() + seconds
        while self.members() and time.monotonic() < deadline:
            time.sleep(0.05)
        return not self.members()


@contextmanager
def started(arguments: list[str], folder: Path, **how: Any) -> Iterator[Run]:
    """A run that is over afterwards, come what may."""
    command = Run(arguments, folder, **how)
    try:
        yield command
    finally:
        for process in command.members():
            os.kill(process, signal.SIGKILL)
        command.process.wait()


def shards_done(cache: Path) -> int:
    """How many shards of a cache are finished."""
    return len(list((cache / "shards").glob("[0-9]*.json")))
