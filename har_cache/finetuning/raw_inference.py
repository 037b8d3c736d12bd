"""Class probabilities of clips, from raw frames."""

from collections.abc import Sequence
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from ..encoder.encoder import view
from ..encoder.fp32 import true_fp32
from ..encoder.transform import Square, Transform
from ..model.network import CNNBidirectionalRNN
from ..progress import Progress
from ..settings.names import CENTER, FLIP, FULL
from ..training.batches import PLACES, draw_frames
from ..workers.prefetch import LoaderStats
from .augment import centred
from .raw_batches import RawClips


def raw_probabilities(
    network: CNNBidirectionalRNN,
    raw: RawClips,
    clips: np.ndarray,
    frames: int,
    views: Sequence[str],
    progress: Progress = Progress(),
) -> dict[int, np.ndarray]:
    """Class probabilities, float32 (classes), by the index of the clip; those of clips that fail are not there.

    Averaged as `probabilities` does, over the `views`. A frame is embedded once for all ways to take it, and decoded
    once too, or twice where `full` is a view: what workers hand over is either the middle of a frame or all of it.
    """
    found = probabilities_of_all([(network, frames)], raw, clips, views, progress)
    return {clip: of_networks[0] for clip, of_networks in found.items()}


def probabilities_of_all(
    networks: Sequence[tuple[CNNBidirectionalRNN, int]],
    raw: RawClips,
    clips: np.ndarray,
    views: Sequence[str],
    progress: Progress = Progress(),
) -> dict[int, np.ndarray]:
    """As `raw_probabilities`, float32 (networks, classes), of several networks, each with its number of frames a clip:
    a clip is decoded no more often for all of them.
    """
    ready = [network.to(raw.device).eval() for network, _ in networks]
    lengths = raw.lengths[torch.from_numpy(clips)]
    ways = [[draw_frames(lengths, frames, torch.tensor(place)) for place in PLACES] for _, frames in networks]
    every = [way for of_network in ways for way in of_network]
    chosen = [torch.cat([steps[i][mask[i]] for steps, mask in every]).unique() for i in range(len(clips))]
    made_from = _squares(raw.transform).items()
    seen = [(square, shown) for square, known in made_from if (shown := [v for v in views if v in known])]
    squares = [square for square, _ in seen] * len(clips)
    found: dict[int, np.ndarray] = {}
    with torch.inference_mode(), true_fp32(raw.device):
        again = np.repeat(clips, len(seen))
        decoded = raw.decode(again, (numbers for numbers in chosen for _ in seen), squares, LoaderStats())
        for i in range(len(clips)):
            taken = [_taken(of_network, chosen[i], i, raw.device) for of_network in ways]
            sums = [
                torch.stack(
                    [
                        _summed(*of_network, pixels, shown, raw.transform)
                        for of_network in zip(ready, taken, strict=True)
                    ]
                )
                for pixels, (_, shown) in zip(islice(decoded, len(seen)), seen, strict=True)
                if pixels is not None
            ]
            progress.advance()
            if len(sums) == len(seen):
                found[int(clips[i])] = (torch.stack(sums).sum(0) / len(views)).cpu().numpy()
    return found


def _squares(transform: Transform) -> dict[Square, tuple[str, ...]]:
    """What views are made from."""
    middle, whole = Square(transform.resize, False, transform), Square(transform.crop, True, transform)
    return {middle: (CENTER, FLIP), whole: (FULL,)}


_Taken = tuple[Tensor, Tensor]  # which frames are, int64 and bool (ways, t)


def _taken(ways: Sequence[_Taken], chosen: Tensor, clip: int, device: torch.device) -> _Taken:
    """The ways to take frames of one clip, of those that were chosen of it, from the ways for all clips."""
    steps = torch.stack([torch.searchsorted(chosen, steps[clip]) for steps, _ in ways])
    return steps.to(device), torch.stack([mask[clip] for _, mask in ways]).to(device)


def _summed(
    network: CNNBidirectionalRNN, taken: _Taken, pixels: Tensor, views: Sequence[str], transform: Transform
) -> Tensor:
    """uint8 (n, side, side, 3) -> probabilities (classes), the sum of those in each of these views."""
    images, (steps, mask) = centred(pixels[None], transform)[0], taken
    total = torch.zeros((), device=pixels.device)
    for name in views:
        embeddings = network.encoder(view(name, images, images))
        total = total + network.head(embeddings[steps], mask).float().softmax(1).mean(0)
    return total
