"""The writing side of a cache directory: the plan of its shards, and the protocol that commits them."""

import csv
import io
import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import CacheError
from ..files import (
    file_sha256,
    make_directory,
    read_file,
    remove_file,
    remove_stale_temporaries,
    seal,
    sha256,
    unseal,
    write_file,
)
from .recipe import SCHEMA, Recipe
from .shard import Shard, to_image

MANIFEST, ENCODER, PLAN, FAILURES, SHARDS = (
    "manifest.json",
    "encoder.safetensors",
    "plan.json",
    "failures.csv",
    "shards",
)
_SHARD_FILE = re.compile(r"[0-9]{5,}\.(h5|json)")


@dataclass(frozen=True)
class ClipResult:
    """What became of one clip: its embeddings, float16 (views, frames, 256), or the reason why there are none."""

    key: str
    embeddings: np.ndarray | None = None
    fps: float = 0.0
    declared_frames: int | None = None
    source_sha256: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Plan:
    """Which clips go into which shard, in order, under which recipe."""

    recipe: Recipe
    shards: tuple[tuple[str, ...], ...] = ()

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
        return Plan(self.recipe, self.shards + shards)


@dataclass(frozen=True)
class Record:
    """A shard's completion record: what was done, and the sha256 that proves it."""

    shard_sha256: str
    clips: tuple[Mapping[str, Any], ...]  # key, frames, declared_frames, fps, source_sha256
    failures: tuple[Mapping[str, Any], ...]  # key, reason, source_sha256
    sha256: str = ""  # of the record's own file


class Store:
    """A cache directory, for writing. Nothing here holds a lock: every file is whole or absent."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def create(self) -> None:
        """Make the directory. Raises CacheError where that is not possible, or it holds other things."""
        make_directory(self.root)
        foreign = {p.name for p in self.root.iterdir()} - {MANIFEST, ENCODER, PLAN, FAILURES, SHARDS}
        foreign = {name for name in foreign if not name.startswith(".")}
        if foreign and not (self.root / PLAN).exists():
            raise CacheError(f"{self.root}: holds other files ({min(foreign)}, ...); choose an empty directory")
        make_directory(self.root / SHARDS)
        for directory in (self.root, self.root / SHARDS):
            remove_stale_temporaries(directory)

    def clear(self) -> None:
        """Remove the cache in this directory, manifest first; files that are not a cache's stay."""
        shards = sorted(path for path in (self.root / SHARDS).glob("*") if _SHARD_FILE.fullmatch(path.name))
        for path in [*(self.root / name for name in (MANIFEST, PLAN, FAILURES, ENCODER)), *shards]:
            remove_file(path)

    def shard_path(self, index: int) -> Path:
        """Where shard `index` is; its record stands beside it."""
        return self.root / SHARDS / f"{index:05d}.h5"

    def record_path(self, index: int) -> Path:
        """Where the completion record of shard `index` is."""
        return self.root / SHARDS / f"{index:05d}.json"

    def read_plan(self) -> Plan | None:
        """The plan, or None where no extraction has started. Raises CacheError on a damaged one."""
        path = self.root / PLAN
        if not path.exists():
            return None
        content = unseal(read_file(path), path)
        return Plan(Recipe.from_dict(content["recipe"]), tuple(tuple(keys) for keys in content["shards"]))

    def write_plan(self, plan: Plan) -> None:
        """Commit the plan: from now on the directory is a cache of this recipe."""
        content = {"recipe": plan.recipe.to_dict(), "fingerprint": plan.recipe.fingerprint}
        write_file(self.root / PLAN, seal({**content, "schema": SCHEMA, "shards": [list(s) for s in plan.shards]}))

    def encoder_bytes(self) -> bytes:
        """The bytes of `encoder.safetensors`."""
        return read_file(self.root / ENCODER)

    def write_encoder(self, data: bytes) -> None:
        """Commit the encoder; before the plan that names its sha256."""
        write_file(self.root / ENCODER, data)

    def done(self, plan: Plan, index: int) -> Record | None:
        """The record of a finished shard of this plan; None where it has to be (re)done."""
        try:
            record = read_record(self.record_path(index), plan.recipe.fingerprint)
            intact = file_sha256(self.shard_path(index)) == record.shard_sha256
        except (CacheError, OSError):
            return None
        keys = {entry["key"] for entry in (*record.clips, *record.failures)}
        return record if intact and keys == set(plan.shards[index]) else None

    def commit(self, index: int, recipe: Recipe, results: Sequence[ClipResult]) -> Record:
        """Write a shard, then its record. `results`: those of the shard's clips, in the plan's order."""
        good = [r for r in results if r.embeddings is not None]
        image = to_image(_to_shard(good, recipe))
        write_file(self.shard_path(index), image)
        record = {
            "schema": SCHEMA,
            "fingerprint": recipe.fingerprint,
            "shard_sha256": sha256(image),
            "clips": [_clip_entry(r) for r in good],
            "failures": [
                {"key": r.key, "reason": r.reason, "source_sha256": r.source_sha256}
                for r in results
                if r.embeddings is None
            ],
        }
        write_file(self.record_path(index), seal(record))
        return read_record(self.record_path(index), recipe.fingerprint)

    def finish(self, plan: Plan, records: Sequence[Record], extra: Mapping[str, Any]) -> dict[str, Any]:
        """Write failures.csv and, last, the manifest; gives its content. `extra` are further fields of it."""
        failures = standing_failures(records)
        write_file(self.root / FAILURES, _failures_csv(failures))
        clips = [clip for record in records for clip in record.clips]
        manifest = {
            "schema": SCHEMA,
            "fingerprint": plan.recipe.fingerprint,
            "recipe": plan.recipe.to_dict(),
            "counts": {
                "clips": len(clips),
                "frames": sum(clip["frames"] for clip in clips),
                "failures": len(failures),
                "shards": len(records),
            },
            "shards": [
                {
                    "file": self.shard_path(i).name,
                    "sha256": record.shard_sha256,
                    "record_sha256": record.sha256,
                }
                for i, record in enumerate(records)
            ],
            "failures": failures,
            "files": {name: file_sha256(self.root / name) for name in (ENCODER, PLAN, FAILURES)},
            **extra,
        }
        write_file(self.root / MANIFEST, seal(manifest))
        return manifest


