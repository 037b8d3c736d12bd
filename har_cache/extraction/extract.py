"""Stage one: plan -> executor -> commit -> report. torch is imported only where there is something to do."""

import time
from collections import defaultdict
from collections.abc import Collection, Generator, Iterable
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from .. import system
from ..cache.manifest import Manifest, Plan, Splits
from ..cache.record import ClipRecord, ShardRecord, source_sha256, standing_failures
from ..cache.writer import Store
from ..data.index import ClipIndex, read_index
from ..data.keys import class_of
from ..errors import CacheError, HarCacheError
from ..files import sha256
from ..progress import Progress
from ..settings import IMAGENET_OR_RANDOM, ExtractSettings
from ..system import uninterrupted
from ..video.decode import resolve_decoder
from ..workers.pool import fork_server
from .recipe_differences import differences
from .shard_tasks import OnClip, ShardResult, ShardTask

if TYPE_CHECKING:
    from ..workers.tasks import Job


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


def extract(
    settings: ExtractSettings, progress: Progress = Progress(), on_clip: OnClip = lambda clip: None
) -> ExtractReport:
    """Bring the cache up to date with the data set; gives what was done.

    Shards that are finished stay as they are, missing ones are made, new clips become new shards, and clips that
    failed are tried again once their file has changed, or where `retry_failed` asks for it. Raises HarCacheError: bad
    settings or data, an existing cache of another recipe, a directory that cannot be written; finished shards are kept
    in any case.
    """
    settings.check()
    index = read_index(settings.data, settings.splits, settings.seed)
    _describe(index, progress)
    return _Extraction(settings, index, progress, on_clip).run()


def _describe(index: ClipIndex, progress: Progress) -> None:
    splits = "found on disk" if index.splits_from == "lists" else "none on disk: drawn by source, seeded"
    progress.say(f"{len(index.clips)} clips of {len(index.classes)} classes in {index.root}; split lists: {splits}")
    for what, keys in (
        ("in the split lists, but not on disk", list(index.missing)),
        ("on disk, but in no split list", index.unlisted),
        ("in class folders that are no videos: ignored", index.ignored),
    ):
        if keys:
            progress.say(f"{len(keys)} {what}: {', '.join(sorted(keys)[:3])}{', ...' if len(keys) > 3 else ''}")


