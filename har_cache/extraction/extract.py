"""Stage one: plan -> executor -> commit -> report."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .. import system
from ..cache.writer import ClipResult, Plan, Record, Store, standing_failures
from ..data.index import ClipIndex, read_index
from ..encoder.folded import fold
from ..encoder.weights import load_encoder
from ..errors import CacheError, HarCacheError
from ..files import sha256
from ..progress import Progress
from ..settings import ExtractSettings
from ..video.decode import resolve_decoder
from ..workers.tasks import Job, source_sha256
from . import executors
from .prepare import Wish, differences, prepare
from .shards import OnClip, ShardTask


@dataclass
class ExtractReport:
    """What an extraction did. `clips` and `frames`: in this run; `failures`: all that stand in the cache, reason by
    key; `busy_s`: the workers' seconds by stage (decode, transform, encode), and `write`.
    """

    clips: int = 0
    frames: int = 0
    failed: int = 0
    seconds: float = 0.0
    finished_before: int = 0
    failures: dict[str, str] = field(default_factory=dict)
    busy_s: dict[str, float] = field(default_factory=dict)
    manifest: Mapping[str, Any] = field(default_factory=dict)

    def rate(self, seconds: float) -> str:
        """How fast it went so far, and how many clips failed."""
        failed = f", {self.failed} failed" if self.failed else ""
        return f"{self.frames / max(seconds, 1e-9):.0f} frames/s{failed}"

    def book(self, result: ClipResult, seconds: Mapping[str, float]) -> None:
        """Count one clip in."""
        self.clips += result.embeddings is not None
        self.failed += result.embeddings is None
        self.frames += 0 if result.embeddings is None else result.embeddings.shape[1]
        for stage, spent in seconds.items():
            self.busy_s[stage] = self.busy_s.get(stage, 0.0) + spent


def extract(
    settings: ExtractSettings, progress: Progress = Progress(), on_clip: OnClip = lambda result, seconds: None
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
    store = Store(settings.cache)
    store.create()
    plan, wish = _plan(settings, index, store, progress)
    records = [store.done(plan, i) for i in range(len(plan.shards))]
    plan = _with_new_clips(plan, records, index, settings, store)
    records += [None] * (len(plan.shards) - len(records))
    report = ExtractReport(finished_before=sum(len(r.clips) for r in records if r))
    _run(settings, wish, plan, records, index, store, progress, on_clip, report)
    done = [record for record in records if record]
    report.failures = {f["key"]: f["reason"] for f in standing_failures(done)}
    report.manifest = store.finish(plan, done, _manifest_extra(index, plan))
    return report


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


def _plan(settings: ExtractSettings, index: ClipIndex, store: Store, progress: Progress) -> tuple[Plan, Wish]:
    """The existing plan, if its recipe is what is asked for; else a new one, with its encoder written."""
    try:
        plan = None if settings.overwrite else store.read_plan()
    except CacheError as error:
        raise CacheError(f"{error}; start over with --overwrite") from error
    recipe = plan.recipe if plan else None
    wish = Wish(
        settings.weights,
        settings.projection,
        settings.views,
        settings.precision,
        recipe.decoder if recipe and settings.decoder == "auto" else resolve_decoder(settings.decoder),
        system.resolve_device(recipe.device if recipe and settings.device == "auto" else settings.device),
        settings.seed,
    )
    if wish.device != "cpu" and settings.executor == "ray":
        raise HarCacheError("--executor ray runs on CPUs alone: add --device cpu, or take --executor local")
    if plan is None:
        here = settings.workers if settings.executor == "local" else None  # else they are a cluster's
        new, encoder = prepare(wish, index.clips, here or system.default_workers(), settings.stall_s, progress.say)
        store.clear()  # only now: whatever was wrong with the wish has shown itself
        store.write_encoder(encoder)
        plan = Plan(new)
        store.write_plan(plan)
    elif different := differences(wish, plan.recipe):
        raise CacheError(
            f"{settings.cache} was made with another recipe: {'; '.join(different)}. "
            "Choose another --cache directory, or pass --overwrite to replace this one"
        )
    return plan, wish


def _with_new_clips(
    plan: Plan, records: Sequence[Record | None], index: ClipIndex, settings: ExtractSettings, store: Store
) -> Plan:
    """The plan, extended by clips it does not know, and by failed ones to be tried again."""
    paths = {clip.key: clip.path for clip in index.clips}
    new = paths.keys() - plan.keys
    standing = {f["key"] for f in standing_failures(r for r in records if r)}
    failed = {f["key"]: f["source_sha256"] for r in records if r for f in r.failures if f["key"] in standing}
    again = {
        key
        for key, digest in failed.items()
        if key in paths and (settings.retry_failed or source_sha256(paths[key]) != digest)
    }
    if not new | again:
        return plan
    plan = plan.extended(new | again, settings.shard_clips)
    store.write_plan(plan)
    return plan


def _run(
    settings: ExtractSettings,
    wish: Wish,
    plan: Plan,
    records: list[Record | None],
    index: ClipIndex,
    store: Store,
    progress: Progress,
    tell: OnClip,
    report: ExtractReport,
) -> None:
    """Make the shards that have no record yet."""
    paths = {clip.key: clip.path for clip in index.clips}
    later = _mended_later(plan)
    tasks = [
        ShardTask(i, tuple((key, paths.get(key, index.root / key)) for key in plan.shards[i] if key not in later[i]))
        for i, record in enumerate(records)
        if record is None
    ]
    encoder = store.encoder_bytes()
    if sha256(encoder) != plan.recipe.encoder_sha256:
        raise CacheError(f"{store.root}: encoder.safetensors is damaged; restore it, or start over with --overwrite")
    if not tasks:
        return
    job = Job(wish.decoder, fold(load_encoder(encoder)), plan.recipe.precision, plan.recipe.views, settings.stall_s)
    started = time.perf_counter()

    def on_clip(result: ClipResult, seconds: dict[str, float]) -> None:
        report.book(result, seconds)
        if result.embeddings is None:
            progress.say(f"Failed: {result.key}: {result.reason}")
        progress.advance(note=report.rate(time.perf_counter() - started))
        tell(result, seconds)

    def commit(shard: int, results: Sequence[ClipResult]) -> None:
        before = time.perf_counter()
        replaced = [ClipResult(key, reason="mended: its frames are in a later shard") for key in later[shard]]
        records[shard] = store.commit(shard, plan.recipe, [*results, *replaced])
        report.busy_s["write"] = report.busy_s.get("write", 0.0) + time.perf_counter() - before

    for task in tasks:
        if not task.clips:
            commit(task.index, [])
    run = executors.find(settings.executor)
    with progress.task("Extracting", "clip", sum(len(task.clips) for task in tasks)):
        for shard in run([task for task in tasks if task.clips], job, wish.device, settings.workers, on_clip):
            commit(shard.index, shard.results)
    report.seconds = time.perf_counter() - started


def _mended_later(plan: Plan) -> list[list[str]]:
    """For each shard, its clips that a later shard holds too: they had failed here. Redone, they stay failures here."""
    later: set[str] = set()
    found: list[list[str]] = []
    for shard in reversed(plan.shards):
        found.insert(0, [key for key in shard if key in later])
        later |= set(shard)
    return found


def _manifest_extra(index: ClipIndex, plan: Plan) -> dict[str, Any]:
    subsets = {**index.missing, **{clip.key: clip.subsets for clip in index.clips}}
    return {
        "classes": sorted({*index.classes, *(key.split("/", 1)[0] for key in plan.keys)}),
        "splits": {"from": index.splits_from, "subsets": {key: list(value) for key, value in subsets.items()}},
        "versions": system.versions(),
    }


def by_reason(failures: Mapping[str, str]) -> Counter[str]:
    """How many clips failed for each reason."""
    return Counter(failures.values())
