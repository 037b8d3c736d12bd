"""The commands that are tried, each with what is there before, how it goes on, and what it leaves undisturbed."""

import csv
import io
import json
import os
import pickle
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from har_cache.cache.verify import verify

from ..conftest import settled
from ..helpers.commands import COMMAND, Run, started

FAST = ["--weights", "random", "--projection", "random", "--precision", "fp32", "--shard-clips", "2", "--workers", "2"]
EXTRACT = ["extract", "--data", "data", "--cache", "cache", *FAST]
TRAIN = ["train-head", "--cache", "cache", "--run", "run", "--epochs", "6", "--frames", "4", "--hidden", "8"]
_TUNE = ["--data", "data", "--run", "tuned", "--epochs", "1", "--unfreeze", "1", "--frames", "4", "--workers", "1"]
FINETUNE = ["finetune", "--from", "run", *_TUNE]
ROOT = Path(__file__).parents[2]
_DEADLINE_S = 300

Results = dict[str, bytes]


@dataclass
class Subject:
    """A command, run in a folder of its own. `given`: what it starts from, copied from the world; `again`: its
    arguments when it goes on there; `results`: what it leaves, as far as that is the same each time. `expected`,
    `seconds`, `kilobytes`, `files`: of its folder, once it was left alone. `commits`: of which files one may fail;
    `@3` is the third of its name.
    """

    name: str
    arguments: list[str]
    given: tuple[str, ...]
    results: Callable[[Path], Results]
    again: Callable[[Path], list[str]] | None = None
    command: list[str] | None = None
    commits: tuple[str, ...] = ()
    expected: Results | None = None
    seconds: float = 0.0
    kilobytes: int = 0
    files: int = 0

    def folder(self, world: Path, path: Path) -> Path:
        """A new folder, with what is there before."""
        path.mkdir(parents=True)
        for name in self.given:
            source, _, target = name.partition(":")
            _copy(world / source, path / (target or source))
        return path

    def next_arguments(self, folder: Path) -> list[str]:
        """Of the command, as a user would go on."""
        return self.again(folder) if self.again else self.arguments

    @contextmanager
    def started(
        self, folder: Path, again: bool = False, env: Mapping[str, str] = MappingProxyType({})
    ) -> Iterator[Run]:
        """The command in its folder, once more where `again`; what it prints is in `logs(folder)`."""
        arguments = self.next_arguments(folder) if again else self.arguments
        place = logs(folder)
        place.mkdir(exist_ok=True)
        how = {"cwd": folder, "env": {**os.environ, "PYTHONPATH": str(ROOT), **env}, "command": self.command or COMMAND}
        with (place / "stdout.txt").open("wb") as output, started(arguments, place, stdout=output, **how) as run:
            yield run

    def in_between(self, folder: Path) -> str:
        """What must not be while it is unfinished, and is: a cache that passes for finished, and is not what it should
        be. Empty where all is well.
        """
        cache = folder / "cache"
        if not (cache / "manifest.json").exists() or self.name in ("train-head", "finetune", "evaluate"):
            return ""
        return "; ".join(verify(cache))[:500]


def logs(folder: Path) -> Path:
    """Where a command that runs in a folder prints to: beside it."""
    return folder.with_suffix(".log")


def _copy(source: Path, target: Path) -> None:
    if source.name == "data":
        target.symlink_to(source)
    else:
        shutil.copytree(source, target)


def _cache(folder: Path) -> Results:
    return settled(folder / "cache")


def run_results(name: str) -> Callable[[Path], Results]:
    """Of a run without its evaluation: all but pictures, checkpoints, and times."""

    def results(folder: Path) -> Results:
        run = folder / name
        found = {file: (run / file).read_bytes() for file in ("clips.csv", "config.json", "model.safetensors")}
        rows = csv.DictReader(io.StringIO((run / "metrics.csv").read_text()))
        timeless = [{key: value for key, value in row.items() if key != "seconds"} for row in rows]
        names = sorted(path.name for path in run.iterdir() if path.name != ".lock")
        return {**found, "metrics.csv": json.dumps(timeless).encode(), "files": " ".join(names).encode()}

    return results


def _evaluation(folder: Path) -> Results:
    return settled(folder / "run" / "evaluate")


def _report(folder: Path) -> Results:
    return {"report.html": (folder / "run" / "report.html").read_bytes()}


def _resumed(arguments: list[str], run: str) -> Callable[[Path], list[str]]:
    def again(folder: Path) -> list[str]:
        return [*arguments, "--resume"] if (folder / run / "config.json").exists() else arguments

    return again


def _printed(folder: Path) -> Results:
    return {"stdout": (logs(folder) / "stdout.txt").read_bytes()}


