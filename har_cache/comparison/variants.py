"""Ways to take something from a trained head, without training it again: order, a branch, frames, ways to look."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ..encoder.fp32 import true_fp32
from ..training.batches import CENTRED, Batch, Sequences, mean_probabilities

FRAMES = (1, 2, 4, 8, 16, 32)
_BATCH = 64  # clips

# Mask (b, t) and a random number for each step (b, t) -> which step stands where, int64 (b, t).
Order = Callable[[Tensor, Tensor], Tensor]


def backwards(mask: Tensor, noise: Tensor) -> Tensor:
    """The last frame first."""
    steps = torch.arange(mask.shape[1], device=mask.device)
    return torch.where(mask, mask.sum(1, keepdim=True) - 1 - steps, steps)


def shuffled(mask: Tensor, noise: Tensor) -> Tensor:
    """The same frames in another order."""
    return noise.masked_fill(~mask, 2).argsort(1)


# The clips with these indices in their order, so many frames of each.
Take = Callable[[Sequences, np.ndarray, int], Iterable[Batch]]


def all_ways(sequences: Sequences, clips: np.ndarray, frames: int) -> Iterable[Batch]:
    """As a test takes them."""
    return sequences.test_batches(clips, frames)


def one_way(sequences: Sequences, clips: np.ndarray, frames: int) -> Iterable[Batch]:
    """The centred frames of the first view."""
    return sequences.eval_batches(clips, frames)


def middle_frame(sequences: Sequences, clips: np.ndarray, frames: int) -> Iterable[Batch]:
    """The frame in the middle of the clip, in each view, so many times."""
    for part in torch.from_numpy(clips).to(sequences.device).split(_BATCH):
        views = [sequences.eval_batch(part, 1, CENTRED, view) for view in range(sequences.views)]
        inputs, masks, labels = zip(*views, strict=True)
        yield Batch(torch.cat(inputs).expand(-1, frames, -1), torch.cat(masks).expand(-1, frames), labels[0])


@dataclass(frozen=True)
class Variant:
    """What is left of the model, and what it is given of each clip: so many frames, in an order of its own or not."""

    name: str
    model: nn.Module
    frames: int
    order: Order | None = None
    take: Take = all_ways

    def probabilities(self, sequences: Sequences, clips: np.ndarray, keys: Sequence[str]) -> np.ndarray:
        """Class probabilities, float32 (n, classes), of the clips with these indices; keys: of those clips."""
        model = self.model.to(sequences.device).eval()
        found, done = [], 0
        with torch.inference_mode(), true_fp32(sequences.device):
            for batch in self.take(sequences, clips, self.frames):
                count = len(batch.labels)
                if self.order:
                    batch = _in_order(batch, self.order, keys[done : done + count])
                found.append(mean_probabilities(model, batch))
                done += count
        return torch.cat(found).cpu().numpy()


def variants(model: nn.Module, frames: int) -> list[Variant]:
    """All of them, of a model that takes so many frames of a clip; the model as it is comes first."""
    return [
        Variant("as it is", model, frames),
        Variant("order reversed", model, frames, backwards),
        Variant("order shuffled", model, frames, shuffled),
        Variant("one frame, repeated", model, frames, take=middle_frame),
        *(Variant(f"{name} alone", OneBranch(model, name), frames) for name in branch_names(model)),
        *(Variant(f"{count} frame{'s' if count > 1 else ''}", model, count) for count in FRAMES if count != frames),
        Variant("one way", model, frames, take=one_way),
    ]


class OneBranch(nn.Module):
    """One classifier of a head, or of each of several heads, whose probabilities are averaged."""

    def __init__(self, model: nn.Module, name: str) -> None:
        super().__init__()
        self.heads = nn.ModuleList(_heads(model))
        self.name = name
        self.temperature = float(getattr(model, "temperature", 1.0))

    def forward(self, embeddings: Tensor, mask: Tensor) -> Tensor:
        """Embeddings (b, t, dim), mask (b, t) -> log-probabilities (b, classes)."""
        each = [head.branches(embeddings, mask)[self.name].float() for head in self.heads]  # type: ignore[operator]
        return torch.stack([(logits / self.temperature).log_softmax(1) for logits in each]).logsumexp(0)


def branch_names(model: nn.Module) -> list[str]:
    """Of the classifiers whose logits the head adds up."""
    head = _heads(model)[0]
    mean: Tensor = head.mean  # type: ignore[assignment]
    with torch.inference_mode():
        nothing = torch.zeros_like(mean)[None, None], torch.ones(1, 1, dtype=torch.bool, device=mean.device)
        return [*head.branches(*nothing)]  # type: ignore[operator]


def _heads(model: nn.Module) -> list[nn.Module]:
    """Those of an ensemble, or the one that the model is."""
    return [*getattr(model, "heads", [model])]


def _in_order(batch: Batch, order: Order, keys: Sequence[str]) -> Batch:
    """The clips with these keys in another order of their steps, the same in all ways to take them."""
    steps = batch.mask.shape[1]
    drawn = np.stack([_noise(key, steps) for key in keys])
    noise = torch.from_numpy(drawn).to(batch.mask.device).repeat(len(batch.mask) // len(keys), 1)
    chosen = order(batch.mask, noise)
    return batch._replace(inputs=batch.inputs.gather(1, chosen.unsqueeze(2).expand(batch.inputs.shape)))


def _noise(key: str, steps: int) -> np.ndarray:
    """Numbers in [0, 1) that the key alone decides, whatever other clips there are: float64 (steps)."""
    seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big")
    return np.random.default_rng(seed).random(steps)
