"""The network on raw frames beside its head on the cache, before the first step: they have to agree."""

from dataclasses import dataclass

import numpy as np
import torch

from ..encoder.fp32 import true_fp32
from ..model.network import CNNBidirectionalRNN
from ..settings.training import TuneSettings
from ..training.batches import Sequences
from .raw_batches import RawClips, RawEvalBatches


@dataclass(frozen=True)
class ParityCheck:
    """The validation clips before the first step: how many are right by the network from raw frames, and by the head on
    the cache; `difference`: between their logits, at most; `agree`: how many predictions are the same.
    """

    clips: int
    raw: int
    cached: int
    agree: int
    difference: float

    def __str__(self) -> str:
        return (
            f"{self.raw} of {self.clips} validation clips right from raw frames, {self.cached} by the head on the "
            f"cache; {self.agree} predicted alike, logits at most {self.difference:.1e} apart"
        )


@torch.no_grad()
def check_parity(
    network: CNNBidirectionalRNN, raw: RawClips, sequences: Sequences, clips: np.ndarray, training: TuneSettings
) -> ParityCheck:
    """Compare the network, on its device, on raw frames with its head on the cache: both see the centred frames of the
    same clips, as many as `training` says: those that the head learnt with.
    """
    network.eval()
    with true_fp32(raw.device):
        batches = RawEvalBatches(raw, clips, training)
        found = [(network(inputs, mask), labels) for inputs, mask, labels in batches if len(labels)]
        decoded = clips[[raw.keys[i] not in raw.failures for i in clips]]
        ready = sequences.eval_batches(decoded, training.frames, training.batch_size)
        by_head = [network.head(inputs, mask) for inputs, mask, _ in ready]
    logits, truth = (torch.cat(parts).cpu() for parts in zip(*found, strict=True))
    cached = torch.cat(by_head).cpu()
    predicted, expected = logits.argmax(1), cached.argmax(1)
    return ParityCheck(
        clips=len(truth),
        raw=int((predicted == truth).sum()),
        cached=int((expected == truth).sum()),
        agree=int((predicted == expected).sum()),
        difference=float((logits - cached).abs().max()),
    )
