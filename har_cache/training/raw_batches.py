"""Raw clips as batches, as `sequences` has them of a cache: the same frames of the same clips, decoded when needed."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..cache.reader import FeatureCache
from ..data.index import ClipIndex
from ..encoder.transform import RESIZE
from ..errors import ClipError, HarCacheError
from ..workers.prefetch import FramePrefetcher, LoaderStats, Request
from .batches import CENTRED, Batch, derive_seed, draw_frames

OnFailure = Callable[[str, str], None]


@dataclass
class Footage:
    """The clips of a cache as files: `keys`, `paths`, labels and lengths, int64 (clips), in the cache's order.

    `failures` are the clips that could not be decoded, with the reason: each is told to `on_failure` once, and left out
    of all batches from then on.
    """

    keys: tuple[str, ...]
    paths: tuple[Path, ...]
    labels: Tensor
    lengths: Tensor
    picker: FramePrefetcher
    device: torch.device
    on_failure: OnFailure
    failures: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of_cache(
        cls,
        cache: FeatureCache,
        labels: np.ndarray,
        index: ClipIndex,
        picker: FramePrefetcher,
        device: str,
        on_failure: OnFailure,
    ) -> "Footage":
        """The cache's clips in a data set, with these labels; one that is not there fails when it is read."""
        paths = {clip.key: clip.path for clip in index.clips}
        return cls(
            cache.keys,
            tuple(paths.get(key, index.root / key) for key in cache.keys),
            torch.from_numpy(labels),
            torch.from_numpy(cache.frames),
            picker,
            torch.device(device),
            on_failure,
        )

    def batches(
        self, clips: Tensor, steps: Tensor, mask: Tensor, batch_size: int, clock: LoaderStats
    ) -> Iterator[Batch]:
        """The frames `steps` (n, t), where `mask` (n, t) is true, of the clips with these indices (n), in batches.

        Inputs are uint8 (clips, t, 256, 256, 3) on the device; what stands where the mask is false is the clip's first
        frame again. A clip that fails is missing from its batch, which is shorter then, or empty. Raises HarCacheError
        where all of them fail.
        """
        places = list(range(len(clips)))
        good = [self.keys[clips[i]] not in self.failures for i in places]
        arrays = self.picker.read((self._request(clips[i], steps[i], mask[i]) for i in places if good[i]), clock)
        found = 0
        for start in range(0, len(clips), batch_size):
            part = places[start : start + batch_size]
            pinned = self.device.type == "cuda"
            inputs = torch.empty(len(part), steps.shape[1], RESIZE, RESIZE, 3, dtype=torch.uint8, pin_memory=pinned)
            kept: list[int] = []
            read = [i for i in part if good[i]]
            for i, array in zip(read, islice(arrays, len(read)), strict=True):
                if isinstance(array, ClipError):
                    self.fail(self.keys[clips[i]], str(array))
                    continue
                row = inputs[len(kept)].numpy()
                row[: len(array)] = array
                row[len(array) :] = array[:1]
                kept.append(i)
            found += len(kept)
            yield self._to_device(Batch(inputs[: len(kept)], mask[kept], self.labels[clips[kept]]))
        if len(clips) and not found:
            key, reason = next(iter(self.failures.items()))
            raise HarCacheError(
                f"none of {len(clips)} clips can be decoded; {key}: {reason}. Is this the right --data?"
            )

    def fail(self, key: str, reason: str) -> None:
        """Leave a clip out from now on."""
        self.failures[key] = reason
        self.on_failure(key, reason)

    def _request(self, clip: Tensor, steps: Tensor, mask: Tensor) -> Request:
        return self.paths[clip], tuple(steps[mask].tolist())

    def _to_device(self, batch: Batch) -> Batch:
        return Batch(*(tensor.to(self.device, non_blocking=True) for tensor in batch))


class RawTrainBatches:
    """As `TrainBatches`, from raw frames: what an epoch holds depends on `seed` and `epoch` alone."""

    def __init__(self, footage: Footage, clips: np.ndarray, frames: int, batch_size: int, seed: int) -> None:
        self._footage, self._frames, self._batch_size, self._seed = footage, frames, batch_size, seed
        self._clips = torch.from_numpy(clips)
        self.clock = LoaderStats()
        self.epoch = 0

    def __len__(self) -> int:
        return -(-len(self._clips) // self._batch_size)

    def __iter__(self) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(derive_seed(self._seed, self.epoch))
        n = len(self._clips)
        order = self._clips[torch.randperm(n, generator=generator)]
        jitter = torch.rand(n, self._frames, generator=generator)
        steps, mask = draw_frames(self._footage.lengths[order], self._frames, jitter)
        yield from self._footage.batches(order, steps, mask, self._batch_size, self.clock)


class RawEvalBatches:
    """As `EvalBatches`, from raw frames: clips in their order, the centred frames."""

    def __init__(self, footage: Footage, clips: np.ndarray, frames: int, batch_size: int) -> None:
        self._footage, self._frames, self._batch_size = footage, frames, batch_size
        self._clips = torch.from_numpy(clips)

    def __len__(self) -> int:
        return -(-len(self._clips) // self._batch_size)

    def __iter__(self) -> Iterator[Batch]:
        lengths = self._footage.lengths[self._clips]
        steps, mask = draw_frames(lengths, self._frames, torch.tensor(CENTRED))
        yield from self._footage.batches(self._clips, steps, mask, self._batch_size, LoaderStats())
