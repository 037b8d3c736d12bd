"""An encoder with random but working weights, and pictures that it tells apart."""

import copy
from collections.abc import Iterator
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import MNASNet

from har_cache.encoder.encoder import Encoder
from har_cache.encoder.folded import fold
from har_cache.encoder.projection import fit_pca
from har_cache.encoder.transform import crop, normalise
from har_cache.encoder.weights import build_encoder, calibrate, random_model


def pictures(count: int, height: int = 240, width: int = 320, seed: int = 0) -> Tensor:
    """Frames with large shapes and some texture: uint8 (count, height, width, 3)."""
    generator = torch.Generator().manual_seed(seed)
    layers = [
        strength * F.interpolate(torch.rand(count, 3, cells, cells, generator=generator), (height, width))
        for cells, strength in ((2, 0.5), (5, 0.35), (23, 0.15))
    ]
    return (255 * sum(layers)).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()  # type: ignore[union-attr]


@cache
def picture_crops() -> Tensor:
    """What the network sees of 48 pictures. Do not write into it."""
    return crop(pictures(48))


@cache
def _calibrated() -> MNASNet:
    model = random_model(seed=1)
    calibrate(model, [normalise(picture_crops())])
    features = Encoder(fold(model)).features(picture_crops())
    weight, bias = fit_pca(features.numpy())
    return build_encoder({**model.state_dict(), "classifier.weight": weight, "classifier.bias": bias})


def calibrated_model() -> MNASNet:
    """torchvision's own network: random weights, BatchNorm calibrated and projection fitted on the pictures."""
    return copy.deepcopy(_calibrated())


@cache
def plain_embeddings() -> Tensor:
    """What torchvision's own network makes of the picture crops, in fp32: (48, 256)."""
    with torch.inference_mode():
        return _calibrated()(normalise(picture_crops()))


def activations(model: MNASNet) -> Iterator[tuple[Tensor, Tensor]]:
    """What each block of a network, cut as `fold` cuts it, is given for a few frames, and what it gives."""
    layers = list(model.layers)
    residuals = [block for stack in layers[8:14] for block in stack]
    x = normalise(picture_crops()[:4])
    for block in (nn.Sequential(*layers[:8]), *residuals, nn.Sequential(*layers[14:])):
        y = block(x)
        yield x, y
        x = y
