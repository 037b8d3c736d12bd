"""Features that another tool has made -> a cache, from which everything works that needs no encoder."""

from collections.abc import Generator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import safetensors.numpy

from ..cache.data_set import tell_data
from ..cache.manifest import Plan
from ..cache.recipe import Recipe
from ..cache.record import ClipRecord, source_sha256
from ..data.index import ClipIndex, read_index
from ..data.lists.rows import list_path
from ..errors import CacheError, ClipError, DataError
from ..extraction.shard_tasks import OnClip, ShardResult, ShardTask
from ..extraction.update import CacheUpdate, ExtractReport
from ..progress import Progress
from ..settings.exchange import ImportSettings
from ..settings.names import CENTER
from ..storage.files import sha256
from .feature_files import FeatureFiles, Features, clip_of

if TYPE_CHECKING:
    from .feature_table import FeatureTable

MODEL = "imported"
_NONE = "none"
_NO_ENCODER = safetensors.numpy.save({})


def import_features(settings: ImportSettings, progress: Progress = Progress()) -> ExtractReport:
    """Bring a cache up to date with files of features; gives what was done, as `extract` does.

    Clips whose file is missing, is of another shape or holds no finite numbers fail, each with its reason. Raises
    HarCacheError: bad settings or lists, no file of any clip, a cache of other features, or one that was extracted.
    """
    settings.check()
    files = _files(settings)
    index, places = _indexed(settings, files)
    tell_data(index, progress)
    return _Import(settings, index, files, places, progress).run()


def _files(settings: ImportSettings) -> "FeatureFiles | FeatureTable":
    path = settings.features
    if path.suffix == ".parquet" or next(path.rglob("*.parquet"), None):
        from .feature_table import FeatureTable

        return FeatureTable(path)
    return FeatureFiles(path, settings.suffix)


def _indexed(settings: ImportSettings, files: "FeatureFiles | FeatureTable") -> tuple[ClipIndex, Mapping[str, str]]:
    """The listed clips, each with its file of features, or where that would be; and the paths in the lists, by key."""
    index = read_index(
        list_path(settings.lists[0]).parent,
        settings.splits,
        settings.seed,
        lists=settings.lists,
        source_pattern=settings.source_pattern,
        folds=settings.folds,
        name=clip_of,
    )
    found = {clip.key: files.find(index.places[clip.key]) for clip in index.clips}
    if not any(found.values()):
        place = next(iter(index.places.values()))
        raise DataError(f"{files.folder}: no file of {place!r} or any other listed clip{files.others(place)}")
    first: dict[object, str] = {}
    for key, path in found.items():
        if path and (other := first.setdefault(files.place(index.places[key]), key)) != key:
            raise DataError(f"{path}: would be of {other} and of {key}; put features into folders as the clips are")
    expected = {key: path or files.expected(index.places[key]) for key, path in found.items()}
    clips = tuple(replace(clip, path=expected[clip.key]) for clip in index.clips)
    return replace(index, clips=clips, places={}), index.places


class _Import(CacheUpdate):
    """One import."""

    what = "Importing"

    def __init__(
        self,
        settings: ImportSettings,
        index: ClipIndex,
        files: "FeatureFiles | FeatureTable",
        places: Mapping[str, str],
        progress: Progress,
    ) -> None:
        super().__init__(
            settings.cache, index, progress, shard_clips=settings.shard_clips, overwrite=settings.overwrite
        )
        self._settings, self._files, self._places = settings, files, places
        self._digests: dict[Path, str] = {}  # of files, each read once

    def new_plan(self) -> Plan:
        """Of as many dimensions as the first clip has that can be read. Raises DataError where none can."""
        first, digest = self._first()
        recipe = Recipe(
            weights=MODEL,
            weights_sha256=digest,
            projection=_NONE,
            projection_fit="",
            encoder_sha256=sha256(_NO_ENCODER),
            transform=_NONE,
            views=(CENTER,),
            precision="fp16",
            faithfulness=1.0,
            decoder=_NONE,
            device="cpu",
            seed=0,
            model=MODEL,
            dim=first.embeddings.shape[1],
            origin=self._settings.origin,
        )
        self._store.clear()
        self._store.write_encoder(_NO_ENCODER)
        self._store.write_plan(Plan(recipe))
        return Plan(recipe)

    def same_plan(self, plan: Plan) -> Plan:
        """Of the same origin."""
        origin, root = plan.recipe.origin, self._store.root
        if origin is None:
            raise CacheError(f"{root}: was extracted from videos; choose another --cache directory")
        if origin != self._settings.origin:
            raise CacheError(
                f"{root}: holds features of another origin: {origin} (asked: {self._settings.origin}). Choose another "
                "--cache directory, or pass --overwrite to replace this one"
            )
        return plan

    def made(self, tasks: list[ShardTask], encoder: bytes, on_clip: OnClip) -> Generator[ShardResult, None, None]:
        """By reading a file after the other."""
        for task in tasks:
            records = []
            for key, path in task.clips:
                records.append(self._record(key, path))
                on_clip(records[-1])
            yield ShardResult(task.index, tuple(records))

    def _first(self) -> tuple[Features, str]:
        reason = ""
        for clip in self._index.clips:
            try:
                return self._read(clip.key), self._digest(clip.path)
            except ClipError as error:
                reason = reason or f"{clip.key}: {error}"
        raise DataError(f"{self._settings.features}: no clip's features can be read; {reason}")

    def _record(self, key: str, path: Path) -> ClipRecord:
        digest = self._digest(path)
        try:
            features = self._read(key)
            if (found := features.embeddings.shape[1]) != self._plan.recipe.dim:
                raise ClipError(f"{found} numbers a frame, where the cache has {self._plan.recipe.dim}")
        except ClipError as error:
            return ClipRecord(key, source_sha256=digest, reason=str(error))
        return ClipRecord(
            key,
            len(features.embeddings),
            features.fps,
            source_sha256=digest,
            embeddings=features.embeddings[None],
            times=features.times,
        )

    def _read(self, key: str) -> Features:
        if key not in self._places:  # of a shard that an import of before had planned
            raise ClipError("not in the list any more")
        return self._files.read(self._places[key], self._settings.fps)

    def _digest(self, path: Path) -> str:
        if path not in self._digests:
            self._digests[path] = source_sha256(path)
        return self._digests[path]
