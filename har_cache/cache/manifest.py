"""The manifest of a finished cache, and the plan of its shards: read and checked here alone."""

import itertools
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ..data.index import DataSetName
from ..data.keys import NAMES, SOURCES_FROM
from ..data.splits import SUBSETS
from ..devices import SEVERAL
from ..errors import CacheError
from ..storage.parsing import parse, read_sealed
from .recipe import SCHEMA, Recipe
from .record import check_key

MANIFEST, ENCODER, PLAN, FAILURES = "manifest.json", "encoder.safetensors", "plan.json", "failures.csv"
SHARDS = "shards"
SHARD_FILE = re.compile(r"[0-9]{5,}\.(h5|json)")  # a shard and its record
_MACHINE = "machine"
UNTESTED, TESTED = "that no split tests on", "test clips included"  # what a projection was fitted on, in recipes


@dataclass(frozen=True)
class Plan:
    """Which clips go into which shard, in order, under which recipe.

    `machine`: of a cache that GPUs make, what beside the recipe decides on the bits of its shards: GPU, driver, and the
    like, by name; where shards were made on several, each value, between slashes.
    """

    recipe: Recipe
    shards: tuple[tuple[str, ...], ...] = ()
    machine: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def keys(self) -> frozenset[str]:
        """All clips of all shards."""
        return frozenset(key for shard in self.shards for key in shard)

    def extended(self, keys: Iterable[str], shard_clips: int) -> "Plan":
        """This plan with `keys` added as new shards of about equal size, at most `shard_clips` clips each."""
        new = sorted(keys)
        count = math.ceil(len(new) / shard_clips)
        bounds = [round(i * len(new) / count) for i in range(count + 1)] if count else [0]
        shards = tuple(tuple(new[a:b]) for a, b in itertools.pairwise(bounds))
        return replace(self, shards=self.shards + shards)

    def made_on(self, machine: Mapping[str, str]) -> "Plan":
        """This plan with `machine` added to those that its shards are made on."""
        values = {name: self.machine.get(name, value).split(SEVERAL) for name, value in machine.items()}
        added = {name: SEVERAL.join(dict.fromkeys([*values[name], value])) for name, value in machine.items()}
        return replace(self, machine={**self.machine, **added})

    def in_later_shards(self) -> list[list[str]]:
        """For each shard, its clips that a later shard holds too: they had failed here, and stay failures here."""
        later: set[str] = set()
        found: list[list[str]] = []
        for shard in reversed(self.shards):
            found.append([key for key in shard if key in later])
            later |= set(shard)
        return found[::-1]

    def to_dict(self) -> dict[str, Any]:
        """As JSON types: the content of its file. Without `machine` where there is none, as on CPUs."""
        return {
            "schema": self.recipe.schema,
            "recipe": self.recipe.to_dict(),
            "fingerprint": self.recipe.fingerprint,
            "shards": self.shards,
            **({_MACHINE: dict(self.machine)} if self.machine else {}),
        }


@dataclass(frozen=True)
class Counts:
    """Size of a cache."""

    clips: int
    frames: int
    failures: int
    shards: int


@dataclass(frozen=True)
class ShardEntry:
    """A shard's file, and the sha256 of it and of its record."""

    file: str
    sha256: str
    record_sha256: str


@dataclass(frozen=True)
class Failure:
    """A clip that is not in the cache."""

    key: str
    reason: str


@dataclass(frozen=True)
class Splits:
    """Where the splits came from (`lists`, `drawn`, or `none` where clips have no labels), and each clip's part in
    splits 1, 2, ..., by key.
    """

    from_: str
    subsets: Mapping[str, tuple[int, ...]]

    @property
    def count(self) -> int:
        """How many splits there are."""
        return max(map(len, self.subsets.values()), default=0)


