"""Tries hostile files: WORLD FOLDER COUNT SEED FIRST. A line of JSON before each, and one with what came of it."""

import contextlib
import dataclasses
import hashlib
import json
import os
import random
import shutil
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from . import caches, checkpoints, downloads, names, runs, shards
from .case import Case, tried
from .place import Place

_REPORTED = "hostile files leave what they are copied from"


def cases(world: Path, seed: int) -> Iterator[Case]:
    """Of all kinds in turn; of those without end go on with, once the others are at theirs."""
    made = [
        shards.cases(random.Random(f"{seed} 1")),
        caches.manifests(random.Random(f"{seed} 2"), world),
        checkpoints.cases(random.Random(f"{seed} 3"), world),
        runs.configs(random.Random(f"{seed} 4"), world),
        downloads.archives(random.Random(f"{seed} 5")),
        caches.records(random.Random(f"{seed} 6"), world),
        runs.weights(random.Random(f"{seed} 7"), world),
        runs.metrics(random.Random(f"{seed} 8"), world),
        caches.odd_files(random.Random(f"{seed} 9")),
        runs.evaluation_tables(random.Random(f"{seed} 10"), world),
        names.cases(random.Random(f"{seed} 11")),
        caches.plans(random.Random(f"{seed} 12"), world),
        downloads.servers(random.Random(f"{seed} 13")),
        runs.clips(random.Random(f"{seed} 14"), world),
        runs.epochs(random.Random(f"{seed} 15"), world),
    ]
    while made:
        for kind in list(made):
            if (case := next(kind, None)) is None:
                made.remove(kind)
            else:
                yield case


def main(world: Path, folder: Path, count: int, seed: int, first: int) -> None:
    """Try those from `first` on."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever else is printed
    before = _digest(world)
    for number, case in enumerate(islice(cases(world, seed), count)):
        if number < first:
            continue
        print(json.dumps({"begun": f"{case.kind}: {case.name}", "number": number}), file=out, flush=True)
        place = Place(world, folder / f"hostile-{number}", random.Random(f"{seed} {number}"))
        trial = tried(case, place, f"number {number}, seed {seed}")
        if trial.outcome == "survived":
            shutil.rmtree(place.top)
        print(json.dumps(dataclasses.asdict(trial)), file=out, flush=True)
    if _digest(world) != before:
        trial = dataclasses.replace(trial, kind=_REPORTED, outcome="wrong", detail=f"{world} has changed (seed {seed})")
        print(json.dumps(dataclasses.asdict(trial)), file=out, flush=True)


def _digest(world: Path) -> str:
    found = hashlib.sha256()
    for path in sorted(world.rglob("*")):
        if path.is_file() and path.name != ".lock" and "undisturbed" not in path.parts:
            found.update(str(path).encode() + path.read_bytes())
    return found.hexdigest()


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        main(Path(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:6]))
