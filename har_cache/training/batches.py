"""A cache as training batches: everything in memory, on one device, gathered without a loop over clips."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ..cache.reader import FeatureCache
from ..errors import CacheError

_BLOCK_ROWS = 1 << 16  # rows handled at a time where a wider copy is needed: 128 MiB
_EVAL_BATCH = 256
_TRIM = 0.3  # of a clip that training may leave out
CENTRED = 0.5
# Where in its segment a test takes a frame from: the middles of the thirds. Probabilities are averaged over them.
PLACES = tuple((k + 0.5) / 3 for k in range(3))
_TEST_BATCH = 32  # measured on a CPU: 64 take a tenth longer


class Batch(NamedTuple):
    """Clips as a model takes them: `mask` is true for steps that are frames, which come first in each row.

    To be judged by, it may hold its clips in several ways, all clips in one after all in another; `labels`: once.
    """

    inputs: Tensor  # here float16 (ways * clips, steps, 256); arbitrary where the mask is false
    mask: Tensor  # bool (ways * clips, steps)
    labels: Tensor  # int64 (clips)


@dataclass(frozen=True)
class Sequences:
    """The whole cache as tensors on one device; clip i has rows offsets[i] to offsets[i + 1] of each view."""

    embeddings: Tensor  # float16 (views, rows, 256)
    offsets: Tensor  # int64 (clips + 1)
    labels: Tensor  # int64 (clips)

    @classmethod
    def from_cache(cls, cache: FeatureCache, device: str | torch.device = "cpu") -> "Sequences":
        """All of `cache` on `device`. Raises CacheError where a value is not finite, or a clip has no frame."""
        empty = np.flatnonzero(cache.frames < 1)
        if len(empty):
            raise CacheError(
                f"{cache.path}: clip {cache.clip_keys[empty[0]]} has no frame; extract into a new directory"
            )
        arrays, offsets = cache.arrays()
        embeddings = torch.from_numpy(arrays)
        if (row := _first_bad_row(embeddings)) is not None:
            key = cache.clip_keys[int(np.searchsorted(offsets, row, side="right")) - 1]
            raise CacheError(f"{cache.path}: NaN or infinity in the embeddings of {key}; extract into a new directory")
        labels = torch.from_numpy(cache.labels)
        return cls(embeddings.to(device), torch.from_numpy(offsets).to(device), labels.to(device))

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.embeddings.device

    @property
    def views(self) -> int:
        """Number of views of each frame."""
        return len(self.embeddings)

    @property
    def ways(self) -> int:
        """How many ways a test averages over."""
        return len(PLACES) * self.views

    def train_batch(self, clips: Tensor, frames: int, jitter: Tensor, views: Tensor, trim: Tensor) -> Batch:
        """One frame drawn from each of `frames` equal segments of a stretch of a clip, as in TSN of the whole.

        `clips` (n) and `views` (n) are indices, `jitter` (n, frames) in [0, 1) is the place within each segment,
        `trim` (n, 2) in [0, 1) how much of the clip is left out, and which part of that before the stretch; all on the
        device. Clips of fewer frames have all of them, in order, and a mask.
        """
        lengths = self.offsets[clips + 1] - self.offsets[clips]
        most = (lengths * _TRIM).long().minimum((lengths - frames).clamp(min=0))
        left_out = (trim[:, 0] * (most + 1)).long().minimum(most)
        before = (trim[:, 1] * (left_out + 1)).long().minimum(left_out)
        return self._gather(clips, lengths - left_out, frames, jitter, views, before)

    def eval_batch(self, clips: Tensor, frames: int, place: float = CENTRED, view: int = 0) -> Batch:
        """The frame at `place`, in [0, 1), of each of `frames` equal segments; `clips` (n) are indices."""
        lengths = self.offsets[clips + 1] - self.offsets[clips]
        places = torch.tensor(place, device=self.device)
        return self._gather(clips, lengths, frames, places, torch.full_like(clips, view), torch.zeros_like(clips))

    def eval_batches(self, clips: np.ndarray, frames: int, batch_size: int = _EVAL_BATCH) -> list[Batch]:
        """Clips in their order, the centred frames of the first view."""
        parts = torch.from_numpy(clips).to(self.device).split(batch_size)
        return [self.eval_batch(part, frames) for part in parts]

    def test_batches(self, clips: np.ndarray, frames: int) -> Iterator[Batch]:
        """Clips in their order, each in all the ways that a test averages over: the three places, in each view."""
        for part in torch.from_numpy(clips).to(self.device).split(_TEST_BATCH):
            ways = [self.eval_batch(part, frames, place, view) for place in PLACES for view in range(self.views)]
            inputs, masks, labels = zip(*ways, strict=True)
            yield Batch(torch.cat(inputs), torch.cat(masks), labels[0])

    def moments(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each dimension over all frames and views of `clips`: float32 (256) each. Clips
        weigh alike whatever their lengths, as they do in training.
        """
        lengths = self.offsets.diff()
        share = torch.zeros(len(lengths), dtype=torch.float64, device=self.device)  # of each frame of a clip
        share[clips] = 1 / (lengths[clips].double() * len(clips) * self.views)
        shares = share.repeat_interleave(lengths)
        rows = shares.nonzero()[:, 0]
        mean, square = torch.zeros(2, self.embeddings.shape[2], dtype=torch.float64, device=self.device)
        for view in self.embeddings:
            for part in rows.split(_BLOCK_ROWS):
                block = view[part].double()
                weighted = block * shares[part, None]
                mean += weighted.sum(0)
                square += weighted.mul_(block).sum(0)
        return mean.float(), (square - mean.square()).clamp(min=0).sqrt().float()

    def _gather(
        self, clips: Tensor, lengths: Tensor, frames: int, places: Tensor, views: Tensor, before: Tensor
    ) -> Batch:
        """Of the `lengths` frames after the first `before` of each clip; all of these int64 (n), but `places`."""
        frame, mask = draw_frames(lengths, frames, places)
        first = views * self.embeddings.shape[1] + self.offsets[clips] + before
        rows = first[:, None] + frame
        embeddings = self.embeddings.flatten(0, 1).index_select(0, rows.flatten())
        return Batch(embeddings.unflatten(0, rows.shape), mask, self.labels[clips])


