"""Frames -> what the network sees: the transform of `MNASNet0_5_Weights.IMAGENET1K_V1`, on batches, fast and exact."""

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

RESIZE, CROP = 256, 224
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TRANSFORM = f"resize {RESIZE} bilinear antialias, center crop {CROP}, ImageNet mean and std"
_BAND = 16  # results computed by one matrix product


def crop(frames: Tensor, side: int = CROP) -> Tensor:
    """The 224x224 pixels of each frame that the network sees; with a `side` of up to 256, more of what is around them.

    frames: uint8 (n, height, width, 3). Gives float32 (n, 3, side, side), channels_last, whole numbers 0 to 255:
    `Resize(256, antialias)` and `CenterCrop(side)` of `MNASNet0_5_Weights.IMAGENET1K_V1.transforms()`, which
    resizes in float32 and rounds. Bit for bit, since embeddings show every pixel: torch's faster uint8 kernel is off
    by one in 15% of them, and that brought the centred cosine of the worst frame down to 0.54.
    """
    height, width = frames.shape[1:3]
    short, long = min(height, width), max(height, width)
    resized = (RESIZE, int(RESIZE * long / short)) if height <= width else (int(RESIZE * long / short), RESIZE)
    top, left = (round((length - side) / 2.0) for length in resized)
    if short == RESIZE:
        window = frames[:, top : top + side, left : left + side].float()
        return window.contiguous().permute(0, 3, 1, 2)
    if frames.is_cuda or short > RESIZE:
        whole = F.interpolate(frames.permute(0, 3, 1, 2).float(), resized, mode="bilinear", antialias=True)
        window = whole[..., top : top + side, left : left + side]
        return window.contiguous(memory_format=torch.channels_last).round_()
    return _resize(frames, _bands(height, resized[0], top, side), _bands(width, resized[1], left, side, 3))


Band = tuple[int, int, int, Tensor]  # inputs from, to; first result; weights (results, inputs)


def _resize(frames: Tensor, rows: tuple[Band, ...], columns: tuple[Band, ...]) -> Tensor:
    """The window that the bands make: along rows of pixels first, as torch does.

    Products of small dense matrices: a result needs two neighbours only, but sixteen results at a time keep the CPU's
    vector units busy (measured: a third of the time of torch's kernel, with the same bits). Where pictures shrink, sums
    are longer, and their last bits depend on the order.
    """
    n, _, width, channels = frames.shape
    side = rows[-1][2] + len(rows[-1][3])
    (top, bottom), (left, right) = ((bands[0][0], bands[-1][1]) for bands in (rows, columns))
    out = torch.empty(n, side, side * channels)
    wide = torch.empty(bottom - top, side * channels)
    for frame, target in zip(frames, out, strict=True):
        lines = frame[top:bottom].reshape(bottom - top, width * channels)[:, left:right].float()
        for start, end, first, weights in columns:
            torch.mm(lines[:, start - left : end - left], weights.t(), out=wide[:, first : first + len(weights)])
        for start, end, first, weights in rows:
            torch.mm(weights, wide[start - top : end - top], out=target[first : first + len(weights)])
    return out.round_().view(n, side, side, channels).permute(0, 3, 1, 2)


@lru_cache(64)
def _bands(length: int, resized: int, first: int, count: int, channels: int = 1) -> tuple[Band, ...]:
    """Weights that make `count` results of `resized`, from `first` on, of `length` pixels of interleaved channels.

    The weights are torch's own: those that it resizes the unit matrix with.
    """
    unit = torch.eye(length)[None, None]
    weights = F.interpolate(unit, (resized, length), mode="bilinear", antialias=True)[0, 0, first : first + count]
    bands = []
    for i in range(0, count, _BAND):
        band = weights[i : i + _BAND]
        used = band.any(0).nonzero()[:, 0]
        start, end = int(used[0]), int(used[-1]) + 1
        mixed = torch.kron(band[:, start:end].contiguous(), torch.eye(channels))
        bands.append((start * channels, end * channels, i * channels, mixed))
    return tuple(bands)


def normalise(crops: Tensor) -> Tensor:
    """(n, 3, 224, 224) of 0 to 255, channels_last -> float32, channels_last, with ImageNet's mean and deviation."""
    shift, scale = _constants(crops.device)
    lines = crops.permute(0, 2, 3, 1).flatten(2)
    return torch.addcmul(shift, lines, scale).unflatten(2, (CROP, 3)).permute(0, 3, 1, 2)


def scale_and_shift() -> tuple[np.ndarray, np.ndarray]:
    """The normalisation as x * scale + shift of pixels of 0 to 255: float32 (3) each, by colour."""
    mean, std = (np.array(values, np.float32) for values in (MEAN, STD))
    return 1 / (255 * std), -mean / std


@lru_cache(8)
def _constants(device: torch.device) -> tuple[Tensor, Tensor]:
    """For a line of pixels: broadcasting over the innermost 3 channels is ten times slower."""
    scale, shift = (torch.from_numpy(values).to(device).repeat(CROP) for values in scale_and_shift())
    return shift, scale
