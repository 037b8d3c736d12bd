"""The writing side of a cache directory: the protocol that commits shards, records, plan and manifest."""

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from types import MappingProxyType, TracebackType

import numpy as np

from ..data.index import DataSetName
from ..data.keys import NAMES
from ..errors import CacheError, FileError
from ..storage.files import (
    file_sha256,
    foreign_names,
    make_directory,
    read_file,
    remove_file,
    seal,
    sha256,
    to_csv,
    write_file,
)
from ..storage.locks import alone
from ..storage.parsing import to_json_types
from .manifest import (
    ENCODER,
    FAILURES,
    MANIFEST,
    PLAN,
    SHARD_FILE,
    SHARDS,
    Counts,
    Failure,
    Manifest,
    Plan,
    ShardEntry,
    Splits,
    read_plan,
    shard_file,
)
from .recipe import SCHEMA_1, Recipe
from .record import ClipRecord, ShardRecord, read_record, standing_failures
from .shard import Shard, to_image

_WAITING = 2  # shards that may wait for the one that is being committed: each is held in memory


class Store:
    """A cache directory, for writing. Every file is whole or absent; `alone` keeps other writers out."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def create(self) -> None:
        """Make the directory. Raises HarCacheError where that is not possible, or it holds other things."""
        make_directory(self.root)
        foreign = foreign_names(self.root, (MANIFEST, ENCODER, PLAN, FAILURES, SHARDS))
        if foreign and not any((self.root / name).exists() for name in (PLAN, MANIFEST)):
            raise CacheError(f"{self.root}: holds other files ({min(foreign)}, ...); choose an empty directory")
        make_directory(self.root / SHARDS)

    def alone(self, say: Callable[[str], None]) -> AbstractContextManager[None]:
        """Keep other extractions out of the directory, and remove what killed ones left. Raises CacheError where one
        is at work there.
        """
        return alone(self.root, "extraction", say, CacheError, [self.root / SHARDS])

    def clear(self) -> None:
        """Remove the cache in this directory; files that are not a cache's stay. The manifest first, so that it is no
        finished cache any more, and the plan last: until then it is one of its recipe.
        """
        shards = sorted(path for path in (self.root / SHARDS).glob("*") if SHARD_FILE.fullmatch(path.name))
        paths = [self.root / name for name in (MANIFEST, FAILURES, ENCODER, PLAN)]
        for path in [paths[0], *shards, *paths[1:]]:
            remove_file(path)

    def shard_path(self, index: int) -> Path:
        """Where shard `index` is; its record stands beside it."""
        return self.root / SHARDS / shard_file(index)

    def record_path(self, index: int) -> Path:
        """Where the completion record of shard `index` is."""
        return self.shard_path(index).with_suffix(".json")

    def read_plan(self) -> Plan | None:
        """The plan, or None where no extraction has started. Raises CacheError on a damaged one."""
        path = self.root / PLAN
        return read_plan(path) if path.exists() else None

    def write_plan(self, plan: Plan) -> None:
        """Commit the plan: from now on the directory is a cache of this recipe."""
        write_file(self.root / PLAN, seal(plan.to_dict()))

    def encoder_bytes(self) -> bytes:
        """The bytes of `encoder.safetensors`."""
        return read_file(self.root / ENCODER)

    def write_encoder(self, data: bytes) -> None:
        """Commit the encoder; before the plan that names its sha256."""
        write_file(self.root / ENCODER, data)

    def done(self, plan: Plan, index: int) -> ShardRecord | None:
        """The record of a finished shard of this plan; None where it has to be (re)done."""
        try:
            record = read_record(self.record_path(index), plan.recipe.fingerprint)
            intact = file_sha256(self.shard_path(index)) == record.shard_sha256
        except (CacheError, FileError):
            return None
        return record if intact and record.keys == set(plan.shards[index]) else None

    def commit(self, index: int, recipe: Recipe, clips: Sequence[ClipRecord]) -> ShardRecord:
        """Write a shard, then its record. `clips`: those of the shard, in the plan's order."""
        good = tuple(clip for clip in clips if not clip.failed)
        image = to_image(_to_shard(good, recipe))
        write_file(self.shard_path(index), image)
        record = ShardRecord(sha256(image), good, tuple(clip for clip in clips if clip.failed))
        write_file(self.record_path(index), seal(record.to_dict(recipe)))
        return read_record(self.record_path(index), recipe.fingerprint)

    def finish(
        self,
        plan: Plan,
        records: Sequence[ShardRecord],
        classes: Sequence[str],
        splits: Splits,
        versions: Mapping[str, str],
        sources: Mapping[str, str] = MappingProxyType({}),
        paths: Mapping[str, str] = MappingProxyType({}),
        sources_from: str = NAMES,
        data_set: DataSetName | None = None,
        tested_since: int = 0,
    ) -> Manifest:
        """Write failures.csv and, last, the manifest; from `sources` on as it has them."""
        failures = standing_failures(records)
        write_file(self.root / FAILURES, to_csv(("key", "reason"), failures.items()))
        clips, frames = sum(len(record.clips) for record in records), sum(record.frames for record in records)
        manifest = Manifest(
            fingerprint=plan.recipe.fingerprint,
            recipe=plan.recipe,
            counts=Counts(clips, frames, len(failures), len(records)),
            shards=tuple(ShardEntry(shard_file(i), r.shard_sha256, r.sha256) for i, r in enumerate(records)),
            failures=tuple(Failure(key, reason) for key, reason in failures.items()),
            files={name: file_sha256(self.root / name) for name in (ENCODER, PLAN, FAILURES)},
            classes=tuple(classes),
            splits=splits,
            versions=versions,
            schema=plan.recipe.schema,
            sources=sources,
            paths=paths,
            sources_from=sources_from,
            data_set=data_set,
            tested_since=tested_since,
        )
        write_file(self.root / MANIFEST, seal(to_json_types(manifest)))
        return manifest


