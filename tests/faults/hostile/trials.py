"""Hostile files, tried one after another in a process of their own, which they may crash."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from ...helpers.commands import started
from ..scarce import environment
from ..subjects import ROOT
from ..trial import Trial


def hostile(world: Path, folder: Path, count: int, seed: int, say: Callable[[str], None]) -> Iterator[Trial]:
    """Try so many. What does not survive stays in `folder`, to be looked at."""
    folder.mkdir(parents=True, exist_ok=True)
    done = 0
    while done < count:
        name = ""
        for line in _lines(world, folder, count, seed, done):
            content = json.loads(line)
            if "begun" in content:
                name, done = content["begun"], content["number"] + 1
                continue
            yield Trial(**content)
            name = ""
        if name:
            say(f"hostile: the process has died of {name}")
            yield Trial(
                "hostile crashes", name, "lost", f"the process has died (number {done - 1}, seed {seed}, {folder})"
            )
        elif done < count:
            yield Trial("hostile crashes", "the trials", "lost", f"ended before number {done} (seed {seed}, {folder})")
            return


def _lines(world: Path, folder: Path, count: int, seed: int, first: int) -> Iterator[str]:
    arguments = [str(world), str(folder), str(count), str(seed), str(first)]
    logs = folder / f"log-{first}"
    shutil.rmtree(logs, ignore_errors=True)
    logs.mkdir()
    how = {"cwd": ROOT, "env": environment({"OMP_NUM_THREADS": "1"}), "stdout": subprocess.PIPE}
    command = [sys.executable, "-m", "tests.faults.hostile"]
    with started(arguments, logs, command=command, **how) as run:
        assert run.process.stdout is not None
        for line in run.process.stdout:
            yield line.decode()
        run.process.wait()
