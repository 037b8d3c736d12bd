"""What a whole network makes of raw clips: `sequences.predict`, without a cache of its embeddings."""

import numpy as np
import torch
from torch import Tensor

from ..encoder.encoder import true_fp32
from ..errors import ClipError
from ..model.network import CNNBidirectionalRNN
from ..progress import Progress
from ..training.augment import centred
from ..training.batches import draw_frames
from ..training.raw_batches import Footage
from ..workers.prefetch import LoaderStats as Clock

OFFSETS = 3


@torch.inference_mode()
def predict_raw(
    network: CNNBidirectionalRNN,
    footage: Footage,
    clips: np.ndarray,
    frames: int,
    views: int,
    progress: Progress = Progress(),
) -> dict[int, np.ndarray]:
    """Class probabilities, float32 (classes), by the index of the clip; those of clips that fail are not there.

    Averaged as `sequences.predict` does: over 3 ways to take one frame from each of `frames` segments, and over
    mirrored frames too where `views` is 2. A frame is decoded and embedded once for all of them.
    """
    network = network.to(footage.device).eval()
    lengths = footage.lengths[torch.from_numpy(clips)]
    places = [torch.tensor((k + 0.5) / OFFSETS) for k in range(OFFSETS)]
    ways = [draw_frames(lengths, frames, place) for place in places]
    chosen = [torch.cat([steps[i][mask[i]] for steps, mask in ways]).unique() for i in range(len(clips))]
    requests = ((footage.paths[clip], tuple(numbers.tolist())) for clip, numbers in zip(clips, chosen, strict=True))
    found = {}
    with true_fp32(footage.device):
        for i, array in enumerate(footage.picker.read(requests, Clock())):
            progress.advance()
            if isinstance(array, ClipError):
                footage.fail(footage.keys[clips[i]], str(array))
                continue
            steps = torch.stack([torch.searchsorted(chosen[i], steps[i]) for steps, _ in ways])
            mask = torch.stack([mask[i] for _, mask in ways])
            pixels = torch.from_numpy(array).to(footage.device)
            found[int(clips[i])] = _one(network, pixels, steps.to(footage.device), mask.to(footage.device), views)
    return found


def _one(network: CNNBidirectionalRNN, pixels: Tensor, steps: Tensor, mask: Tensor, views: int) -> np.ndarray:
    """uint8 (n, 256, 256, 3), and which of them are taken, int64 and bool (ways, t) -> probabilities (classes)."""
    images = centred(pixels[None])[0]
    total = torch.zeros((), device=pixels.device)
    for view in range(views):
        embeddings = network.encoder(images.flip(-1) if view else images)
        total = total + network.head(embeddings[steps], mask).float().softmax(1).mean(0)
    return (total / views).cpu().numpy()
