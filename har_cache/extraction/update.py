"""A cache brought up to date with a data set: plan -> shards -> commit -> manifest, whoever makes the shards."""

import time
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Collection, Generator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from .. import system
from ..cache.data_set import describe, tell_changes
from ..cache.manifest import PLAN, Manifest, Plan, read_manifest
from ..cache.record import ClipRecord, ShardRecord, source_sha256, standing_failures
from ..cache.recovery import recover_plan
from ..cache.writer import CommitThread, Store
from ..data.index import ClipIndex
from ..data.keys import class_of
from ..errors import CacheError, HarCacheError
from ..progress import Progress
from ..storage.files import sha256
from ..storage.parsing import to_json_types
from .shard_tasks import OnClip, ShardResult, ShardTask

_REPLACED = "mended: its frames are in a later shard"


@dataclass
class ExtractReport:
    """Outcome of an extraction. `clips` and `frames`: in this run; `failures`: all that stand in the cache, reason by
    key; `busy_s`: the workers' seconds by stage (decode, transform, encode), and `write`.
    """

    clips: int = 0
    frames: int = 0
    failed: int = 0
    seconds: float = 0.0
    finished_before: int = 0
    failures: dict[str, str] = field(default_factory=dict)
    busy_s: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    manifest: Manifest = field(init=False)
    cache: Path = field(init=False)

    def __repr__(self) -> str:
        done = f"{self.clips} clips, {self.frames} frames in {self.seconds:.1f} s"
        return f"ExtractReport({str(self.cache)!r}: {done}; {len(self.failures)} failed)"

    def to_dict(self) -> dict[str, Any]:
        """As JSON types: `clips`, `frames`, `seconds` and `busy_s` of this run, the rest of the whole cache."""
        failures = [{"key": key, "reason": reason} for key, reason in self.failures.items()]
        of_run = {name: getattr(self, name) for name in ("clips", "frames", "seconds", "busy_s")}
        counts = to_json_types(self.manifest.counts)
        whole = {"fingerprint": self.manifest.fingerprint, "counts": counts, "failures": failures}
        return {"cache": str(self.cache), **whole, **to_json_types(of_run)}

    def rate(self, seconds: float) -> str:
        """Throughput so far, and the number of clips that failed."""
        failed = f", {self.failed} failed" if self.failed else ""
        return f"{self.frames / max(seconds, 1e-9):.0f} frames/s{failed}"

    def add(self, clip: ClipRecord) -> None:
        """Count one clip in."""
        self.clips += not clip.failed
        self.failed += clip.failed
        self.frames += clip.frames
        for stage, spent in clip.seconds.items():
            self.busy_s[stage] += spent


