"""Class probabilities of clips, from a cache's embeddings."""

import numpy as np
import torch
from torch import nn

from ..encoder.fp32 import true_fp32
from .batches import Sequences, mean_probabilities


def probabilities(head: nn.Module, sequences: Sequences, clips: np.ndarray, frames: int) -> np.ndarray:
    """Class probabilities, float32 (n, classes), of the clips with these indices.

    Averaged over the views, and over three ways to take one frame from each of `frames` segments. `head` is moved to
    the device of `sequences`, and left in eval mode.
    """
    head = head.to(sequences.device).eval()  # not in inference mode: parameters that move there can never learn again
    with torch.inference_mode(), true_fp32(sequences.device):
        found = [mean_probabilities(head, batch) for batch in sequences.test_batches(clips, frames)]
        return torch.cat(found).cpu().numpy()
