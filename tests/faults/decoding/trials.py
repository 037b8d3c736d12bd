"""Damaged, odd and misbehaving clips, extracted in a few data sets, and each compared with what PyAV makes of it."""

import csv
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from ...helpers.commands import started
from ..trial import Outcome, Trial
from .bases import write_bases, write_odd
from .injected import MISBEHAVIOURS, on_path
from .mutants import mutant
from .reasons import Clip, outcome_of, refused_though_sound

_BATCH = 400  # clips
_STALL_S = 10
_STALL_OF_MISBEHAVING_S = 5
_DEADLINE_S = 900  # of an extraction, which has to end
_EXTRACTIONS = "extractions of such clips"
_ENCODED = 4  # embeddings are compared of one clip in so many
_ROOT = Path(__file__).parents[3]

Say = Callable[[str], None]


def fuzz(folder: Path, clips: int, seed: int, say: Say) -> Iterator[Trial]:
    """Try so many mutants, a fortieth as many decoders that misbehave, and odd clips: all, where there are many
    mutants. What does not survive stays in `folder`, to be looked at.
    """
    bases = write_bases(folder / "bases")
    data = [path.read_bytes() for path in bases]
    for start in range(0, clips, _BATCH):
        batch = _Batch(folder / f"clips-{start}", seed)
        if not start:
            batch.add_misbehaving(bases, max(4, clips // 40))
            batch.add_odd(clips if clips > _BATCH else clips // 5)
        for number in range(start, min(start + _BATCH, clips)):
            made = mutant(seed, number, data)
            batch.add(f"{number:04d}_{bases[made.base].name}", made.data, f"clips: {made.kind}", f"mutant {number}")
        yield from batch.tried(say)


@dataclass
class _Extraction:
    """How an extraction ended: its exit status, None where it did not; what it wrote; processes left behind."""

    status: int | None
    errors: str
    left: int


class _Batch:
    """Clips that are extracted together."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._folder, self._seed = folder, seed
        self._clips: dict[str, Clip] = {}
        self._env: dict[str, str] = dict(os.environ)
        self._stall_s = _STALL_S

    def add(self, name: str, data: bytes, kind: str, origin: str, must: str | None = None) -> None:
        """Put a clip into the data set."""
        group = "ab"[len(self._clips) % 2]
        path = self._folder / "data" / group / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        assert f"{group}/{name}" not in self._clips
        self._clips[f"{group}/{name}"] = Clip(kind, origin, must)

    def add_odd(self, most: int) -> None:
        """Put odd clips in."""
        for odd in islice(write_odd(self._folder / "odd"), most):
            self.add(odd.name, odd.read_bytes(), "clips: odd ones", odd.name)

    def add_misbehaving(self, bases: Sequence[Path], count: int) -> None:
        """Put clips in at which the decoder misbehaves, and as many sound ones, which must come to no harm."""
        self._env, self._stall_s = on_path(self._folder / "decoders"), _STALL_OF_MISBEHAVING_S
        names = tuple(MISBEHAVIOURS)
        for i in range(count):
            name, base, sound = names[i % len(names)], bases[i % len(bases)], bases[(i + 7) % len(bases)]
            how, packets = MISBEHAVIOURS[name], (0, 5)[i // 2 % 2]
            self.add(f"{i:04d}_{name}_at{packets}{base.suffix}", base.read_bytes(), how.kind, name, how.reason)
            self.add(f"{i:04d}s_{sound.name}", sound.read_bytes(), "clips: sound ones beside those", sound.name, "")

    def tried(self, say: Say) -> Iterator[Trial]:
        """Extract them, compare them."""
        say(f"{self._folder.name}: extracting {len(self._clips)} clips")
        ended = self._extract()
        trial = self._of_extraction(ended)
        yield trial
        if ended.status not in (0, 3):
            return  # no clip can be told of
        say(f"{self._folder.name}: comparing them")
        survivors = [trial] if trial.outcome == "survived" else []
        reasons, cached, seen = self._reasons(), self._cached(), self._seen()
        say(f"{self._folder.name}: {_summary(reasons, [seen[key] for key in cached])}")
        for key, clip in self._clips.items():
            outcome, detail = outcome_of(clip, reasons.get(key), key in cached, seen[key])
            if outcome == "survived":
                (self._folder / "data" / key).unlink()
                survivors.append(Trial(clip.kind, key, outcome))
                yield survivors[-1]
            else:
                yield Trial(clip.kind, key, outcome, f"{detail} ({clip.origin}, seed {self._seed}, {self._folder})")
        sound = Counter(
            refused_though_sound(reasons.get(k), seen[k]) for k, clip in self._clips.items() if not clip.must
        )
        if listed := [f"{count} x {reason}" for reason, count in sound.most_common() if reason]:
            say(f"{self._folder.name}: refused, though PyAV decodes all that is there: {'; '.join(listed)}")
        if len(survivors) > len(self._clips):
            shutil.rmtree(self._folder)

    def _extract(self) -> _Extraction:
        options = f"--weights random --projection random --precision fp32 --workers 2 --clip-timeout {self._stall_s}"
        places = ["--data", str(self._folder / "data"), "--cache", str(self._folder / "cache")]
        with started(["extract", *places, *options.split()], self._folder, cwd=_ROOT, env=self._env) as command:
            try:
                status = command.process.wait(_DEADLINE_S)
            except subprocess.TimeoutExpired:
                status = None
            left = 0 if command.all_gone(5) else len(command.members())
            return _Extraction(status, command.errors.read_text(errors="replace"), left)

    def _of_extraction(self, ended: _Extraction) -> Trial:
        problems: list[tuple[bool, Outcome, str]] = [
            ("Traceback" in ended.errors, "traceback", ended.errors[-2000:]),
            (ended.status is None, "lost", f"not over after {_DEADLINE_S} s"),
            (ended.status not in (0, 3), "lost", f"exit status {ended.status}: {ended.errors[-500:]}"),
            (ended.left > 0, "left", f"{ended.left} processes"),
        ]
        for is_so, outcome, what in problems:
            if is_so:
                return Trial(_EXTRACTIONS, self._folder.name, outcome, f"{what} (seed {self._seed})")
        return Trial(_EXTRACTIONS, self._folder.name, "survived")

    def _reasons(self) -> dict[str, str]:
        with (self._folder / "cache" / "failures.csv").open(newline="") as file:
            return {row["key"]: row["reason"] for row in csv.DictReader(file)}

    def _cached(self) -> set[str]:
        records = [json.loads(path.read_text()) for path in (self._folder / "cache" / "shards").glob("*.json")]
        return {clip["key"] for record in records for clip in record["clips"]}

    def _seen(self) -> dict[str, Any]:
        """What PyAV and the plain encoder make of them, by a program of its own: it leaves nothing behind here."""
        command = [sys.executable, "-m", "tests.faults.decoding.judge", self._folder / "data", self._folder / "cache"]
        done = subprocess.run([*command, str(_ENCODED)], cwd=_ROOT, stdout=subprocess.PIPE, check=True)
        return json.loads(done.stdout)


def _summary(reasons: Collection[str], cached: Sequence[Mapping[str, Any]]) -> str:
    frames = sum(seen.get("frames", 0) for seen in cached)
    damaged, encoded = (sum(map(is_so, cached)) for is_so in (_damaged, lambda seen: seen.get("encoded", False)))
    return (
        f"{len(reasons)} refused, {len(cached)} cached ({damaged} with packets that do not decode), "
        f"{frames} frames compared, the embeddings of {encoded} clips too"
    )


def _damaged(seen: Mapping[str, Any]) -> bool:
    return not seen.get("clean", True)
