"""Verification of a cache: whether it is exactly what was written, and still that of its clips' files."""

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ..data.keys import class_of
from ..data.layouts import class_folders, clip_files
from ..errors import CacheError, FileError
from ..progress import Progress
from ..storage.files import file_sha256, read_file, sha256
from .manifest import PLAN, Manifest, ShardEntry, read_manifest
from .recipe import Recipe
from .record import ShardRecord, read_record, standing_failures
from .shard import ShardImage
from .writer import Store


def verify(cache: Path, data: Path | None = None, progress: Progress = Progress()) -> list[str]:
    """All that is wrong with the cache, one line each; empty where nothing is.

    Every file's sha256 is recomputed, every shard opened and counted. With `data`, the file of every cached clip is
    compared with the one that was read, and clips that are new in class folders are named.
    """
    try:
        manifest = read_manifest(cache)
    except CacheError as error:
        return [str(error)]
    store = Store(cache)
    problems = list(_check_files(cache, manifest.files))
    records = []
    with progress.task("Verifying", "shard", len(manifest.shards)):
        for index, entry in enumerate(manifest.shards):
            records += _check_shard(store, index, entry, manifest.recipe, problems)
            progress.advance()
    if not problems:
        problems += _check_whole(store, manifest, records)
    if data is not None:
        problems += _check_files_of_clips(data, manifest.paths, records, progress)
    return problems


def _check_files(cache: Path, files: Mapping[str, str]) -> Iterator[str]:
    for name, expected in files.items():
        path = cache / name
        try:
            if file_sha256(path) != expected:
                later = "; an extraction was started after it was finished" if name == PLAN else ""
                yield f"{path}: damaged or replaced (its sha256 is not the manifest's){later}"
        except FileError as error:
            yield str(error)


def _check_shard(store: Store, index: int, entry: ShardEntry, recipe: Recipe, problems: list[str]) -> list[ShardRecord]:
    """The shard's record, where it can be read; adds what is wrong to `problems`."""
    path, records, fingerprint = store.shard_path(index), [], recipe.fingerprint
    with _added_to(problems):
        record = read_record(store.record_path(index), fingerprint)
        records.append(record)
        if record.sha256 != entry.record_sha256:
            problems.append(f"{store.record_path(index)}: replaced (its sha256 is not the manifest's)")
    with _added_to(problems):
        data = read_file(path)
        if sha256(data) != entry.sha256:
            raise CacheError(f"{path}: damaged (its sha256 is not the manifest's); run extract again to redo it")
        with ShardImage(data, str(path)) as image:
            shard = image.read()
        counted = list(zip(shard.keys, np.diff(shard.offsets).tolist(), strict=True))
        if image.schema != recipe.schema:
            problems.append(f"{path}: schema {image.schema}, its recipe is of {recipe.schema}")
        if shard.fingerprint != fingerprint:
            problems.append(f"{path}: belongs to another recipe")
        views, _, dim = shard.embeddings.shape
        if (views, dim) != (len(recipe.views), recipe.dim):
            expected = f"{len(recipe.views)} views of {recipe.dim} dimensions"
            problems.append(f"{path}: holds {views} views of {dim} dimensions, its recipe says {expected}")
        if records and counted != [(clip.key, clip.frames) for clip in records[0].clips]:
            problems.append(f"{path}: its clips and frames are not those of its record")
    return records


@contextmanager
def _added_to(problems: list[str]) -> Iterator[None]:
    """Add an error that says what is wrong, and go on."""
    try:
        yield
    except (CacheError, FileError) as error:
        problems.append(str(error))


def _check_whole(store: Store, manifest: Manifest, records: list[ShardRecord]) -> Iterator[str]:
    counts, keys = manifest.counts, [clip.key for record in records for clip in record.clips]
    if (counts.clips, counts.frames) != (len(keys), sum(record.frames for record in records)):
        yield f"{store.root}: the manifest counts {counts.clips} clips, {counts.frames} frames; the shards differ"
    if len(set(keys)) < len(keys):
        yield f"{store.root}: {len(keys) - len(set(keys))} clips are there twice"
    if unknown := set(map(class_of, keys)) - set(manifest.classes):
        yield f"{store.root}: the manifest lacks the classes {', '.join(sorted(unknown))}"
    if {failure.key: failure.reason for failure in manifest.failures} != standing_failures(records):
        yield f"{store.root}: the manifest's failures are not those of the records"
    plan = store.read_plan()
    shards = list(plan.shards) if plan else []
    if plan and plan.recipe != manifest.recipe:
        yield f"{store.root / PLAN}: its recipe is not the manifest's"
    if len(shards) != len(records):
        yield f"{store.root}: {len(shards)} shards are planned, {len(records)} are finished: run extract again"
    for index, (planned, record) in enumerate(zip(shards, records, strict=False)):
        if not _as_planned(planned, record):
            yield f"{store.record_path(index)}: its clips are not those of the plan"


def _as_planned(keys: Sequence[str], record: ShardRecord) -> bool:
    """Whether a shard holds the clips that are planned for it, in this order, each once."""
    good = {clip.key for clip in record.clips}
    found = [clip.key for clip in (*record.clips, *record.failures)]
    return sorted(found) == sorted(keys) and [key for key in keys if key in good] == found[: len(good)]


def _check_files_of_clips(
    data: Path, places: Mapping[str, str], records: list[ShardRecord], progress: Progress
) -> list[str]:
    cached = {clip.key: clip.source_sha256 for record in records for clip in record.clips}
    known = {key for record in records for key in record.keys}
    paths = clip_files(data, cached, places)
    new = set() if places else class_folders(data).places.keys() - known

    def check(item: tuple[str, str]) -> str | None:
        key, expected = item
        if not os.path.lexists(paths[key]):
            return f"{key}: no longer in {data}"
        try:
            return None if file_sha256(paths[key]) == expected else f"{key}: the file has changed since it was cached"
        except FileError as error:
            return f"{key}: {error}"

    problems = []
    with ThreadPoolExecutor() as threads, progress.task("Comparing", "clip", len(cached)):
        for problem in threads.map(check, cached.items()):
            problems += [problem] if problem else []
            progress.advance()
    return problems + [f"{key}: not in the cache; run extract again to add it" for key in sorted(new)]
