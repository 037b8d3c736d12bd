"""The clips of a cache as a data set for torch, all in memory: what people train heads of their own on."""

import os
import weakref
from collections.abc import Callable, Iterable, Sequence
from multiprocessing.context import get_spawning_popen
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..cache.reader import FeatureCache
from ..errors import HarCacheError
from ..workers.memory import create_memory, open_memory
from .keywords import PathLike


class ClipDataset(Dataset[tuple[Tensor, int]]):
    """Clips of a cache, read once into memory: `clips[i]` gives the embeddings of one, float16 (frames, dim), your own
    copy, and its label, a place in `classes`. `keys` names the clips in order; `labels`, int64 (clips), are all labels.

        cache = har_cache.FeatureCache("data/caches/sample")
        clips = har_cache.ClipDataset(cache)
        train = clips.subset(cache.split(1, fold=0).train)
        loader = torch.utils.data.DataLoader(train, 32, shuffle=True, collate_fn=train.collate)
        for embeddings, mask, labels in loader:
            ...

    `view`: which view of the clips, by default the cache's first. Subsets share the memory of the whole; so do the
    processes that a DataLoader starts, by fork as they are, by spawn or forkserver through an anonymous file that they
    map, which Linux alone has: elsewhere each gets a copy. Raises CacheError for a cache that is unfinished or damaged,
    HarCacheError for a view that it lacks.
    """

    def __init__(self, cache: FeatureCache | PathLike, view: str | None = None) -> None:
        cache = cache if isinstance(cache, FeatureCache) else FeatureCache(cache)
        view = cache.views[0] if view is None else view
        if view not in cache.views:
            raise HarCacheError(f"view={view!r}: {cache.path} has {', '.join(cache.views)}")
        rows, self._offsets = cache.arrays()
        whole = rows[0] if len(rows) == 1 else rows[cache.views.index(view)].copy()
        self._rows = _Rows(whole)
        self._clips = np.arange(len(cache))
        self._all_keys, self._all_labels = cache.clip_keys, cache.labels
        self.classes = cache.classes

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        clip = self._clips[i]
        rows = self._rows.array[self._offsets[clip] : self._offsets[clip + 1]]
        return torch.from_numpy(rows.copy()), int(self._all_labels[clip])

    def __repr__(self) -> str:
        frames = int(np.diff(self._offsets)[self._clips].sum())
        return f"ClipDataset({len(self)} clips of {len(self.classes)} classes, {frames} frames)"

    @property
    def keys(self) -> tuple[str, ...]:
        """The clips' keys, in order."""
        return tuple(self._all_keys[clip] for clip in self._clips)

    @property
    def labels(self) -> np.ndarray:
        """The clips' labels, in order."""
        return self._all_labels[self._clips]

    def subset(self, keys: Iterable[str]) -> "ClipDataset":
        """These clips of it, in this order, in the same memory.

            test = clips.subset(cache.split(1).test)

        Raises KeyError for one that it lacks.
        """
        numbers = dict(zip(self.keys, self._clips.tolist(), strict=True))
        found = object.__new__(ClipDataset)
        found.__dict__.update(self.__dict__)
        found._clips = np.array([numbers[key] for key in keys], np.int64)
        return found

    @staticmethod
    def collate(clips: Sequence[tuple[Tensor, int]]) -> tuple[Tensor, Tensor, Tensor]:
        """Clips as a batch: embeddings float32 (b, t, dim), zeros after a clip's last frame; mask, bool (b, t), true
        for frames; labels int64 (b). `har_cache.Head` takes the first two.

            logits = head(embeddings, mask)
        """
        lengths = torch.tensor([len(embeddings) for embeddings, _ in clips])
        batch = torch.zeros(len(clips), int(lengths.max()), clips[0][0].shape[1])
        for place, (embeddings, _) in zip(batch, clips, strict=True):
            place[: len(embeddings)] = embeddings
        mask = torch.arange(batch.shape[1]) < lengths.unsqueeze(1)
        return batch, mask, torch.tensor([label for _, label in clips])


class _Rows:
    """The frames of all clips, float16 (frames, dim), which data sets and processes share."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array
        self._name = ""  # of the file that other processes map, once there is one

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        if get_spawning_popen() is None or not hasattr(os, "memfd_create"):
            return _Rows, (self.array,)
        if not self._name:
            self._share()
        return _mapped, (self._name, self.array.shape)

    def _share(self) -> None:
        """Move into memory that other processes can map while this object is there."""
        file, self._name = create_memory(max(1, self.array.nbytes), "clips")
        weakref.finalize(self, os.close, file)
        moved = _mapped(self._name, self.array.shape).array
        moved[:] = self.array
        self.array = moved


def _mapped(name: str, shape: tuple[int, int]) -> _Rows:
    array = np.frombuffer(open_memory(name), np.float16, shape[0] * shape[1]).reshape(shape)
    rows = _Rows(array)
    rows._name = name
    return rows
