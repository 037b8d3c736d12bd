"""Where the shards of an extraction are made: on the CPUs of this machine, its GPUs, or a Ray cluster."""

from collections.abc import Generator, Iterable
from typing import TYPE_CHECKING

from .. import devices, system
from ..cache.recipe import Recipe
from ..devices import Say, kind_of
from ..errors import CacheError, HarCacheError, SettingError
from ..settings.extraction import ExtractSettings
from ..system import uninterrupted
from .shard_tasks import OnClip, ShardResult, ShardTask

if TYPE_CHECKING:
    from ..workers.tasks import Job


def devices_for_new(settings: ExtractSettings, say: Say) -> list[str]:
    """The devices for a new cache: `cpu`, or GPUs. Raises HarCacheError where they cannot be used."""
    found = devices.resolve_devices(settings.device, say)
    if found != ["cpu"] and settings.executor == "ray":
        raise SettingError("--executor ray runs on CPUs alone: add --device cpu, or take --executor local")
    return found


def devices_for_existing(settings: ExtractSettings, recipe: Recipe, say: Say) -> list[str]:
    """The devices that a cache, begun under `recipe`, goes on with. Raises HarCacheError where it cannot go on here."""
    asked, other = settings.device, "or extract into another --cache directory"
    if recipe.device == "cpu":
        if asked != "auto" and kind_of(asked) != "cpu":
            raise CacheError(f"{settings.cache} was made on the CPU, and goes on only there: add --device cpu, {other}")
        return ["cpu"]
    only = f"{settings.cache} was made on a GPU, and goes on only on one"
    for option, value, unfit in (("--device", asked, "cpu"), ("--executor", settings.executor, "ray")):
        if value == unfit:
            raise CacheError(f"{only}: leave {option} {value} away, {other}")
    try:
        return devices.gpus(asked, say)
    except HarCacheError as error:
        raise CacheError(f"{only}, but {error}: go on where there is one, {other}") from error


def execute(
    tasks: Iterable[ShardTask],
    encoder: bytes,
    recipe: Recipe,
    on: list[str],
    settings: ExtractSettings,
    on_clip: OnClip,
) -> Generator[ShardResult, None, None]:
    """Do the tasks on these devices, or on a cluster; yield each shard when done. `encoder`: of the cache's file."""
    if settings.executor == "ray":
        with uninterrupted():
            from .ray import run_on_cluster
        return run_on_cluster(tasks, _job(encoder, recipe, settings), settings.workers, on_clip)
    workers = settings.workers or system.default_workers()
    if on == ["cpu"]:
        with uninterrupted():
            from .cpu import run_on_cpu
        return run_on_cpu(tasks, _job(encoder, recipe, settings), workers, on_clip)
    with uninterrupted():
        from .gpu.processes import run_on_devices
    return run_on_devices(tasks, _job(encoder, recipe, settings), on, workers, on_clip)


def _job(encoder: bytes, recipe: Recipe, settings: ExtractSettings) -> "Job":
    from ..encoder.architectures.packing import pack, transform_of
    from ..encoder.weights import load_encoder
    from ..workers.tasks import Job

    transform = transform_of(recipe)
    packed = pack(load_encoder(encoder, recipe.model), recipe.model, transform)
    return Job(
        recipe.decoder,
        packed,
        recipe.precision,
        recipe.views,
        frames=recipe.frames,
        transform=transform,
        stall_s=settings.stall_s,
    )
