"""Is this cache exactly what was written, and still that of its source files?"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from ..data.index import read_index
from ..errors import CacheError
from ..files import file_sha256, read_file, sha256
from ..progress import Progress
from .reader import read_manifest
from .shard import ShardImage
from .writer import PLAN, Record, Store, read_record, standing_failures


def verify(cache: Path, data: Path | None = None, progress: Progress = Progress()) -> list[str]:
    """All that is wrong with the cache, one line each; empty where nothing is.

    Every file's sha256 is recomputed, every shard opened and counted. With `data`, every cached clip's source file is
    compared with the one that was read, and clips that are new there are named.
    """
    try:
        manifest = read_manifest(cache)
    except CacheError as error:
        return [str(error)]
    store = Store(cache)
    problems = list(_check_files(cache, manifest["files"]))
    records = []
    for index, entry in enumerate(manifest["shards"]):
        record, found = _check_shard(store, index, entry, manifest)
        problems += found
        records += [record] if record else []
    if not problems:
        problems += _check_whole(store, manifest, records)
    if data is not None:
        problems += _check_sources(data, records)
    return problems


def _check_files(cache: Path, files: dict[str, str]) -> Iterator[str]:
    for name, expected in files.items():
        path = cache / name
        try:
            if file_sha256(path) != expected:
                later = "; an extraction was started after it was finished" if name == PLAN else ""
                yield f"{path}: damaged or replaced (its sha256 is not the manifest's){later}"
        except OSError as error:
            yield f"{path}: cannot be read: {error.strerror}"


def _check_shard(
    store: Store, index: int, entry: dict[str, Any], manifest: dict[str, Any]
) -> tuple[Record | None, list[str]]:
    """The shard's record, where it can be read, and what is wrong."""
    path, problems = store.shard_path(index), []
    record = None
    try:
        record = read_record(store.record_path(index), manifest["fingerprint"])
        if record.sha256 != entry["record_sha256"]:
            problems.append(f"{store.record_path(index)}: replaced (its sha256 is not the manifest's)")
    except CacheError as error:
        problems.append(str(error))
    try:
        data = read_file(path)
        if sha256(data) != entry["sha256"]:
            return record, [
                *problems,
                f"{path}: damaged (its sha256 is not the manifest's); run extract again to redo it",
            ]
        with ShardImage(data, str(path)) as image:
            held = image.index()
            counted = list(zip(held.keys, np.diff(held.offsets).tolist(), strict=True))
            if image.fingerprint != manifest["fingerprint"]:
                problems.append(f"{path}: belongs to another recipe")
            if record and counted != [(clip["key"], clip["frames"]) for clip in record.clips]:
                problems.append(f"{path}: its clips and frames are not those of its record")
    except CacheError as error:
        problems.append(str(error))
    return record, problems


def _check_whole(store: Store, manifest: dict[str, Any], records: list[Record]) -> Iterator[str]:
    counts, clips = manifest["counts"], [clip for record in records for clip in record.clips]
    if (counts["clips"], counts["frames"]) != (len(clips), sum(clip["frames"] for clip in clips)):
        yield f"{store.root}: the manifest counts {counts['clips']} clips, {counts['frames']} frames; the shards differ"
    if manifest["failures"] != standing_failures(records):
        yield f"{store.root}: the manifest's failures are not those of the records"
    plan = store.read_plan()
    planned = len(plan.shards) if plan else 0
    if planned != len(records):
        yield f"{store.root}: {planned} shards are planned, {len(records)} are finished: run extract again"


def _check_sources(data: Path, records: list[Record]) -> list[str]:
    paths = {clip.key: clip.path for clip in read_index(data).clips}
    cached = {clip["key"]: clip["source_sha256"] for record in records for clip in record.clips}
    known = cached.keys() | {f["key"] for record in records for f in record.failures}

    def check(item: tuple[str, str]) -> str | None:
        key, expected = item
        if key not in paths:
            return f"{key}: no longer in {data}"
        try:
            return None if file_sha256(paths[key]) == expected else f"{key}: the file has changed since it was cached"
        except OSError as error:
            return f"{key}: cannot be read: {error.strerror}"

    with ThreadPoolExecutor() as threads:
        found = [problem for problem in threads.map(check, cached.items()) if problem]
    return found + [f"{key}: not in the cache; run extract again to add it" for key in sorted(paths.keys() - known)]
