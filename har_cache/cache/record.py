"""Records of the clips of a cache: one each, from the worker that embeds it to the file beside its shard."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import CacheError, FileError
from ..storage.files import file_sha256, sha256
from ..storage.parsing import parse, read_sealed
from .recipe import Recipe

_CLIP = ("key", "frames", "declared_frames", "fps", "source_sha256")
_FAILURE = ("key", "reason", "source_sha256")
_MOST_FRAMES = 1 << 31


@dataclass(frozen=True)
class ClipRecord:
    """Outcome of one clip: `frames` embedded ones, or the `reason` why there are none.

    `fps`: frames a second, 0 where unknown; `declared_frames`: what its header says, None where that is nothing;
    `source_sha256`: of its file, empty where it cannot be read. `embeddings`, float16 (views, frames, dim), the `times`
    of the frames, float64 (frames), in seconds, and the `seconds` spent by stage go with it until the shard is written.
    """

    key: str
    frames: int = 0
    fps: float = 0.0
    declared_frames: int | None = None
    source_sha256: str = ""
    reason: str = ""
    embeddings: np.ndarray | None = field(default=None, compare=False, repr=False)
    seconds: Mapping[str, float] = field(default_factory=dict, compare=False, repr=False)
    times: np.ndarray | None = field(default=None, compare=False, repr=False)

    @property
    def rate(self) -> float:
        """Frames a second, of those that are embedded; 0 where that is unknown."""
        span = 0.0 if self.times is None or self.frames < 2 else float(self.times[-1] - self.times[0])
        return (self.frames - 1) / span if span > 0 else self.fps

    @property
    def failed(self) -> bool:
        """Whether there is a reason, and nothing else."""
        return bool(self.reason)


@dataclass(frozen=True)
class ShardRecord:
    """A shard's completion record: what was done, and the sha256 that proves it."""

    shard_sha256: str
    clips: tuple[ClipRecord, ...]
    failures: tuple[ClipRecord, ...]
    sha256: str = ""  # of the record's own file

    @property
    def keys(self) -> frozenset[str]:
        """The shard's clips, failed ones too."""
        return frozenset(clip.key for clip in (*self.clips, *self.failures))

    @property
    def frames(self) -> int:
        """Frames of all its clips."""
        return sum(clip.frames for clip in self.clips)

    def to_dict(self, recipe: Recipe) -> dict[str, Any]:
        """As JSON types: the content of the record's file."""
        return {
            "schema": recipe.schema,
            "fingerprint": recipe.fingerprint,
            "shard_sha256": self.shard_sha256,
            "clips": [{**_entry(clip, _CLIP), "fps": round(clip.fps, 6)} for clip in self.clips],
            "failures": [_entry(clip, _FAILURE) for clip in self.failures],
        }


def read_record(path: Path, fingerprint: str) -> ShardRecord:
    """A completion record. Raises CacheError if it is damaged or carries another fingerprint."""
    content, data = read_sealed(path)
    if content.get("fingerprint") != fingerprint:
        raise CacheError(f"{path}: belongs to another recipe")
    if not isinstance(content.get("shard_sha256"), str):
        raise CacheError(f"{path}: shard_sha256 is missing; extract again")
    clips, failures = _clips(content, "clips", _CLIP, path), _clips(content, "failures", _FAILURE, path)
    return ShardRecord(content["shard_sha256"], clips, failures, sha256(data))


def standing_failures(records: Iterable[ShardRecord]) -> dict[str, str]:
    """The reasons of failed clips by key, sorted, less those that a later shard holds; the last one counts."""
    records = list(records)
    good = {clip.key for record in records for clip in record.clips}
    failed = {clip.key: clip.reason for record in records for clip in record.failures if clip.key not in good}
    return dict(sorted(failed.items()))


def check_key(key: str, where: object) -> None:
    """Raise CacheError where a key is not `<class>/<file name>`."""
    parts = key.split("/")
    if len(parts) != 2 or not {"", ".", ".."}.isdisjoint(parts) or "\0" in key:
        raise CacheError(f"{where}: {key!r} is no clip's key: expected <class>/<file name>")


def source_sha256(path: Path) -> str:
    """Hex sha256 of a clip's file; empty where it cannot be read."""
    try:
        return file_sha256(path)
    except FileError:
        return ""


def _entry(clip: ClipRecord, names: Iterable[str]) -> dict[str, Any]:
    return {name: getattr(clip, name) for name in names}


def _clips(content: Mapping[str, Any], name: str, fields: Collection[str], path: Path) -> tuple[ClipRecord, ...]:
    entries = content.get(name)
    if not isinstance(entries, list):
        raise CacheError(f"{path}: {name} is missing, or no list; extract again")
    clips = tuple(parse(ClipRecord, entry, path, fields) for entry in entries)
    for clip in clips:
        check_key(clip.key, path)
        if not 0 <= clip.frames <= _MOST_FRAMES:
            raise CacheError(f"{path}: {clip.key} has {clip.frames} frames")
    return clips