def subjects() -> dict[str, Subject]:
    """By name."""
    of_download = [sys.executable, "-m", "tests.faults.download_once"]
    of_cache = ("encoder.safetensors", "plan.json", "00000.h5", "00000.json", "0000?.h5@4", "0000?.json@8")
    of_run = (
        "clips.csv",
        "config.json",
        "best.ckpt",
        "last.ckpt@3",
        "metrics.csv@4",
        "model.safetensors",
        "config.json@2",
    )
    of_tuned = ("config.json", "last.ckpt", "model.safetensors", "config.json@2")
    of_evaluation = ("confusion.png", "predictions.csv", "linear.csv", "per_class.csv", "metrics.json")
    extract = Subject("extract", EXTRACT, ("data",), _cache, commits=(*of_cache, "failures.csv", "manifest.json"))
    train = Subject("train-head", TRAIN, ("cache",), run_results("run"), _resumed(TRAIN, "run"), commits=of_run)
    found = [
        extract,
        replace(
            extract,
            name="extract --overwrite",
            arguments=[*EXTRACT, "--overwrite"],
            given=("data", "other:cache"),
            commits=(*of_cache[:3], "manifest.json"),
        ),
        train,
        Subject(
            "train-head --overwrite",
            [*TRAIN, "--overwrite"],
            ("cache", "evaluated:run"),
            run_results("run"),
            commits=("clips.csv", "config.json", "last.ckpt@2", "config.json@2"),
        ),
        Subject(
            "finetune",
            FINETUNE,
            ("data", "cache", "run"),
            run_results("tuned"),
            _resumed(FINETUNE, "tuned"),
            commits=of_tuned,
        ),
        Subject("evaluate", ["evaluate", "run"], ("cache", "run"), _evaluation, commits=of_evaluation),
        Subject(
            "report",
            ["report", "run", "--data", "data"],
            ("data", "cache", "evaluated:run"),
            _report,
            commits=("report.html",),
        ),
        Subject("predict", ["predict", "run", "data", "--json"], ("data", "run"), _printed),
        Subject("download", ["published", "out"], ("published",), lambda f: settled(f / "out"), command=of_download),
    ]
    return {subject.name: subject for subject in found}


def make_world(world: Path, say: Callable[[str], None]) -> dict[str, Subject]:
    """Data, cache, another cache, run and evaluation in a folder; gives the subjects, with what each leaves when
    nothing disturbs it, and how long it then takes.
    """
    from ..helpers.releases import small_copy

    def do(*arguments: str) -> None:
        with started([*arguments], world, cwd=world, stdout=subprocess.DEVNULL) as command:
            status = command.process.wait(_DEADLINE_S)
            assert status == 0, command.errors.read_text()

    def measure(name: str) -> Path:
        say(f"undisturbed: {name}")
        return _measured(found[name], world)

    world.mkdir(parents=True)
    found = subjects()
    do("sample", "--out", "data", "--classes", "2", "--clips", "8")
    do(*EXTRACT, "--seed", "1")
    (world / "cache").rename(world / "other")
    (measure("extract") / "cache").rename(world / "cache")
    (measure("train-head") / "run").rename(world / "run")
    (measure("evaluate") / "run").rename(world / "evaluated")
    copy = small_copy(world / "published")
    (world / "published" / "release.pickle").write_bytes(pickle.dumps(copy.release))
    videos = sorted((world / "data" / "videos").rglob("*.avi"))[:4]
    names = [f"data/{video.relative_to(world / 'data')}" for video in videos]
    found["predict"].arguments = ["predict", "run", *names, "--json"]
    for name in ("finetune", "report", "predict", "download"):
        measure(name)
    for name in ("extract", "train-head"):  # what is overwritten decides nothing
        anew, once = found[f"{name} --overwrite"], found[name]
        anew.expected, anew.seconds = once.expected, once.seconds
        anew.kilobytes, anew.files = once.kilobytes, once.files
    return found


def _measured(subject: Subject, world: Path) -> Path:
    """The folder in which it has run, undisturbed."""
    folder = subject.folder(world, world / "undisturbed" / subject.name)
    begun = time.monotonic()
    with subject.started(folder) as command:
        status = command.process.wait(_DEADLINE_S)
        assert status == 0, (subject.name, status, command.errors.read_text())
    subject.seconds = time.monotonic() - begun
    subject.expected = subject.results(folder)
    subject.kilobytes, subject.files = kilobytes_in(folder), files_in(folder)
    return folder


def kilobytes_in(folder: Path) -> int:
    """What its files take, as the pages of a file system in memory hold them."""
    return sum(-(-path.lstat().st_size // 4096) * 4 for path in folder.rglob("*") if path.is_file())


def files_in(folder: Path) -> int:
    """Inodes that it takes, with its file system's own."""
    return 2 + sum(1 for _ in folder.rglob("*"))
