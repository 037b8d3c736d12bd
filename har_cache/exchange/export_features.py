"""A cache's features for other tools: npy, Parquet, WebDataset, `datasets`; a shard at a time, gone on with where it
was interrupted.
"""

from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..cache.manifest import MANIFEST
from ..cache.reader import FeatureCache
from ..errors import FileError, HarCacheError, SettingError
from ..progress import Progress
from ..settings.exchange import ExportFeaturesSettings
from ..storage.files import (
    file_sha256,
    foreign_names,
    make_directory,
    read_file,
    remove_file,
    seal,
    unseal,
    write_file,
)
from ..storage.locks import alone
from ..storage.parsing import fields_to_json_types
from .clips import clips_of
from .formats import FeatureFormat

DESCRIPTION = "_features.json"  # readers of Parquet skip what begins so
SCHEMA = "har-features/1"


@dataclass(frozen=True)
class FeatureExport:
    """Outcome of an export: the folder, how many clips are in it, and how many of them are new."""

    to: Path
    format: str
    clips: int
    written: int

    def __repr__(self) -> str:
        return f"FeatureExport({str(self.to)!r}: {self.clips} clips as {self.format}, {self.written} of them new)"

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        return fields_to_json_types(self)


@dataclass(frozen=True)
class _Description:
    """What a folder of features is of; `manifest_sha256`: of the cache as it was."""

    format: str
    view: str
    fingerprint: str
    manifest_sha256: str
    schema: str = SCHEMA


def export_features(settings: ExportFeaturesSettings, progress: Progress = Progress()) -> FeatureExport:
    """Write the features of a cache, with labels, sources, splits and times, in the format that is asked for.

    Files are whole or absent, and those that are there stay: run again, it goes on. Where the cache has changed since,
    all are written anew. Raises HarCacheError: no such cache or view, a damaged shard, a folder that holds other things
    or other features, one that cannot be written, a library that the format needs and that is not there.
    """
    settings.check()
    kind = _format(settings.format)
    cache = FeatureCache(settings.cache)
    view = settings.view or cache.views[0]
    if view not in cache.views:
        raise SettingError(f"--view {view}: {settings.cache} has {', '.join(cache.views)}")
    wanted = _Description(settings.format, view, cache.fingerprint, file_sha256(settings.cache / MANIFEST))
    make_directory(settings.to)
    with alone(settings.to, "export of features", progress.say, HarCacheError, _below(settings.to)):
        _begin(settings.to, wanted, kind, cache, progress)
        return FeatureExport(settings.to, settings.format, len(cache), _write(settings.to, view, kind, cache, progress))


def _format(name: str) -> FeatureFormat:
    if name == "npy":
        from .npy import NpyFormat

        return NpyFormat()
    if name == "webdataset":
        from .webdataset import WebDatasetFormat

        return WebDatasetFormat()
    from .parquet import DatasetsFormat, ParquetFormat

    return ParquetFormat() if name == "parquet" else DatasetsFormat()


def _below(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_dir()]


def _begin(folder: Path, wanted: _Description, kind: FeatureFormat, cache: FeatureCache, progress: Progress) -> None:
    """See that the folder is free, or of these features; take away those of the cache as it was."""
    path = folder / DESCRIPTION
    found = {}
    if path.exists():
        with suppress(FileError):
            found = unseal(read_file(path), path)
    elif foreign := foreign_names(folder, ()):
        raise HarCacheError(f"{folder}: holds other files ({min(foreign)}, ...); choose an empty directory")
    now = asdict(wanted)
    if found == {**now, "sha256": found.get("sha256")}:
        return
    if found and any(found.get(name) != now[name] for name in ("format", "view", "fingerprint", "schema")):
        raise HarCacheError(
            f"{folder}: holds other features ({found.get('format')}, view {found.get('view')}, fingerprint "
            f"{str(found.get('fingerprint'))[:12]}); choose another --to"
        )
    if found:
        progress.say("The cache has changed since: all files are written anew")
    for file in _files(kind, cache):
        remove_file(folder / file)
    write_file(path, seal(now, in_order=True))


def _files(kind: FeatureFormat, cache: FeatureCache) -> list[str]:
    return [file for shard in range(cache.shards) for file in kind.files(*_named(cache, shard))]


def _named(cache: FeatureCache, shard: int) -> tuple[str, list[str]]:
    """The name of a shard, and the keys of its clips."""
    return f"{shard:05d}", [cache.clip_keys[place] for place in cache.clips_of_shard(shard)]


def _write(folder: Path, view: str, kind: FeatureFormat, cache: FeatureCache, progress: Progress) -> int:
    """Write what is missing; gives the number of clips."""
    written = 0
    with progress.task("Exporting", "clip", len(cache)):
        for shard in range(cache.shards):
            name, keys = _named(cache, shard)
            if keys and not all((folder / file).is_file() for file in kind.files(name, keys)):
                kind.write(folder, name, list(clips_of(cache, shard, view)))
                written += len(keys)
            progress.advance(len(keys))
    kind.finish(folder, cache)
    return written