def mean_probabilities(model: nn.Module, batch: Batch) -> Tensor:
    """Class probabilities, float32 (clips, classes), averaged over the ways in which the batch holds its clips."""
    ways = model(batch.inputs, batch.mask).float().softmax(1)
    return ways.unflatten(0, (-1, len(batch.labels))).mean(0)


def draw_frames(lengths: Tensor, frames: int, places: Tensor) -> tuple[Tensor, Tensor]:
    """One frame from each of `frames` equal segments of clips of these lengths, int64 (n), as in TSN.

    `places`, in [0, 1), one number or (n, frames), says where in its segment. Gives the frames' numbers, ascending,
    int64 (n, frames), and which of them are frames, bool (n, frames): shorter clips have all of theirs, then zeros.
    """
    count = lengths[:, None]
    segments = count.clamp(max=frames)
    step = torch.arange(frames, device=lengths.device)
    mask = step < segments
    start = step * count // segments
    width = (step + 1) * count // segments - start
    frame = start + (places * width).long().minimum(width - 1)  # rounding may make it the whole width
    return frame * mask, mask


class TrainBatches:
    """The training clips in random order, with random frames and views: new ones in every epoch.

    What an epoch holds depends on `seed` and `epoch` alone, so that a resumed run sees what it would have seen. Set
    `epoch` before iterating. All random numbers of an epoch are drawn at once.
    """

    def __init__(self, sequences: Sequences, clips: np.ndarray, frames: int, batch_size: int, seed: int) -> None:
        self._sequences, self._frames, self._batch_size, self._seed = sequences, frames, batch_size, seed
        self._clips = torch.from_numpy(clips)
        self.epoch = 0

    def __len__(self) -> int:
        return -(-len(self._clips) // self._batch_size)

    def __iter__(self) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(derive_seed(self._seed, self.epoch))
        n, device = len(self._clips), self._sequences.device
        order = self._clips[torch.randperm(n, generator=generator)].to(device)
        jitter = torch.rand(n, self._frames, generator=generator).to(device)
        views = torch.randint(self._sequences.views, (n,), generator=generator).to(device)
        trim = torch.rand(n, 2, generator=generator).to(device)
        for part in zip(*(drawn.split(self._batch_size) for drawn in (order, jitter, views, trim)), strict=True):
            yield self._sequences.train_batch(part[0], self._frames, *part[1:])


def derive_seed(*numbers: int) -> int:
    """A seed that these numbers decide: a seed and an epoch, say. Neighbours have nothing in common."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


def _first_bad_row(embeddings: Tensor) -> int | None:
    """The first row with a NaN or an infinity in any view, in blocks, so that no copy of everything is made."""
    for start in range(0, embeddings.shape[1], _BLOCK_ROWS):
        block = embeddings[:, start : start + _BLOCK_ROWS]
        # Extremes carry a NaN along; a mask of what is finite costs ninety times as much in float16.
        if not all(extreme.isfinite() for extreme in block.aminmax()):
            return start + int((~block.isfinite()).any(2).any(0).nonzero()[0])
    return None
