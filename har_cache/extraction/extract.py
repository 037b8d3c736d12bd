"""Stage one: a cache brought up to date by decoding and encoding. torch is imported where there is something to do."""

from collections.abc import Generator
from dataclasses import replace

from .. import system
from ..cache.data_set import open_data
from ..cache.manifest import Plan
from ..data.index import ClipIndex
from ..devices import changed_versions, device_versions
from ..errors import CacheError
from ..progress import Progress
from ..settings.extraction import ExtractSettings
from ..settings.names import IMAGENET_OR_RANDOM, NAMED_WEIGHTS
from ..system import uninterrupted
from ..video.decode import resolve_decoder
from ..workers.pool import fork_server
from .executors import devices_for_existing, devices_for_new, execute
from .recipe_differences import differences
from .shard_tasks import OnClip, ShardResult, ShardTask
from .update import CacheUpdate, ExtractReport


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


class _Extraction(CacheUpdate):
    """One extraction: what was asked for, and the devices that do it."""

    def __init__(self, settings: ExtractSettings, index: ClipIndex, progress: Progress, on_clip: OnClip) -> None:
        super().__init__(
            settings.cache,
            index,
            progress,
            on_clip,
            shard_clips=settings.shard_clips,
            retry_failed=settings.retry_failed,
            overwrite=settings.overwrite,
        )
        self._settings = settings
        self._devices: list[str] = []  # that make shards, once they are needed

    def new_plan(self) -> Plan:
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

    def same_plan(self, plan: Plan) -> Plan:
        """The existing plan, if its recipe is what is asked for; the device counts only where there is work left."""
        settings, recipe = self._settings, plan.recipe
        weights = settings.weights
        if weights == IMAGENET_OR_RANDOM and recipe.weights in NAMED_WEIGHTS:
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

    def ready(self) -> None:
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

    def made(self, tasks: list[ShardTask], encoder: bytes, on_clip: OnClip) -> Generator[ShardResult, None, None]:
        """By workers, on the devices."""
        return execute(tasks, encoder, self._plan.recipe, self._devices, self._settings, on_clip)


def _machine(devices: list[str]) -> dict[str, str]:
    """What decides, beside the recipe, on what these devices compute; nothing for the CPU."""
    gpus = device_versions(*devices)
    return {**system.versions(["torch"]), **gpus} if gpus else {}
