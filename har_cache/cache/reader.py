"""The reading side of a cache directory: `FeatureCache`."""

import bisect
import itertools
import os
from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.keys import class_of, source_of
from ..data.layouts import clip_files
from ..data.splits import UNUSED, Split, split_of
from ..errors import CacheError, FileError
from ..storage.data_frames import data_frame
from ..storage.files import read_file, sha256
from ..system import cores
from .manifest import read_manifest
from .recipe import SCHEMA_1
from .record import ShardRecord, read_record
from .shard import Shard, ShardImage, copy_parts
from .writer import Store

if TYPE_CHECKING:
    import pandas

_OPEN_SHARDS = 8
_READERS = 8  # threads at most


class FeatureCache(Mapping[str, np.ndarray]):
    """A finished cache, read-only: per-frame embeddings of every clip, checked against their sha256.

        cache = har_cache.FeatureCache("data/caches/sample")
        key = cache.clip_keys[0]
        embeddings = cache[key]

    A mapping of keys, `<class>/<file name>`: `cache[key]` gives float16 (views, frames, dim). Beside it
    `cache.times(key)` says when each of the frames is shown, `cache.label(key)` which class it is of, `cache.split(1)`
    which clips train, validate and test. Attributes, in the order of `clip_keys`: `labels` int64 (clips), indices into
    `classes`; `frames` int64 (clips); `fps` float32 (clips), 0 where unknown; `sources`, the film or upload each clip
    was cut from; `source_sha256`, of each clip's file; `subsets` int8 (clips, splits): 1 train, 2 test, 3 set apart to
    validate, 0 unused, for splits 1, 2, ... `missing_subsets` maps clips that the split lists name and the cache lacks
    to their subsets. `manifest` holds what else is known, as where the splits came from, and why clips failed.

    It can be pickled and used in DataLoader workers: shards are read on first use, by each process for itself. That is
    quick for clips in their order, not for clips at random, for which there is `har_cache.ClipDataset`.
    Raises CacheError where the directory is no finished cache, or a shard or record does not match its sha256; the
    cache's other files, which nothing here is read from, are `verify`'s to check.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.manifest = read_manifest(self.path)
        self.recipe = self.manifest.recipe
        self.fingerprint = self.recipe.fingerprint
        self.classes = self.manifest.classes
        records = self._records()
        clips = [clip for record in records for clip in record.clips]
        self._shard_frames = [record.frames for record in records]
        self._first = list(itertools.accumulate((len(record.clips) for record in records), initial=0))
        self.clip_keys: tuple[str, ...] = tuple(clip.key for clip in clips)
        self._numbers = {key: number for number, key in enumerate(self.clip_keys)}
        label = {name: i for i, name in enumerate(self.classes)}
        folders = [class_of(key) for key in self.clip_keys]
        if len(self._numbers) < len(clips) or not label.keys() >= set(folders):
            raise CacheError(f"{self.path}: a clip is there twice, or of no class of the manifest; extract again")
        self.labels = np.array([label[folder] for folder in folders], np.int64)
        self.sources = tuple(self.manifest.sources.get(key) or source_of(key) for key in self.clip_keys)
        self.frames = np.array([clip.frames for clip in clips], np.int64)
        self.fps = np.array([clip.fps for clip in clips], np.float32)
        self.source_sha256 = tuple(clip.source_sha256 for clip in clips)
        subsets = dict(self.manifest.splits.subsets)
        self.splits = tuple(range(1, self.manifest.splits.count + 1))
        unused = (UNUSED,) * len(self.splits)
        rows = [subsets.pop(key, unused) for key in self.clip_keys]
        self.subsets = np.array(rows, np.int8).reshape(len(rows), len(self.splits))
        self.missing_subsets = subsets
        self._shards: OrderedDict[int, Shard] = OrderedDict()

    def __len__(self) -> int:
        return len(self.clip_keys)

    def __iter__(self) -> Iterator[str]:
        return iter(self.clip_keys)

    def __contains__(self, key: object) -> bool:
        return key in self._numbers

    # A cache is the same as itself alone, and has a hash: a mapping's own comparison would read all of both.
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __getitem__(self, key: str) -> np.ndarray:
        """The embeddings of one clip, float16 (views, frames, dim): your own copy."""
        shard, rows = self._rows(key)
        return shard.embeddings[:, rows].copy()

    def label(self, key: str) -> int:
        """The class of one clip, as a place in `classes`: `cache.classes[cache.label(key)]`. Raises KeyError."""
        return int(self.labels[self._number(key)])

    def split(self, number: int, fold: int | None = None) -> Split:
        """The clips of one split that the cache holds, by key, in its order.

            train, val, test = cache.split(1, fold=0)

        `val` are those that the data set sets apart to validate on, which often are none. With `fold`, 0 to 6, they are
        a seventh of the training list, in whole films, which `train` then lacks: those that `train_head` holds out.
        Raises HarCacheError where there is no such split or fold, or a fold is asked for and clips are set apart.
        """
        if number not in self.splits:
            there = f"it has {len(self.splits)}, counted from 1" if self.splits else "it has none"
            raise CacheError(f"{self.path}: no split {number}: {there}")
        return split_of(self.clip_keys, self.subsets[:, number - 1], self.labels, self.sources, fold)

    def to_pandas(self) -> "pandas.DataFrame":
        """A row a clip: key, class, source, frames, fps, and its subset in each split. Raises HarCacheError without
        pandas.
        """
        words = np.array(["", "train", "test", "val"])
        return data_frame(
            {
                "key": self.clip_keys,
                "class": [self.classes[label] for label in self.labels],
                "source": self.sources,
                "frames": self.frames,
                "fps": self.fps,
                **{f"split{split}": words[self.subsets[:, split - 1]] for split in self.splits},
            }
        )

    def times(self, key: str) -> np.ndarray:
        """When each frame of one clip is shown, float64 (frames), in seconds as its file counts them, from wherever it
        begins: your own copy. NaN where neither the file nor its frame rate tells.

        Raises KeyError; CacheError for a cache of `har-cache/1`, which has none.
        """
        shard, rows = self._rows(key)
        if shard.times is None:
            why = f"made before there were timestamps ({SCHEMA_1})"
            raise CacheError(f"{self.path}: {why}; extract into a new directory")
        return shard.times[rows].copy()

    def files(self, data: Path) -> dict[str, Path]:
        """Where the file of each clip is in the data set at `data`, by key, if it is there. Raises DataError where that
        cannot be read, or is no data set.
        """
        return clip_files(data, self.clip_keys, self.manifest.paths)

    def _rows(self, key: str) -> tuple[Shard, slice]:
        """The shard of a clip, and where in it its frames are."""
        number = self._number(key)
        index = bisect.bisect_right(self._first, number) - 1
        shard, place = self._shard(index), number - self._first[index]
        return shard, slice(shard.offsets[place], shard.offsets[place + 1])

    def _number(self, key: str) -> int:
        """The number of a clip in `clip_keys`."""
        if key not in self._numbers:
            raise KeyError(f"{key!r} is not in the cache {self.path}")
        return self._numbers[key]

    @property
    def shards(self) -> int:
        """How many shards there are."""
        return len(self._shard_frames)

    def clips_of_shard(self, shard: int) -> range:
        """The clips of a shard, by their number in `clip_keys`: read one after another, its file is read once."""
        return range(self._first[shard], self._first[shard + 1])

    @property
    def views(self) -> tuple[str, ...]:
        """The views, in the order of the embeddings' first axis."""
        return self.recipe.views

    @property
    def offsets(self) -> np.ndarray:
        """int64 (clips + 1): clip i has rows offsets[i] to offsets[i + 1] of `arrays()`."""
        return np.concatenate([[0], np.cumsum(self.frames)])

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """All embeddings as one contiguous array, float16 (views, all frames, dim), and `offsets`.

        Each shard is read once and copied once, into its place. Threads read and hash ahead, and copy: the first touch
        of new memory takes long. HDF5 has a lock, and is slower the more of them wait for it.
        """
        offsets = self.offsets
        out = np.empty((len(self.views), offsets[-1], self.recipe.dim), np.float16)
        end = 0
        copies = []
        with ThreadPoolExecutor(min(cores(), _READERS)) as threads:
            for index, data in enumerate(self._files(threads)):
                begin, end = end, end + self._shard_frames[index]
                with self._image(index, data) as image:
                    copies.append(threads.submit(copy_parts, image.parts(out[:, begin:end])))
        for copied in copies:
            copied.result()  # or its error
        return out, offsets

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_shards": OrderedDict()}

    def __fspath__(self) -> str:
        return str(self.path)

    def __repr__(self) -> str:
        return f"FeatureCache({str(self.path)!r}: {len(self)} clips, {self.frames.sum()} frames, {self.views} views)"

    def _records(self) -> list[ShardRecord]:
        records = []
        for index, entry in enumerate(self.manifest.shards):
            record = read_record(Store(self.path).record_path(index), self.fingerprint)
            if (record.sha256, record.shard_sha256) != (entry.record_sha256, entry.sha256):
                raise CacheError(f"{self.path}: the record of {entry.file} is not the manifest's; extract again")
            records.append(record)
        return records

    def _files(self, threads: ThreadPoolExecutor) -> Iterator[bytes]:
        """The content of each shard's file, a few of them read ahead."""
        shards = iter(range(len(self._shard_frames)))
        ahead = deque(threads.submit(self._file, index) for index in itertools.islice(shards, _READERS + 1))
        while ahead:
            yield ahead.popleft().result()
            ahead.extend(threads.submit(self._file, index) for index in itertools.islice(shards, 1))

    def _file(self, index: int) -> bytes:
        """The content of shard `index`, whose sha256 has been found right."""
        path = Store(self.path).shard_path(index)
        try:
            data = read_file(path)
        except FileError as error:
            raise CacheError(str(error)) from error
        if sha256(data) != self.manifest.shards[index].sha256:
            raise CacheError(f"{path}: damaged (its sha256 does not match); run extract again to redo this shard")
        return data

    def _image(self, index: int, data: bytes) -> ShardImage:
        image = ShardImage(data, Store(self.path).shard_path(index).name)
        if image.shape != (len(self.views), self._shard_frames[index], self.recipe.dim):
            raise CacheError(f"{self.path}: shard {index} holds other frames than its record counts")
        return image

    def _shard(self, index: int) -> Shard:
        if index not in self._shards:
            with self._image(index, self._file(index)) as image:
                self._shards[index] = image.read()
            while len(self._shards) > _OPEN_SHARDS:
                self._shards.popitem(last=False)
        self._shards.move_to_end(index)
        return self._shards[index]
