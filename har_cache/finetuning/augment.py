"""Frames on the device -> what the network takes: the exact transform to evaluate, a random one to train.

Whatever is drawn is drawn once a clip: between the frames of a clip nothing may move that did not.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from ..cache.recipe import Recipe
from ..encoder.transform import DEFAULT, Transform, edge, normalise
from ..settings.names import FLIP, FULL

_GREY = (0.299, 0.587, 0.114)
_WHITE = 255.0


@dataclass(frozen=True)
class Augmentation:
    """Bounds of the changes of training clips. `least_area`: of the 256x256 pixels, in a random crop; `aspect`: of its
    sides, at most; `colour`: by how much brightness, contrast and saturation are scaled up or down at most; `flip`:
    how often left and right change places; `whole`: how often the 256x256 pixels are the whole frame, not its middle.
    """

    least_area: float = 0.6
    aspect: float = 4 / 3
    colour: float = 0.2
    flip: float = 0.0
    whole: float = 0.0


def augmentation_for(recipe: Recipe) -> Augmentation:
    """The changes that keep to what stage two learnt from: half of the clips are mirrored where its embeddings were of
    both views, and none elsewhere, since left may not mean right there. As many are shown whole as it took in that
    view.
    """
    views = recipe.views
    return Augmentation(flip=0.5 if FLIP in views else 0.0, whole=1 / len(views) if FULL in views else 0.0)


def centred(frames: Tensor, transform: Transform = DEFAULT) -> Tensor:
    """uint8 (b, t, 256, 256, 3) -> normalised (b, t, 3, 224, 224): the network's own transform, to the last bit. Of
    (b, t, 224, 224, 3) all is taken. Those are the numbers of MNASNet; another `transform` has its own.
    """
    side = transform.crop
    start = edge(frames.shape[2], transform)
    inner = frames[:, :, start : start + side, start : start + side].flatten(0, 1).permute(0, 3, 1, 2)
    pixels = inner.to(torch.float32, memory_format=torch.channels_last)
    with _exact(frames):
        return normalise(pixels, transform).unflatten(0, frames.shape[:2])


def augmented(frames: Tensor, how: Augmentation = Augmentation(), transform: Transform = DEFAULT) -> Tensor:
    """uint8 (b, t, 256, 256, 3) -> normalised (b, t, 3, 224, 224): of each clip a random crop, flip and colour. Those
    are the numbers of MNASNet; another `transform` has its own.

    Drawn from torch's random numbers of the device.
    """
    with _exact(frames):
        return _augmented(frames, how, transform)


def _exact(frames: Tensor) -> torch.autocast:
    """No autocast, whatever is around: in bfloat16 the grid is up to half a pixel off, and colours by two levels."""
    return torch.autocast(frames.device.type, enabled=False)


def _augmented(frames: Tensor, how: Augmentation, transform: Transform) -> Tensor:
    side = transform.crop
    b, t = frames.shape[:2]
    planes = frames.permute(0, 1, 4, 2, 3).to(torch.float32, memory_format=torch.contiguous_format)
    grid = F.affine_grid(_windows(b, how, frames.device), [b, 3 * t, side, side], align_corners=False)
    cut = F.grid_sample(planes.flatten(1, 2), grid, padding_mode="border", align_corners=False)
    matrix, shift = _colours(cut.unflatten(1, (t, 3)), how)
    pixels = cut.unflatten(1, (t, 3)).flatten(3)  # (b, t, 3, side * side)
    coloured = (matrix[:, None] @ pixels + shift[:, None, None, None]).clamp_(0, _WHITE)
    images = coloured.view(b * t, 3, side, side).contiguous(memory_format=torch.channels_last)
    return normalise(images, transform).unflatten(0, (b, t))


def _windows(count: int, how: Augmentation, device: torch.device) -> Tensor:
    """Affine maps, (count, 2, 3), from the output's square to a random window of the input's, half of them mirrored."""
    area, ratio, x, y, mirrored = torch.rand(5, count, device=device)
    area = how.least_area + (1 - how.least_area) * area
    sides = (2 * ratio - 1).mul(math.log(how.aspect) / 2).exp()
    width, height = (area.sqrt() * sides).clamp(max=1), (area.sqrt() / sides).clamp(max=1)
    zero = torch.zeros_like(x)
    sign = torch.where(mirrored < how.flip, -1.0, 1.0)
    rows = [width * sign, zero, (2 * x - 1) * (1 - width), zero, height, (2 * y - 1) * (1 - height)]
    return torch.stack(rows, 1).view(-1, 2, 3)


def _colours(clips: Tensor, how: Augmentation) -> tuple[Tensor, Tensor]:
    """Brightness, contrast about the clip's mean grey, and saturation, as one matrix (b, 3, 3) and a shift (b)."""
    brightness, contrast, saturation = 1 + how.colour * (2 * torch.rand(3, len(clips), device=clips.device) - 1)
    grey = _grey(clips.device)
    mean = clips.mean((1, 3, 4)) @ grey
    faded = grey.expand(3, 3)
    mixed = saturation[:, None, None] * torch.eye(3, device=clips.device) + (1 - saturation)[:, None, None] * faded
    return (brightness * contrast)[:, None, None] * mixed, brightness * (1 - contrast) * mean


@lru_cache(8)
def _grey(device: torch.device) -> Tensor:
    """Once: what is made of numbers of Python waits for a GPU."""
    return torch.tensor(_GREY, device=device)