class CacheUpdate(ABC):
    """One update of a cache: what there is, and how far it has come. Who makes the shards says what a plan is, and what
    embeds its clips.
    """

    what = "Extracting"

    def __init__(
        self,
        cache: Path,
        index: ClipIndex,
        progress: Progress,
        on_clip: OnClip = lambda clip: None,
        *,
        shard_clips: int,
        retry_failed: bool = False,
        overwrite: bool = False,
    ) -> None:
        self._index, self._progress, self._on_clip = index, progress, on_clip
        self._shard_clips, self._retry_failed, self._overwrite = shard_clips, retry_failed, overwrite
        self._store = Store(cache)
        self._report = ExtractReport()
        self._report.cache = cache
        self._started = 0.0
        self._plan: Plan
        self._records: list[ShardRecord | None] = []  # of the plan's shards; None: to be made

    @abstractmethod
    def new_plan(self) -> Plan:
        """An empty plan of the recipe that is asked for, committed, its encoder written before."""

    @abstractmethod
    def same_plan(self, plan: Plan) -> Plan:
        """The existing plan, if its recipe is what is asked for. Raises CacheError where it is not."""

    def ready(self) -> None:  # noqa: B027 - not everybody has to get ready
        """Called once there is something to embed, before the plan is written."""

    @abstractmethod
    def made(self, tasks: list[ShardTask], encoder: bytes, on_clip: OnClip) -> Generator[ShardResult, None, None]:
        """The tasks' shards, as they are done; `encoder`: the bytes of the cache's file."""

    def run(self) -> ExtractReport:
        """Do it all, alone in the directory."""
        self._store.create()
        with self._store.alone(self._progress.say):
            return self._run()

    def _run(self) -> ExtractReport:
        plan = self._existing_plan()
        self._plan = self.new_plan() if plan is None else self.same_plan(plan)
        self._read_records()
        self._add_clips()
        self._make_shards()
        done = [record for record in self._records if record]
        self._report.failures = standing_failures(done)
        index = self._index
        classes = sorted({*index.classes, *map(class_of, self._plan.keys)})
        data = describe(index, self._plan.keys, self._store.root)
        versions = {**system.versions(), **self._plan.machine}
        before = self._manifest_before()
        tested_since = tell_changes(before, data.splits, self._progress) if before else 0
        self._report.manifest = self._store.finish(
            self._plan,
            done,
            classes,
            data.splits,
            versions,
            data.sources,
            data.paths,
            data.sources_from,
            data.data_set,
            tested_since,
        )
        return self._report

    def _manifest_before(self) -> Manifest | None:
        """Of the cache as it was, if it was finished, and is gone on with."""
        try:
            return None if self._overwrite else read_manifest(self._store.root)
        except HarCacheError:  # unfinished, or damaged: it is written anew
            return None

    def _existing_plan(self) -> Plan | None:
        """The plan of the cache that is there, from the rest of it where its file is lost; None where none is."""
        if self._overwrite:
            return None
        lost = f"{self._store.root / PLAN}: lost"
        try:
            if plan := self._store.read_plan():
                return plan
        except CacheError as error:
            lost = str(error)
        try:
            plan = recover_plan(self._store.root)
        except CacheError as error:
            raise CacheError(f"{error}, or start over with --overwrite") from error
        if plan:
            self._store.write_plan(plan)
            self._progress.say(f"NOTE: {lost}; written anew by the cache's manifest and records")
        return plan

    def _read_records(self) -> None:
        """See which shards are done: their files are there, and as they were written."""
        with self._progress.task("Checking", "shard", len(self._plan.shards)):
            for i in range(len(self._plan.shards)):
                self._records.append(self._store.done(self._plan, i))
                self._progress.advance()
        self._report.finished_before = sum(len(record.clips) for record in self._records if record)

    def _add_clips(self) -> None:
        """Extend the plan by clips that it does not know, and by failed ones to be tried again."""
        paths, done = self._index.paths, [record for record in self._records if record]
        standing = standing_failures(done)
        failed = {clip.key: clip.source_sha256 for record in done for clip in record.failures if clip.key in standing}
        again = {
            key
            for key, digest in failed.items()
            if key in paths and (self._retry_failed or source_sha256(paths[key]) != digest)
        }
        if new := (paths.keys() - self._plan.keys) | again:
            self._plan = self._plan.extended(new, self._shard_clips)
            self._records += [None] * (len(self._plan.shards) - len(self._records))

    def _make_shards(self) -> None:
        """Make the shards that have no record yet."""
        encoder = self._store.encoder_bytes()
        if sha256(encoder) != self._plan.recipe.encoder_sha256:
            raise CacheError(
                f"{self._store.root}: encoder.safetensors is damaged; restore it, or start over with --overwrite"
            )
        missing = [i for i, record in enumerate(self._records) if record is None]
        if not missing:
            return
        later = self._plan.in_later_shards()
        tasks = [self._task(i, later[i]) for i in missing]
        work = [task for task in tasks if task.clips]
        if work:
            self.ready()
        self._store.write_plan(self._plan)
        commits = CommitThread(self._store, self._plan.recipe, self._committed)
        executed = self._executed(work, encoder, commits) if work else _nothing()
        self._started = time.perf_counter()
        clips = sum(len(task.clips) for task in tasks)
        with commits, closing(executed) as shards, self._progress.task(self.what, "clip", clips):
            for done in chain((ShardResult(task.index, ()) for task in tasks if not task.clips), shards):
                replaced = [ClipRecord(key, reason=_REPLACED) for key in later[done.index]]
                commits.add(done.index, [*done.results, *replaced])
        self._report.seconds = time.perf_counter() - self._started

    def _executed(
        self, tasks: list[ShardTask], encoder: bytes, commits: CommitThread
    ) -> Generator[ShardResult, None, None]:
        """The tasks' shards, as they are done."""

        def clip_done(clip: ClipRecord) -> None:
            commits.collect()  # a disk that is full ends the run now, not with the shard
            self._clip_done(clip)

        return self.made(tasks, encoder, clip_done)

    def _task(self, shard: int, later: Collection[str]) -> ShardTask:
        paths, root = self._index.paths, self._index.root
        keys = [key for key in self._plan.shards[shard] if key not in later]
        return ShardTask(shard, tuple((key, paths.get(key, root / key)) for key in keys))

    def _clip_done(self, clip: ClipRecord) -> None:
        self._report.add(clip)
        if clip.failed:
            self._progress.say(f"Failed: {clip.key}: {clip.reason}")
        self._progress.advance(note=self._report.rate(time.perf_counter() - self._started))
        self._on_clip(clip)

    def _committed(self, shard: int, record: ShardRecord, seconds: float) -> None:
        self._records[shard] = record
        self._report.busy_s["write"] += seconds


def _nothing() -> Generator[ShardResult, None, None]:
    yield from ()
