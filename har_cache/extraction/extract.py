"""Stage one: plan -> executor -> commit -> report. torch is imported only where there is something to do."""

import time
from collections import defaultdict
from collections.abc import Collection, Generator
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import chain

from .. import system
from ..cache.manifest import PLAN, Manifest, Plan
from ..cache.record import ClipRecord, ShardRecord, source_sha256, standing_failures
from ..cache.recovery import recover_plan
from ..cache.writer import CommitThread, Store
from ..data.index import ClipIndex
from ..data.keys import class_of
from ..devices import changed_versions, device_versions
from ..errors import CacheError
from ..progress import Progress
from ..settings import IMAGENET_OR_RANDOM, ExtractSettings
from ..storage.files import sha256
from ..system import uninterrupted
from ..video.decode import resolve_decoder
from ..workers.pool import fork_server
from .data_set import describe, open_data
from .executors import devices_for_existing, devices_for_new, execute
from .recipe_differences import differences
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
    return _Extraction(settings, open_data(settings, progress), progress, on_clip).run()


class _Extraction:
    """One extraction: what was asked for, and how far it has come."""

    def __init__(self, settings: ExtractSettings, index: ClipIndex, progress: Progress, on_clip: OnClip) -> None:
        self._settings, self._index, self._progress, self._on_clip = settings, index, progress, on_clip
        self._store = Store(settings.cache)
        self._report = ExtractReport()
        self._started = 0.0
        self._plan: Plan
        self._records: list[ShardRecord | None] = []  # of the plan's shards; None: to be made
        self._devices: list[str] = []  # that make them, once they are needed

    def run(self) -> ExtractReport:
        """Do it all, alone in the directory."""
        self._store.create()
        with self._store.alone(self._progress.say):
            return self._run()

    def _run(self) -> ExtractReport:
        plan = self._existing_plan()
        self._plan = self._new_plan() if plan is None else self._same_plan(plan)
        self._read_records()
        self._add_clips()
        self._make_shards()
        done = [record for record in self._records if record]
        self._report.failures = standing_failures(done)
        index = self._index
        classes = sorted({*index.classes, *map(class_of, self._plan.keys)})
        data = describe(index, self._plan.keys, self._settings.cache)
        versions = {**system.versions(), **self._plan.machine}
        self._report.manifest = self._store.finish(
            self._plan, done, classes, data.splits, versions, data.sources, data.paths, data.sources_from
        )
        return self._report

    def _existing_plan(self) -> Plan | None:
        """The plan of the cache that is there, from the rest of it where its file is lost; None where none is."""
        if self._settings.overwrite:
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

    def _new_plan(self) -> Plan:
        """An empty plan of the recipe that is asked for, its encoder written."""
        decoder = resolve_decoder(self._settings.decoder)
        fork_server()  # imports torch in parallel with the next lines
        with uninterrupted():
            from .prepare import prepare

        self._devices = devices_for_new(self._settings, self._progress.say)
        self._settings = settings = replace(self._settings, decoder=decoder, device=self._devices[0])
        here = settings.workers if settings.executor == "local" else None  # else they are a cluster's
        recipe, encoder = prepare(settings, self._index.clips, here or system.default_workers(), self._progress)
        self._store.clear()  # only now: whatever was wrong with the settings has shown itself
        self._store.write_encoder(encoder)
        plan = Plan(recipe).made_on(_machine(self._devices))
        self._store.write_plan(plan)
        return plan

    def _same_plan(self, plan: Plan) -> Plan:
        """The existing plan, if its recipe is what is asked for; the device counts only where there is work left."""
        settings, recipe = self._settings, plan.recipe
        weights = settings.weights
        if weights == IMAGENET_OR_RANDOM and recipe.weights in ("imagenet", "random"):
            weights = recipe.weights
        self._settings = settings = replace(
            settings,
            weights=weights,
            decoder=recipe.decoder if settings.decoder == "auto" else resolve_decoder(settings.decoder),
        )
        different = differences(settings, recipe)
        if different.keys() - {"device"}:
            raise CacheError(
                f"{settings.cache} was made with another recipe: {'; '.join(different.values())}. "
                "Choose another --cache directory, or pass --overwrite to replace this one"
            )
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
            if key in paths and (self._settings.retry_failed or source_sha256(paths[key]) != digest)
        }
        if new := (paths.keys() - self._plan.keys) | again:
            self._plan = self._plan.extended(new, self._settings.shard_clips)
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
            self._choose_devices()
        self._store.write_plan(self._plan)
        commits = CommitThread(self._store, self._plan.recipe, self._committed)
        executed = self._executed(work, encoder, commits) if work else _nothing()
        self._started = time.perf_counter()
        clips = sum(len(task.clips) for task in tasks)
        with commits, closing(executed) as shards, self._progress.task("Extracting", "clip", clips):
            for done in chain((ShardResult(task.index, ()) for task in tasks if not task.clips), shards):
                replaced = [ClipRecord(key, reason=_REPLACED) for key in later[done.index]]
                commits.add(done.index, [*done.results, *replaced])
        self._report.seconds = time.perf_counter() - self._started

    def _choose_devices(self) -> None:
        """Those that make what is left. Where they are others than made the rest, the plan and the user are told."""
        settings, say = self._settings, self._progress.say
        if settings.executor == "local":
            fork_server()  # imports torch in parallel with the next lines
        if self._devices:
            return  # of a new plan, which names them
        self._devices = devices_for_existing(settings, self._plan.recipe, say)
        machine = _machine(self._devices)
        if changed := changed_versions(self._plan.machine, machine):
            what = f"{settings.cache} was made with {'; '.join(changed)}"
            say(f"WARNING: {what}: its new shards may differ in their last bits from what that would have given")
        if self._plan.machine:  # else nothing is known of its first shards
            self._plan = self._plan.made_on(machine)

    def _executed(
        self, tasks: list[ShardTask], encoder: bytes, commits: CommitThread
    ) -> Generator[ShardResult, None, None]:
        """The tasks' shards, as they are done."""

        def clip_done(clip: ClipRecord) -> None:
            commits.collect()  # a disk that is full ends the run now, not with the shard
            self._clip_done(clip)

        return execute(tasks, encoder, self._plan.recipe, self._devices, self._settings, clip_done)

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


def _machine(devices: list[str]) -> dict[str, str]:
    """What decides, beside the recipe, on what these devices compute; nothing for the CPU."""
    gpus = device_versions(*devices)
    return {**system.versions(["torch"]), **gpus} if gpus else {}
