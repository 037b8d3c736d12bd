"""Class probabilities of clips, from raw frames."""

from collections.abc import Sequence

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
    found = probabilities_of_all([(network, frames)], raw, clips, views, progress)
    return {clip: of_networks[0] for clip, of_networks in found.items()}


def probabilities_of_all(
    networks: Sequence[tuple[CNNBidirectionalRNN, int]],
    raw: RawClips,
    clips: np.ndarray,
    views: int,
    progress: Progress = Progress(),
) -> dict[int, np.ndarray]:
    """As `raw_probabilities`, float32 (networks, classes), of several networks, each with its number of frames a clip:
    a clip is decoded once for all of them.
    """
    ready = [network.to(raw.device).eval() for network, _ in networks]
    lengths = raw.lengths[torch.from_numpy(clips)]
    ways = [[draw_frames(lengths, frames, torch.tensor(place)) for place in PLACES] for _, frames in networks]
    every = [way for of_network in ways for way in of_network]
    chosen = [torch.cat([steps[i][mask[i]] for steps, mask in every]).unique() for i in range(len(clips))]
    found = {}
    with torch.inference_mode(), true_fp32(raw.device):
        for i, array in enumerate(raw.decode(clips, chosen, LoaderStats())):
            progress.advance()
            if array is None:
                continue
            images, rows = centred(raw.resized(array)[None])[0], []
            for network, of_network in zip(ready, ways, strict=True):
                steps = torch.stack([torch.searchsorted(chosen[i], steps[i]) for steps, _ in of_network])
                mask = torch.stack([mask[i] for _, mask in of_network])
                rows.append(_of_clip(network, images, steps.to(raw.device), mask.to(raw.device), views))
            found[int(clips[i])] = torch.stack(rows).cpu().numpy()
    return found


def _of_clip(network: CNNBidirectionalRNN, images: Tensor, steps: Tensor, mask: Tensor, views: int) -> Tensor:
    """Normalised (n, 3, 224, 224), and which of them are taken, int64 and bool (ways, t) -> probabilities (classes)."""
    total = torch.zeros((), device=images.device)
    for view in range(views):
        embeddings = network.encoder(images.flip(-1) if view else images)
        total = total + network.head(embeddings[steps], mask).float().softmax(1).mean(0)
    return total / views
