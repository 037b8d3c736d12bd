"""What is known of the clips of a data set without a model: by a cache, or by its folder and lists."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..cache.reader import FeatureCache
from ..data.index import read_index
from ..data.keys import NAMES, class_of, source_of, sources_of
from ..data.splits import TEST, TRAIN, VALIDATE, Subsets
from ..errors import DataError, SettingError
from ..model.load import check_splits, missing_clips


@dataclass(frozen=True)
class DataSet:
    """Clips that are there, and those that are not and that lists name. `sources` and `subsets`, their parts in splits
    1, 2, ...: of all of them, by key; `frames`: of those of a cache; `absent`: why clips of test lists are not there.
    """

    name: str
    classes: tuple[str, ...]
    sources: Mapping[str, str]
    subsets: Mapping[str, Subsets]
    frames: Mapping[str, int]
    absent: Mapping[str, str]
    splits: tuple[int, ...]
    splits_from: str
    sources_from: str
    fingerprint: str | None = None

    def trained(self, split: int) -> dict[str, str]:
        """The clips of the training list, those too that are set apart to validate: sources by key."""
        return self._listed(split, TRAIN, VALIDATE)

    def tested(self, split: int) -> dict[str, str]:
        """The clips of the test list: sources by key."""
        return self._listed(split, TEST)

    def check_split(self, split: int) -> None:
        """Raise SettingError where there is no such split."""
        if split not in self.splits:
            raise SettingError(f"--split {split}: {self.name} has splits 1 to {len(self.splits)}")

    def _listed(self, split: int, *parts: int) -> dict[str, str]:
        return {key: source for key, source in self.sources.items() if self.subsets[key][split - 1] in parts}


def read_data_set(cache: Path | None, data: Path | None, splits: Path | None) -> DataSet:
    """Of the cache, or else of the folder and its lists. Raises HarCacheError where it cannot be read, or its clips
    have no labels.
    """
    return _of_cache(cache) if cache else _of_folder(data or Path(), splits)


def _of_cache(path: Path) -> DataSet:
    cache = FeatureCache(path)
    check_splits(cache)
    parts = [(int(part) for part in row) for row in cache.subsets]
    absent = {key: why for split in cache.splits for key, why in missing_clips(cache, split).items()}
    return DataSet(
        name=str(path),
        classes=cache.classes,
        sources=dict(zip(cache.keys, cache.sources, strict=True))
        | sources_of(sorted(cache.missing_subsets), cache.manifest.sources),
        subsets={key: tuple(row) for key, row in zip(cache.keys, parts, strict=True)} | cache.missing_subsets,
        frames=dict(zip(cache.keys, cache.frames.tolist(), strict=True)),
        absent=absent,
        splits=cache.splits,
        splits_from=cache.manifest.splits.from_,
        sources_from=cache.manifest.sources_from,
        fingerprint=cache.fingerprint,
    )


def _of_folder(path: Path, lists: Path | None) -> DataSet:
    index = read_index(path, lists)
    subsets = {clip.key: clip.subsets for clip in index.clips} | index.missing
    count = max(map(len, subsets.values()))
    if not count:
        raise DataError(f"{path}: its clips have no labels and no splits; choose a folder of class folders")
    return DataSet(
        name=str(path),
        classes=index.classes,
        sources={clip.key: clip.source for clip in index.clips} | {key: source_of(key) for key in index.missing},
        subsets=subsets,
        frames={},
        absent=dict.fromkeys(sorted(index.missing), "not on disk"),
        splits=tuple(range(1, count + 1)),
        splits_from=index.splits_from,
        sources_from=NAMES,
    )


def label_of(key: str, data_set: DataSet) -> int | None:
    """The index of a clip's class; None for one of a class of which no clip is there."""
    name = class_of(key)
    return data_set.classes.index(name) if name in data_set.classes else None
