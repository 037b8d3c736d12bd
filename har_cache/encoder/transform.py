"""Frames -> what the network sees, on batches: exact, and fast for `MNASNet0_5_Weights.IMAGENET1K_V1`."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from ..settings.names import FULL
from .resize import Window, by_pil, resize

RESIZE, CROP = 256, 224
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_IMAGENET = "ImageNet mean and std"
_FORM = re.compile(
    r"resize (?P<resize>\d+) (?P<kernel>bilinear|bicubic) (?P<library>antialias|by PIL), center crop (?P<crop>\d+), "
    rf"(?:{_IMAGENET}|mean (?P<mean>[-.e\d]+(?: [-.e\d]+){{2}}) and std (?P<std>[-.e\d]+(?: [-.e\d]+){{2}}))"
)

Three = tuple[float, float, float]  # by colour


@dataclass(frozen=True)
class Transform:
    """How frames become what a network sees: their shorter side made `resize` pixels, of that the `crop` in the middle,
    and colours normalised. `by_pil`: resized as PIL does it, whole numbers at every step, and not as torchvision does
    it with tensors, in float32. `str` of it is what recipes say; the default is that of MNASNet.
    """

    resize: int = RESIZE
    crop: int = CROP
    kernel: str = "bilinear"
    by_pil: bool = False
    mean: Three = MEAN
    std: Three = STD

    def __str__(self) -> str:
        mean, std = (" ".join(str(value) for value in values) for values in (self.mean, self.std))
        colours = _IMAGENET if (self.mean, self.std) == (MEAN, STD) else f"mean {mean} and std {std}"
        return f"resize {self.resize} {self.how}, center crop {self.crop}, {colours}"

    @property
    def how(self) -> str:
        """How it resizes."""
        return f"{self.kernel} {'by PIL' if self.by_pil else 'antialias'}"

    @classmethod
    def read(cls, text: str) -> "Transform":
        """The reverse of `str`, whatever views `described` adds. Raises ValueError on another text."""
        match = _FORM.fullmatch(text.partition(";")[0])
        if not match:
            raise ValueError(f"a transform that this version does not know: {text}")
        known = match.groupdict()
        mean, std = (known[name] and tuple(map(float, known[name].split())) for name in ("mean", "std"))
        by_pil = known["library"] == "by PIL"
        return cls(int(known["resize"]), int(known["crop"]), known["kernel"], by_pil, mean or MEAN, std or STD)


DEFAULT = Transform()
TRANSFORM = str(DEFAULT)


def described(views: Sequence[str], transform: Transform = DEFAULT) -> str:
    """The transform of these views, as recipes have it."""
    whole = f"; {FULL}: all of the frame, resize {transform.crop}x{transform.crop} {transform.how}"
    return f"{transform}{whole if FULL in views else ''}"


def pictures(frames: Tensor, views: Sequence[str], transform: Transform = DEFAULT) -> Iterator[Tensor]:
    """What these views show of frames, uint8 (n, height, width, 3): their `crop`, and where `full` is one of the views
    then their `squash`.
    """
    yield crop(frames, transform.crop, transform)
    if FULL in views:
        yield squash(frames, transform.crop, transform)


def crop(frames: Tensor, side: int = CROP, transform: Transform = DEFAULT) -> Tensor:
    """The 224x224 pixels of each frame that the network sees; with a `side` of up to 256, more of what is around them.
    Those are the numbers of MNASNet; another `transform` has its own.

    frames: uint8 (n, height, width, 3). Gives float32 (n, 3, side, side), channels_last, whole numbers 0 to 255:
    `Resize(256, antialias)` and `CenterCrop(side)` of `MNASNet0_5_Weights.IMAGENET1K_V1.transforms()`, which
    resizes in float32 and rounds. Bit for bit, since embeddings show every pixel: torch's faster uint8 kernel is off
    by one in 15% of them, and that brought the centred cosine of the worst frame down to 0.54.

    On a GPU the same bits of bilinear ones, and in parts, as `resize` has it.
    """
    height, width = frames.shape[1:3]
    target, short, long = transform.resize, min(height, width), max(height, width)
    resized = (target, int(target * long / short)) if height <= width else (int(target * long / short), target)
    # From where the network's own crop begins, so that it is in the middle of a larger one whatever is rounded.
    top, left = (round((length - transform.crop) / 2.0) - edge(side, transform) for length in resized)
    if short == target:
        window = frames[:, top : top + side, left : left + side].float()
        return window.contiguous().permute(0, 3, 1, 2)
    if transform.by_pil:
        made = by_pil(frames, resized, transform.kernel)
        return _floats(made[..., top : top + side, left : left + side])
    return resize(frames, Window(*resized, top, left, side, side), transform.kernel)


def edge(side: int, transform: Transform = DEFAULT) -> int:
    """Pixels before what the network sees, of a `crop` of so many."""
    return round((side - transform.crop) / 2.0)


def squash(frames: Tensor, side: int = CROP, transform: Transform = DEFAULT) -> Tensor:
    """The whole of each frame in a square, whatever its shape was.

    frames: uint8 (n, height, width, 3). Gives what `crop` gives, (n, 3, side, side): torchvision's
    `resize(frames, [side, side], antialias=True)` in float32, rounded, bit for bit.
    """
    if transform.by_pil:
        return _floats(by_pil(frames, (side, side), transform.kernel))
    return resize(frames, Window(side, side, 0, 0, side, side), transform.kernel)


def _floats(pixels: Tensor) -> Tensor:
    return pixels.to(torch.float32, memory_format=torch.channels_last)


@dataclass(frozen=True)
class Square:
    """How frames of any shape become squares of `side` pixels, up to what the transform makes of their shorter side:
    the middle of them, or the `whole`.
    """

    side: int = RESIZE
    whole: bool = False
    transform: Transform = DEFAULT

    def of(self, frames: Tensor) -> Tensor:
        """uint8 (n, height, width, 3) -> uint8 (n, side, side, 3): the same memory where they have that shape."""
        if frames.shape[1:3] == (self.side, self.side) and (self.whole or self.side == self.transform.resize):
            return frames
        made = (squash if self.whole else crop)(frames, self.side, self.transform)
        return made.permute(0, 2, 3, 1).to(torch.uint8)


def normalise(crops: Tensor, transform: Transform = DEFAULT) -> Tensor:
    """(n, 3, 224, 224) of 0 to 255, channels_last -> float32, channels_last, with ImageNet's mean and deviation; or
    those of another transform.
    """
    shift, scale = _constants(crops.device, transform)
    lines = crops.permute(0, 2, 3, 1).flatten(2)
    return torch.addcmul(shift, lines, scale).unflatten(2, (transform.crop, 3)).permute(0, 3, 1, 2)


def scale_and_shift(transform: Transform = DEFAULT) -> tuple[np.ndarray, np.ndarray]:
    """The normalisation as x * scale + shift of pixels of 0 to 255: float32 (3) each, by colour."""
    mean, std = (np.array(values, np.float32) for values in (transform.mean, transform.std))
    return 1 / (255 * std), -mean / std


@lru_cache(8)
def _constants(device: torch.device, transform: Transform) -> tuple[Tensor, Tensor]:
    """For a line of pixels: broadcasting over the innermost 3 channels is ten times slower."""
    values = scale_and_shift(transform)
    scale, shift = (torch.from_numpy(by_colour).to(device).repeat(transform.crop) for by_colour in values)
    return shift, scale
