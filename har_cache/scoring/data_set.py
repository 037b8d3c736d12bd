"""What is known of the clips of a data set without a model: by a cache, or by its folder and lists."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..cache.reader import FeatureCache
from ..data.index import data_set_name, read_index
from ..data.keys import GIVEN, class_of, sources_of
from ..data.lists.rows import list_path
from ..data.splits import TEST, TRAIN, VALIDATE, Subsets
from ..errors import DataError, SettingError
from ..evaluation.results import DataSetSize
from ..model.load import check_splits, missing_clips
from ..settings.evaluation import KnownClips


@dataclass(frozen=True)
class DataSet:
    """Clips that are there, and those that are not and that lists name. `subsets`, their parts in splits 1, 2, ...: of
    all of them, by key; `sources`: of those whose source is known, which takes more than a name where it is given;
    `frames`: of those of a cache; `absent`: why clips are not there; `places`: where files are, of those
    clips that are not at their key.
    """

    name: str
    classes: tuple[str, ...]
    sources: Mapping[str, str]
    subsets: Mapping[str, Subsets]
    frames: Mapping[str, int]
    absent: Mapping[str, str]
    places: Mapping[str, str]
    splits: tuple[int, ...]
    splits_from: str
    sources_from: str
    fingerprint: str | None = None
    size: DataSetSize | None = None

    def trained(self, split: int) -> dict[str, str]:
        """The clips of the training list, those too that are set apart to validate: sources by key."""
        return self._listed(split, TRAIN, VALIDATE)

    def tested(self, split: int) -> dict[str, str]:
        """The clips of the test list: sources by key."""
        return self._listed(split, TEST)

    def listed_absent(self, split: int) -> dict[str, str]:
        """The clips of the test list that are not there: why, by key."""
        return {key: why for key, why in self.absent.items() if self.subsets[key][split - 1] == TEST}

    def check_split(self, split: int) -> None:
        """Raise SettingError where there is no such split."""
        if split not in self.splits:
            raise SettingError(f"--split {split}: {self.name} has splits 1 to {len(self.splits)}")

    def _listed(self, split: int, *parts: int) -> dict[str, str]:
        return {key: source for key, source in self.sources.items() if self.subsets[key][split - 1] in parts}


def read_data_set(settings: KnownClips) -> DataSet:
    """Of the cache, or else of the folder and its lists. Raises HarCacheError where it cannot be read, or its clips
    have no labels.
    """
    return _of_cache(settings.cache) if settings.cache else _of_folder(settings)


def _of_cache(path: Path) -> DataSet:
    cache = FeatureCache(path)
    check_splits(cache)
    parts = [(int(part) for part in row) for row in cache.subsets]
    absent = dict.fromkeys(cache.missing_subsets, "not in the cache")
    absent |= {key: why for split in cache.splits for key, why in missing_clips(cache, split).items()}
    return DataSet(
        name=str(path),
        classes=cache.classes,
        sources=dict(zip(cache.clip_keys, cache.sources, strict=True))
        | _by_name(cache.missing_subsets, cache.manifest.sources_from),
        subsets={key: tuple(row) for key, row in zip(cache.clip_keys, parts, strict=True)} | cache.missing_subsets,
        frames=dict(zip(cache.clip_keys, cache.frames.tolist(), strict=True)),
        absent=absent,
        places=cache.manifest.paths,
        splits=cache.splits,
        splits_from=cache.manifest.splits.from_,
        sources_from=cache.manifest.sources_from,
        fingerprint=cache.fingerprint,
        size=DataSetSize.of(cache.manifest.data_set, len(cache.clip_keys), len(cache.classes)),
    )


def _of_folder(settings: KnownClips) -> DataSet:
    index = read_index(
        settings.data or list_path(settings.lists[0]).parent,
        settings.splits,
        lists=settings.lists,
        source_pattern=settings.source_pattern,
        folds=settings.folds,
    )
    subsets = {clip.key: clip.subsets for clip in index.clips} | index.missing
    count = max(map(len, subsets.values()))
    if not count:
        raise DataError(f"{index.root}: its clips have no labels and no splits; choose a folder of class folders")
    return DataSet(
        name=str(settings.data or index.root),
        classes=index.classes,
        sources={clip.key: clip.source for clip in index.clips} | _by_name(index.missing, index.sources_from),
        subsets=subsets,
        frames={},
        absent=dict.fromkeys(sorted(index.missing), "not on disk"),
        places=index.places,
        splits=tuple(range(1, count + 1)),
        splits_from=index.splits_from,
        sources_from=index.sources_from,
        size=DataSetSize.of(data_set_name(index.root), len(index.clips), len(index.classes)),
    )


def _by_name(keys: Iterable[str], sources_from: str) -> dict[str, str]:
    """The sources of clips that are not there; none where it takes more than names to know them."""
    return {} if sources_from == GIVEN else sources_of(sorted(keys), {})


def label_of(key: str, data_set: DataSet) -> int | None:
    """The index of a clip's class; None for one of a class of which no clip is there."""
    name = class_of(key)
    return data_set.classes.index(name) if name in data_set.classes else None