class _Extraction:
    """One extraction: what was asked for, and how far it has come."""

    def __init__(self, settings: ExtractSettings, index: ClipIndex, progress: Progress, on_clip: OnClip) -> None:
        self._settings, self._index, self._progress, self._on_clip = settings, index, progress, on_clip
        self._store = Store(settings.cache)
        self._report = ExtractReport()
        self._started = 0.0
        self._plan: Plan
        self._records: list[ShardRecord | None] = []  # of the plan's shards; None: to be made

    def run(self) -> ExtractReport:
        """Do it all."""
        self._store.create()
        plan = self._existing_plan()
        self._plan = self._new_plan() if plan is None else self._same_plan(plan)
        self._read_records()
        self._add_clips()
        self._make_shards()
        done = [record for record in self._records if record]
        self._report.failures = standing_failures(done)
        index = self._index
        classes = sorted({*index.classes, *map(class_of, self._plan.keys)})
        splits = Splits(index.splits_from, {**index.missing, **{clip.key: clip.subsets for clip in index.clips}})
        self._report.manifest = self._store.finish(self._plan, done, classes, splits, system.versions())
        return self._report

    def _existing_plan(self) -> Plan | None:
        try:
            return None if self._settings.overwrite else self._store.read_plan()
        except CacheError as error:
            raise CacheError(f"{error}; start over with --overwrite") from error

    def _new_plan(self) -> Plan:
        """An empty plan of the recipe that is asked for, its encoder written."""
        decoder = resolve_decoder(self._settings.decoder)
        fork_server()  # imports torch in parallel with the next lines
        with uninterrupted():
            from .prepare import prepare

        device = system.resolve_device(self._settings.device)
        self._settings = settings = replace(self._settings, decoder=decoder, device=device)
        self._check_executor()
        here = settings.workers if settings.executor == "local" else None  # else they are a cluster's
        recipe, encoder = prepare(settings, self._index.clips, here or system.default_workers(), self._progress)
        self._store.clear()  # only now: whatever was wrong with the settings has shown itself
        self._store.write_encoder(encoder)
        self._store.write_plan(Plan(recipe))
        return Plan(recipe)

    def _same_plan(self, plan: Plan) -> Plan:
        """The existing plan, if its recipe is what is asked for."""
        settings, recipe = self._settings, plan.recipe
        weights = settings.weights
        if weights == IMAGENET_OR_RANDOM and recipe.weights in ("imagenet", "random"):
            weights = recipe.weights
        self._settings = settings = replace(
            settings,
            weights=weights,
            decoder=recipe.decoder if settings.decoder == "auto" else resolve_decoder(settings.decoder),
            device=recipe.device if settings.device == "auto" else settings.device,
        )
        self._check_executor()
        if different := differences(settings, recipe):
            raise CacheError(
                f"{settings.cache} was made with another recipe: {'; '.join(different)}. "
                "Choose another --cache directory, or pass --overwrite to replace this one"
            )
        return plan

    def _check_executor(self) -> None:
        if self._settings.device != "cpu" and self._settings.executor == "ray":
            raise HarCacheError("--executor ray runs on CPUs alone: add --device cpu, or take --executor local")

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
            if key in paths and (self._settings.retry_failed or source_sha256(paths[key]) != digest)
        }
        if new := (paths.keys() - self._plan.keys) | again:
            self._plan = self._plan.extended(new, self._settings.shard_clips)
            self._store.write_plan(self._plan)
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
        later = _in_later_shards(self._plan)
        tasks = [self._task(i, later[i]) for i in missing]
        executed = self._executed([task for task in tasks if task.clips], encoder)
        self._started = time.perf_counter()
        for task in tasks:
            if not task.clips:
                self._commit(task.index, (), later[task.index])
        clips = sum(len(task.clips) for task in tasks)
        with closing(executed) as shards, self._progress.task("Extracting", "clip", clips):
            for shard in shards:
                self._commit(shard.index, shard.results, later[shard.index])
        self._report.seconds = time.perf_counter() - self._started

    def _executed(self, tasks: Iterable[ShardTask], encoder: bytes) -> Generator[ShardResult, None, None]:
        """The tasks' shards, from processes of this machine, its GPU, or a Ray cluster."""
        settings = self._settings
        if settings.executor == "ray":
            with uninterrupted():
                from .ray import run_on_cluster
            return run_on_cluster(tasks, self._job(encoder), settings.workers, self._clip_done)
        fork_server()  # imports torch in parallel with the next lines
        workers = settings.workers or system.default_workers()
        if system.resolve_device(settings.device) == "cpu":
            with uninterrupted():
                from .cpu import run_on_cpu
            return run_on_cpu(tasks, self._job(encoder), workers, self._clip_done)
        with uninterrupted():
            from .gpu import run_on_device
        return run_on_device(tasks, self._job(encoder), settings.device, workers, self._clip_done)

    def _job(self, encoder: bytes) -> "Job":
        from ..encoder.folded import fold
        from ..encoder.weights import load_encoder
        from ..workers.tasks import Job

        recipe, settings = self._plan.recipe, self._settings
        folded = fold(load_encoder(encoder))
        return Job(settings.decoder, folded, recipe.precision, recipe.views, stall_s=settings.stall_s)

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

    def _commit(self, shard: int, clips: Iterable[ClipRecord], later: Iterable[str]) -> None:
        before = time.perf_counter()
        replaced = [ClipRecord(key, reason="mended: its frames are in a later shard") for key in later]
        self._records[shard] = self._store.commit(shard, self._plan.recipe, [*clips, *replaced])
        self._report.busy_s["write"] += time.perf_counter() - before


def _in_later_shards(plan: Plan) -> list[list[str]]:
    """For each shard, its clips that a later shard holds too: they had failed here. Redone, they stay failures here."""
    later: set[str] = set()
    found: list[list[str]] = []
    for shard in reversed(plan.shards):
        found.append([key for key in shard if key in later])
        later |= set(shard)
    return found[::-1]