@dataclass(frozen=True)
class Manifest:
    """Contents of a finished cache, and its making; `files`: sha256 by name.

    `sources`: of those clips whose name does not tell it; `paths`: where the files of those clips are that are not at
    `<class>/<file name>` in the folder of class folders, relative to the data set; both by key. `sources_from`: what
    tells sources, one of SOURCES_FROM. `data_set`: None in a cache of before that was kept, or of no folder of clips.
    `tested_since`: how many clips no split tested when the projection was fitted on such, and some does now.
    """

    fingerprint: str
    recipe: Recipe
    counts: Counts
    shards: tuple[ShardEntry, ...]
    failures: tuple[Failure, ...]
    files: Mapping[str, str]
    classes: tuple[str, ...]
    splits: Splits
    versions: Mapping[str, str]
    schema: str = SCHEMA
    sources: Mapping[str, str] = field(default_factory=dict)
    paths: Mapping[str, str] = field(default_factory=dict)
    sources_from: str = NAMES
    data_set: DataSetName | None = None
    tested_since: int = 0

    @property
    def projection_fit(self) -> str:
        """What the projection was fitted on; the recipe says it as it was then."""
        fit, count = self.recipe.projection_fit, self.tested_since
        if not count:
            return fit
        then = fit.replace(UNTESTED, "that no split tested then")
        return f"{then}, of all of which {count} are tested now, by other splits ({TESTED})"


def shard_file(index: int) -> str:
    """The name of the file of shard `index`."""
    return f"{index:05d}.h5"


def read_plan(path: Path) -> Plan:
    """The plan in a file. Raises CacheError where it cannot be read, is damaged, or is no plan of this version."""
    content = read_sealed(path)[0]
    plan = parse(Plan, content, path, ("recipe", "shards", *({_MACHINE} & content.keys())))
    for shard in plan.shards:
        for key in shard:
            check_key(key, path)
    return plan


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a finished cache. Raises CacheError where there is none, or it is damaged."""
    if not folder.is_dir():
        raise CacheError(f"{folder}: no such directory; make a cache with `har-cache extract --cache {folder}`")
    path, plan = folder / MANIFEST, folder / PLAN
    if path.exists():
        manifest = parse(Manifest, read_sealed(path)[0], path)
        _check(manifest, path)
        return manifest
    if not plan.exists():
        raise CacheError(f"{folder}: is no cache")
    read_plan(plan)
    raise CacheError(f"{folder}: is not finished: run the same `har-cache extract` again")


def _check(manifest: Manifest, path: Path) -> None:
    """Raise CacheError where the fields of a manifest are at odds with each other."""
    if manifest.schema != manifest.recipe.schema:
        raise CacheError(f"{path}: schema {manifest.schema!r} over a recipe of {manifest.recipe.schema}")
    if manifest.recipe.fingerprint != manifest.fingerprint:
        raise CacheError(f"{path}: its fingerprint is not that of its recipe")
    if set(manifest.files) != {ENCODER, PLAN, FAILURES}:
        raise CacheError(f"{path}: files are {', '.join(sorted(manifest.files))}, not {ENCODER}, {PLAN}, {FAILURES}")
    for i, entry in enumerate(manifest.shards):
        if entry.file != shard_file(i):
            raise CacheError(f"{path}: shard {i} is called {entry.file}, not {shard_file(i)}")
    if manifest.sources_from not in SOURCES_FROM:
        raise CacheError(f"{path}: sources_from {manifest.sources_from!r}: expected one of {', '.join(SOURCES_FROM)}")
    count = manifest.splits.count
    for key, numbers in manifest.splits.subsets.items():
        check_key(key, path)
        if len(numbers) != count or not SUBSETS.issuperset(numbers):
            raise CacheError(f"{path}: {key} is {numbers} in the splits: expected 0, 1, 2 or 3 in each of {count}")
    for key in (*manifest.sources, *manifest.sources.values(), *manifest.paths):
        check_key(key, path)
    for key, place in manifest.paths.items():
        if not {"", ".", ".."}.isdisjoint(place.split("/")) or "\0" in place:
            raise CacheError(f"{path}: {key} is at {place!r}: expected a path below the data set")
