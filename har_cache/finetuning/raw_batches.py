"""Raw clips as batches, as `batches` has them of a cache: the same frames of the same clips, decoded when needed."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor

from ..cache.reader import FeatureCache
from ..encoder.transform import DEFAULT, Square, Transform
from ..errors import ClipError, HarCacheError
from ..progress import Progress
from ..settings.training import TuneSettings
from ..training.batches import CENTRED, Batch, derive_seed, draw_frames
from ..workers.pool import WorkerKilledError
from ..workers.prefetch import FramePrefetcher, LoaderStats
from .augment import Augmentation, augmented, centred
from .throughput import Stopwatch


class RawClips:
    """The clips of a cache as files: `keys`, labels and `lengths`, int64 (clips), in the cache's order.

    `transform` is the encoder's. `failures` are the clips that could not be decoded, with the reason: each is said
    once, and left out of all batches from then on.
    """

    def __init__(
        self,
        cache: FeatureCache,
        labels: np.ndarray,
        files: Mapping[str, Path],
        prefetcher: FramePrefetcher,
        device: str | torch.device,
        progress: Progress = Progress(),
        failures: Mapping[str, str] = MappingProxyType({}),
        transform: Transform = DEFAULT,
    ) -> None:
        """`labels`: int64 (clips); `files`: of each clip, by key; one that is not there fails when read; `failures`:
        known before.
        """
        self.keys = cache.clip_keys
        self.labels, self.lengths = torch.from_numpy(labels), torch.from_numpy(cache.frames)
        self.prefetcher, self.device, self.failures = prefetcher, torch.device(device), dict(failures)
        self._paths = [files[key] for key in cache.clip_keys]
        self._progress = progress
        self.transform = transform

    def decode(
        self, clips: np.ndarray, frames: Iterable[Tensor], squares: Sequence[Square], stats: LoaderStats
    ) -> Iterator[Tensor | None]:
        """Of each of the clips with these indices the frames of these numbers, ascending, made such squares: uint8
        (n, side, side, 3) on the device, good until the next are asked for; None where a clip fails, now or before.
        """
        good = [self.keys[i] not in self.failures for i in clips]
        wanted = zip(clips, frames, squares, good, strict=True)
        requests = ((self._paths[i], numbers.tolist(), square) for i, numbers, square, ok in wanted if ok)
        arrays = self.prefetcher.read(requests, stats)
        for i, square, ok in zip(clips, squares, good, strict=True):
            array = next(arrays) if ok else None
            if isinstance(array, WorkerKilledError):
                raise HarCacheError(f"{self.keys[i]}: {array} (a training goes on with --resume)")
            if isinstance(array, ClipError):
                if self.keys[i] not in self.failures:
                    self._progress.say(f"Skipped: {self.keys[i]}: {array}")
                self.failures[self.keys[i]] = str(array)
            yield square.of(self._uploaded(array)) if isinstance(array, np.ndarray) else None

    def _uploaded(self, frames: np.ndarray) -> Tensor:
        """On the device; on the CPU it is the same memory."""
        there = torch.from_numpy(frames)
        if self.device.type == "cuda":
            pinned = torch.empty(frames.shape, dtype=torch.uint8, pin_memory=True)  # torch's until it is uploaded
            np.copyto(pinned.numpy(), frames)
            there = pinned.to(self.device, non_blocking=True)
        return there

    def batches(
        self,
        clips: Tensor,
        frames: int,
        places: Tensor,
        batch_size: int,
        stats: LoaderStats,
        whole: Sequence[bool] | None = None,
    ) -> Iterator[Batch]:
        """The clips with these indices (n) in batches, their frames as `draw_frames` takes them from these `places`;
        `whole`: which clips' frames come whole, else it is their middle.

        Inputs are uint8 (clips, t, side, side, 3) on the device, 256 pixels a side for MNASNet; what stands where the
        mask is false is the clip's first frame again. A clip that fails is missing from its batch, which is shorter
        then, or empty. Raises HarCacheError where all of them fail.
        """
        steps, mask = draw_frames(self.lengths[clips], frames, places)
        side = self.transform.resize
        numbers = (row[here] for row, here in zip(steps, mask, strict=True))
        squares = [Square(side, shown, self.transform) for shown in whole or [False] * len(clips)]
        decoded = self.decode(clips.numpy(), numbers, squares, stats)
        found = 0
        for part in torch.arange(len(clips)).split(batch_size):
            inputs = torch.empty(len(part), frames, side, side, 3, dtype=torch.uint8, device=self.device)
            kept: list[int] = []
            for i, clip in zip(part.tolist(), islice(decoded, len(part)), strict=True):
                if clip is not None:
                    row = inputs[len(kept)]
                    row[: len(clip)] = clip
                    row[len(clip) :] = clip[:1]
                    kept.append(i)
            found += len(kept)
            mask_and_labels = (mask[kept], self.labels[clips[kept]])
            yield Batch(inputs[: len(kept)], *(t.to(self.device, non_blocking=True) for t in mask_and_labels))
        if len(clips) and not found:
            key, reason = next(iter(self.failures.items()))
            raise HarCacheError(
                f"none of {len(clips)} clips can be decoded; {key}: {reason}. Is this the right --data?"
            )


class RawTrainBatches:
    """As `TrainBatches`, from raw frames, as the network takes them: augmented, or as in validation.

    Clips and frames of an epoch depend on the seed and `epoch` alone, the augmentation on torch's random numbers.
    `how` bounds the augmentation; `stopwatch` times each step.
    """

    def __init__(
        self, raw: RawClips, clips: np.ndarray, settings: TuneSettings, how: Augmentation = Augmentation()
    ) -> None:
        self._raw, self._clips, self._settings = raw, torch.from_numpy(clips), settings
        self._transform = partial(augmented, how=how, transform=raw.transform) if settings.augment else _centred(raw)
        self._whole = how.whole if settings.augment else 0.0
        self.stopwatch = Stopwatch(raw.prefetcher.workers, raw.device)
        self.epoch = 0

    def __len__(self) -> int:
        return -(-len(self._clips) // self._settings.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        settings, n = self._settings, len(self._clips)
        generator = torch.Generator().manual_seed(derive_seed(settings.seed, self.epoch))
        order = self._clips[torch.randperm(n, generator=generator)]
        jitter = torch.rand(n, settings.frames, generator=generator)
        whole = (torch.rand(n, generator=generator) < self._whole).tolist()
        batches = self._raw.batches(order, settings.frames, jitter, settings.batch_size, self.stopwatch.loader, whole)
        return (_transformed(batch, self._transform) for batch in self.stopwatch.timed(batches))


class RawEvalBatches:
    """Clips in their order, the centred frames, as `Sequences.eval_batches` has them of a cache, for the network.

    One way, where a test averages over three places in each view, as stage two does to validate: for a seventh of the
    clips in six ways the network would see about as many frames as an epoch trains on. Compare its figures with each
    other, not with those of a test or of stage two. They choose nothing: what is kept is judged as a test judges.
    """

    def __init__(self, raw: RawClips, clips: np.ndarray, settings: TuneSettings) -> None:
        self._raw, self._clips, self._settings = raw, torch.from_numpy(clips), settings

    def __iter__(self) -> Iterator[Batch]:
        frames, size = self._settings.frames, self._settings.batch_size
        batches = self._raw.batches(self._clips, frames, torch.tensor(CENTRED), size, LoaderStats())
        return (_transformed(batch, _centred(self._raw)) for batch in batches)


def _centred(raw: RawClips) -> Callable[[Tensor], Tensor]:
    return centred if raw.transform == DEFAULT else partial(centred, transform=raw.transform)


def _transformed(batch: Batch, transform: Callable[[Tensor], Tensor]) -> Batch:
    return batch._replace(inputs=transform(batch.inputs)) if len(batch.labels) else batch