def read_record(path: Path, fingerprint: str) -> Record:
    """A completion record. Raises CacheError if it is damaged or carries another fingerprint."""
    data = read_file(path)
    content = unseal(data, path)
    if content.get("fingerprint") != fingerprint:
        raise CacheError(f"{path}: belongs to another recipe")
    return Record(content["shard_sha256"], tuple(content["clips"]), tuple(content["failures"]), sha256(data))


def standing_failures(records: Iterable[Record]) -> list[dict[str, str]]:
    """Failed clips, key and reason, less those that a later shard holds: by key, the last reason counts."""
    records = list(records)
    good = {clip["key"] for record in records for clip in record.clips}
    failed = {f["key"]: f["reason"] for record in records for f in record.failures if f["key"] not in good}
    return [{"key": key, "reason": failed[key]} for key in sorted(failed)]


def _to_shard(results: Sequence[ClipResult], recipe: Recipe) -> Shard:
    arrays = [r.embeddings for r in results if r.embeddings is not None]
    empty = np.empty((len(recipe.views), 0, recipe.dim), np.float16)
    return Shard(
        fingerprint=recipe.fingerprint,
        embeddings=np.concatenate([empty, *arrays], axis=1),
        offsets=np.cumsum([0, *(a.shape[1] for a in arrays)]),
        keys=tuple(r.key for r in results),
        fps=np.array([r.fps for r in results], np.float32),
        source_sha256=tuple(r.source_sha256 for r in results),
    )


def _clip_entry(result: ClipResult) -> dict[str, Any]:
    assert result.embeddings is not None
    return {
        "key": result.key,
        "frames": result.embeddings.shape[1],
        "declared_frames": result.declared_frames,
        "fps": round(result.fps, 6),
        "source_sha256": result.source_sha256,
    }


def _failures_csv(failures: Sequence[Mapping[str, str]]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, ["key", "reason"])  # of the csv dialects, the one that quotes line breaks of any kind
    writer.writeheader()
    writer.writerows(failures)
    return text.getvalue().encode()