class CommitThread:
    """Commits shards one after another, while the next ones are made; a context manager.

    `done` is called for each, in order, by whoever adds or collects: with its index, its record, and the seconds that
    it took. After a commit that fails there is none. What was added before is committed, however the block is left.
    """

    def __init__(self, store: Store, recipe: Recipe, done: Callable[[int, ShardRecord, float], None]) -> None:
        self._store, self._recipe, self._done = store, recipe, done
        self._thread = ThreadPoolExecutor(1, "commit")
        self._failed = False
        self._pending: deque[Future[tuple[int, ShardRecord, float]]] = deque()

    def add(self, index: int, clips: Sequence[ClipRecord]) -> None:
        """Have a shard committed; waits where too many are waiting. Raises as `collect`."""
        self._pending.append(self._thread.submit(self._commit, index, clips))
        self.collect(_WAITING + 1)

    def collect(self, most: int | None = None) -> None:
        """Tell of what is committed, having waited until at most `most` are left. Raises what a commit has raised."""
        while self._pending and (self._pending[0].done() or (most is not None and len(self._pending) > most)):
            self._done(*self._pending.popleft().result())

    def _commit(self, index: int, clips: Sequence[ClipRecord]) -> tuple[int, ShardRecord, float]:
        if self._failed:
            raise CacheError("a shard before could not be written")
        before = time.perf_counter()
        try:
            return index, self._store.commit(index, self._recipe, clips), time.perf_counter() - before
        except BaseException:
            self._failed = True
            raise

    def __enter__(self) -> "CommitThread":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        try:
            if error is None:
                self.collect(0)
        finally:
            self._thread.shutdown()


def _to_shard(clips: Sequence[ClipRecord], recipe: Recipe) -> Shard:
    arrays = [clip.embeddings for clip in clips if clip.embeddings is not None]
    assert [array.shape[1] for array in arrays] == [clip.frames for clip in clips]
    empty = np.empty((len(recipe.views), 0, recipe.dim), np.float16)
    return Shard(
        fingerprint=recipe.fingerprint,
        embeddings=np.concatenate([empty, *arrays], axis=1),
        offsets=np.cumsum([0, *(clip.frames for clip in clips)]),
        keys=tuple(clip.key for clip in clips),
        fps=np.array([clip.fps for clip in clips], np.float32),
        source_sha256=tuple(clip.source_sha256 for clip in clips),
        times=None if recipe.schema == SCHEMA_1 else np.concatenate([np.empty(0), *map(_times, clips)]),
    )


def _times(clip: ClipRecord) -> np.ndarray:
    return np.full(clip.frames, np.nan) if clip.times is None else clip.times
