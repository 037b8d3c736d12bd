"""The plan of a cache that has lost it, from what else the cache knows: its manifest, and the records of its shards."""

from pathlib import Path

from ..devices import MACHINE_VERSIONS
from ..errors import CacheError
from ..storage.files import foreign_names
from .manifest import MANIFEST, PLAN, SHARD_FILE, SHARDS, Manifest, Plan, read_manifest
from .record import read_record

_MOST_LATER = 100_000  # shards that an extraction may have planned after the manifest


def recover_plan(folder: Path) -> Plan | None:
    """The plan by manifest and records; None where there is no shard whose plan could be lost.

    Clips of a shard whose record is gone, too, are in no shard of it: an extraction adds them as new ones. Raises
    CacheError where no manifest tells the recipe.
    """
    numbers = _shards(folder)
    if not numbers and not (folder / MANIFEST).exists():
        return None
    try:
        manifest = read_manifest(folder)
    except CacheError as error:
        raise CacheError(f"{folder / PLAN}: lost, and no manifest to recover it from; restore one of them") from error
    known = len(manifest.shards)
    count = max([known, *(number + 1 for number in numbers if number < known + _MOST_LATER)])
    shards = tuple(_keys(folder / SHARDS / f"{i:05d}.json", manifest.fingerprint) for i in range(count))
    return Plan(manifest.recipe, shards, _machine(manifest))


def _shards(folder: Path) -> list[int]:
    """The numbers of the shards that there are files of."""
    names = foreign_names(folder / SHARDS, ()) if (folder / SHARDS).is_dir() else ()
    return [int(Path(name).stem) for name in names if SHARD_FILE.fullmatch(name)]


def _keys(record: Path, fingerprint: str) -> tuple[str, ...]:
    """The clips of a shard, in the order of every plan."""
    try:
        return tuple(sorted(read_record(record, fingerprint).keys))
    except CacheError:
        return ()


def _machine(manifest: Manifest) -> dict[str, str]:
    if manifest.recipe.device == "cpu":
        return {}
    return {name: value for name, value in manifest.versions.items() if name in MACHINE_VERSIONS}
