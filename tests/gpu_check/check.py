"""The steps of a check: commands as a user gives them, and what must come of them."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from har_cache.cache.reader import FeatureCache
from har_cache.data.hmdb51 import FRAMES
from har_cache.system import cores

from ..helpers.commands import COMMAND, shards_done, started
from .findings import Findings

ROOT = Path(__file__).parents[2]
_HEAD_CLIPS, _EPOCHS = 3570, 64
# `tuning` takes the head of `training`, which takes the cache of `same_bytes`.
STEPS = ("tests", "numbers", "same_bytes", "training", "tuning", "stand_in", "bench", "encoders")
_TOLD = 15  # lines of a command that failed
_ENCODERS = ("resnet18", "timm:vit_small_patch14_dinov2")


@dataclass(frozen=True)
class Sizes:
    """How much is done: `clips` of each of `classes` drawn actions, `frames` of some of them for numbers; clips of the
    stand-in for HMDB51, and `epochs` of a head on it; `seconds` of each part of the bench.
    """

    classes: int = 4
    clips: int = 12
    frames: int = 24
    stand_in_clips: int = 12_800  # as many frames as HMDB51's clips, which are twice as long
    seconds: float = 0.5
    epochs: int = _EPOCHS
    encoders: int = len(_ENCODERS)


class StepError(Exception):
    """A step that did not end as it should."""


class Check:
    """Everything in turn; a step that fails is told in the end, and the others go on. `seconds`: for all of them."""

    def __init__(self, device: str, folder: Path, sizes: Sizes, seconds: float) -> None:
        self.findings = Findings()
        self._device, self._folder, self._sizes = device, folder, sizes
        self._deadline = time.monotonic() + seconds
        self._data, self._stand_in = folder / "sample", folder / "stand-in"

    def run(self, steps: Sequence[str] = STEPS) -> Findings:
        """These steps, after what all of them need."""
        for step in ("machine", "draw", *steps):
            print(f"-- {step.replace('_', ' ')}", flush=True)
            begun = time.monotonic()
            try:
                getattr(self, step)()
            except Exception as error:  # one step's surprise is not the others'
                reason = str(error) if isinstance(error, StepError) else f"{type(error).__name__}: {error}"
                self.findings.errors.append(f"{step}: {reason}")
                print(f"   {reason}", flush=True)
            print(f"   {time.monotonic() - begun:.0f} s", flush=True)
        return self.findings

    def machine(self) -> None:
        """What it runs on."""
        cuda = self._device != "cpu"
        self.findings.machine = {
            "device": torch.cuda.get_device_name() if cuda else "cpu",
            "gpus": torch.cuda.device_count() if cuda else 0,
            "cores": cores(),
            "torch": torch.__version__,
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version() if cuda else None,
        }

    def draw(self) -> None:
        """A small data set."""
        self._command("sample", "--out", self._data, "--classes", self._sizes.classes, "--clips", self._sizes.clips)

    def tests(self) -> None:
        """The tests that need a GPU."""
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-m",
            "gpu",
            str(ROOT / "tests"),
        ]
        run = self._run(command, check=False)
        *_, last = run.stdout.strip().splitlines()
        if run.returncode:
            print("   " + "\n   ".join(run.stdout.strip().splitlines()[-_TOLD:]), flush=True)
        self.findings.add("tests that need a GPU: exit code", run.returncode, "= 0", last)

    def numbers(self) -> None:
        """Beside the CPU's."""
        command = [sys.executable, "-m", "tests.gpu_check.numbers", str(self._data), self._device, self._sizes.frames]
        found = json.loads(self._run([str(word) for word in command]).stdout)
        wrong, total = found["transform"]
        self.findings.add("pixels of the transform that differ from the CPU's", wrong, "= 0", f"of {total:,}")
        for name, cosine in found["cosine"].items():
            least = ">= 0.9999" if name == "fp32" else ">= 0.99" if name == found["auto"] else ""
            self.findings.add(f"lowest centred cosine to the CPU's fp32, {name}", cosine, least)
        for name, rows in found["rows"].items():
            for how, count in rows.items():
                expected = "" if how == "in another order" else "= 0"
                self.findings.add(f"embeddings that differ {how}, {name}", count, expected)
        self.findings.add("convolutions that cuDNN does not fuse", found["refused"][found["auto"]], note=found["auto"])
        self.findings.add("frames are read from the rings (1: yes)", int(found["from_rings"]), "= 1")

    def same_bytes(self) -> None:
        """For any number of workers, after a kill, and on several GPUs."""
        bytes_of = {}
        for workers in (4, 8):
            bytes_of[f"{workers} workers"] = self._extracted(f"by-{workers}", "--workers", workers)
        bytes_of["killed, and gone on with"] = self._killed()
        if self.findings.machine["gpus"] > 1:
            first = f"{self._device}:0"
            bytes_of["the first GPU alone"] = self._extracted("first", "--device", first)
        wanted = bytes_of.pop("4 workers")
        for how, found in bytes_of.items():
            differ = sum(found.get(name) != digest for name, digest in wanted.items()) + len(found.keys() - wanted)
            self.findings.add(f"shards of other bytes than by 4 workers: {how}", differ, "= 0", f"of {len(wanted)}")

    def _extract_arguments(self, cache: Path) -> list[Any]:
        plain = ["extract", "--data", self._data, "--cache", cache, "--weights", "random", "--shard-clips", 8]
        return [*plain, "--views", "center,flip", "--device", self._device]

    def _extracted(self, name: str, *more: Any) -> dict[str, str]:
        cache = self._folder / name
        self._command(*self._extract_arguments(cache), *more)
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (cache / "shards").glob("*.h5")}

    def _killed(self) -> dict[str, str]:
        """An extraction whose process group is killed after its first shard, and that is gone on with."""
        cache, place = self._folder / "killed", self._folder / "killing"
        place.mkdir()
        arguments = [str(argument) for argument in self._extract_arguments(cache)]
        with started(arguments, place, stdout=subprocess.DEVNULL) as command:
            command.wait_until(lambda: shards_done(cache) > 0, self._left())
        return self._extracted("killed")

    def training(self) -> None:
        """Stage two twice, and its evaluation here and on the CPU."""
        cache, runs = self._folder / "by-4", [self._folder / "head", self._folder / "head-again"]
        options = ["--epochs", 4, "--hidden", 64, "--frames", 16, "--device", self._device]
        for run in runs:
            self._command("train-head", "--cache", cache, "--run", run, *options)
        models = {hashlib.sha256((run / "model.safetensors").read_bytes()).hexdigest() for run in runs}
        self.findings.add("weights that two trainings of one seed give", len(models), "= 1")
        here, on_cpu = (self._evaluated(runs[0], device) for device in (self._device, "cpu"))
        self.findings.add("top-1 here less that on the CPU", here - on_cpu, "= 0", f"{here:.1%}")

    def _evaluated(self, run: Path, device: str) -> float:
        found = json.loads(self._command("evaluate", run, "--device", device, "--json").stdout)
        return float(found["top1"] if "top1" in found else found["all"]["top1"])

    def tuning(self) -> None:
        """Stage three, its evaluation, and a prediction."""
        head, tuned = self._folder / "head", self._folder / "tuned"
        options = ["--epochs", 2, "--head-epochs", 1, "--unfreeze", 4, "--device", self._device]
        self._timed("fine-tuning, 2 epochs", "finetune", "--from", head, "--data", self._data, "--run", tuned, *options)
        self._timed("evaluation of it, from raw frames", "evaluate", tuned, "--device", self._device)
        video = min((self._data / "videos").rglob("*.*"))
        self._timed("prediction of one video", "predict", tuned, video, "--device", self._device)

    def _timed(self, what: str, *arguments: Any) -> float:
        begun = time.perf_counter()
        self._command(*arguments)
        seconds = time.perf_counter() - begun
        self.findings.add(f"{what}, seconds", seconds)
        return seconds

    def stand_in(self) -> None:
        """From files of as many frames as HMDB51 has to an evaluated head."""
        self._link_stand_in()
        cache, run = self._folder / "full", self._folder / "full-head"
        extract = ["extract", "--data", self._stand_in, "--cache", cache, "--weights", "random"]
        begun = time.perf_counter()
        self._command(*extract, "--device", self._device)
        extracted = time.perf_counter()
        train = ["train-head", "--cache", cache, "--run", run, "--epochs", self._sizes.epochs]
        self._command(*train, "--device", self._device)
        trained = time.perf_counter()
        self._command("evaluate", run, "--device", self._device)
        whole, frames = time.perf_counter() - begun, int(FeatureCache(cache).frames.sum())
        note = f"{frames:,} frames of {self._sizes.stand_in_clips:,} clips"
        share = frames / FRAMES  # of the sizes that the expectations are for
        self.findings.add("extraction of all frames, seconds", extracted - begun, f"<= {20 * max(share, 1):g}", note)
        self.findings.add(f"head trained for {self._sizes.epochs} epochs, seconds", trained - extracted)
        self.findings.add("from files to an evaluated head, seconds", whole, f"<= {60 * max(share, 1):g}", note)

    def _link_stand_in(self) -> None:
        """The drawn clips, over and over under other names, until there are so many clips."""
        sources = sorted((self._data / "videos").rglob("*.*"))
        for number in range(self._sizes.stand_in_clips):
            source = sources[number % len(sources)]
            link = self._stand_in / source.parent.name / f"{number:05d}_{source.name}"
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(source)

    def bench(self) -> None:
        """All parts beside their limits."""
        options = ["--seconds", self._sizes.seconds, "--repeats", 2, "--json"]
        found = json.loads(self._command("bench", "--data", self._data, "--device", self._device, *options).stdout)
        speed = {figure["part"]: figure for figure in found["figures"]}
        for part, figure in speed.items():
            limit = f"{figure['ratio']:.2f} of {figure['limit_is']}" if figure["ratio"] else ""
            self.findings.add(f"{part}, {figure['unit']}", float(figure["median"]), note=limit)
        encode = speed[f"encode {found['precision']}"]["median"]
        least = min(speed["decode"]["median"], encode)
        pipeline = speed["pipeline"]["median"]
        self.findings.add("pipeline, of the lower of decode and encoder alone", pipeline / least, ">= 0.85")
        self.findings.add("640,000 frames at that speed, seconds", FRAMES / pipeline, "<= 20", found["bound_by"])
        seconds = _EPOCHS * _HEAD_CLIPS / speed["train the head"]["median"]
        self.findings.add(f"{_EPOCHS} epochs of {_HEAD_CLIPS:,} clips, seconds", seconds, "<= 15")

    def encoders(self) -> None:
        """Encoders by name, beside the naive way of the same precision."""
        for name in _ENCODERS[: self._sizes.encoders]:
            options = ["--seconds", self._sizes.seconds, "--repeats", 2, "--json", "--baseline", "--encoder", name]
            found = json.loads(self._command("bench", "--data", self._data, "--device", self._device, *options).stdout)
            for figure in found["figures"]:
                self.findings.add(f"{figure['part']}, {figure['unit']}", float(figure["median"]), note=name)

    def _left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise StepError("no time is left for it")
        return left

    def _command(self, *arguments: Any) -> "subprocess.CompletedProcess[str]":
        return self._run([*COMMAND, *map(str, arguments)])

    def _run(self, command: list[str], check: bool = True) -> "subprocess.CompletedProcess[str]":
        run = subprocess.run(
            command, capture_output=True, text=True, timeout=self._left(), cwd=ROOT, env={**os.environ}, check=False
        )
        if check and run.returncode:
            last = run.stderr.strip().splitlines()[-1:] or ["no word of why"]
            print("   " + "\n   ".join(run.stderr.strip().splitlines()[-_TOLD:]), flush=True)
            raise StepError(f"{' '.join(command[2:5])} ended with {run.returncode}: {last[0]}")
        return run

    def clean(self) -> None:
        """Remove all that was made."""
        shutil.rmtree(self._folder, ignore_errors=True)
