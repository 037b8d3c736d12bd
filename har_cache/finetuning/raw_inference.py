"""Class probabilities of clips, from raw frames."""

import numpy as np
import torch
from torch import Tensor

from ..encoder.fp32 import true_fp32
from ..model.network import CNNBidirectionalRNN
from ..progress import Progress
from ..training.batches import PLACES, draw_frames
from ..workers.prefetch import LoaderStats
from .augment import centred
from .raw_batches import RawClips


def raw_probabilities(
    network: CNNBidirectionalRNN,
    raw: RawClips,
    clips: np.ndarray,
    frames: int,
    views: int,
    progress: Progress = Progress(),
) -> dict[int, np.ndarray]:
    """Class probabilities, float32 (classes), by the index of the clip; those of clips that fail are not there.

    Averaged as `probabilities` does, over mirrored frames too where `views` is 2. A frame is decoded and embedded once
    for all ways to take it.
    """
    network = network.to(raw.device).eval()
    lengths = raw.lengths[torch.from_numpy(clips)]
    ways = [draw_frames(lengths, frames, torch.tensor(place)) for place in PLACES]
    chosen = [torch.cat([steps[i][mask[i]] for steps, mask in ways]).unique() for i in range(len(clips))]
    found = {}
    with torch.inference_mode(), true_fp32(raw.device):
        for i, array in enumerate(raw.decode(clips, chosen, LoaderStats())):
            progress.advance()
            if array is not None:
                steps = torch.stack([torch.searchsorted(chosen[i], steps[i]) for steps, _ in ways])
                mask = torch.stack([mask[i] for _, mask in ways])
                steps, mask = steps.to(raw.device), mask.to(raw.device)
                found[int(clips[i])] = _of_clip(network, raw.resized(array), steps, mask, views)
    return found


def _of_clip(network: CNNBidirectionalRNN, pixels: Tensor, steps: Tensor, mask: Tensor, views: int) -> np.ndarray:
    """uint8 (n, 256, 256, 3), and which of them are taken, int64 and bool (ways, t) -> probabilities (classes)."""
    images = centred(pixels[None])[0]
    total = torch.zeros((), device=pixels.device)
    for view in range(views):
        embeddings = network.encoder(images.flip(-1) if view else images)
        total = total + network.head(embeddings[steps], mask).float().softmax(1).mean(0)
    return (total / views).cpu().numpy()
