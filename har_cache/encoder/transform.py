"""Frames -> what the network sees, on batches: exact, and fast for `MNASNet0_5_Weights.IMAGENET1K_V1`."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ..settings.names import FULL
from .fp32 import true_fp32

RESIZE, CROP = 256, 224
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_IMAGENET = "ImageNet mean and std"
_FORM = re.compile(
    r"resize (?P<resize>\d+) (?P<kernel>bilinear|bicubic) (?P<library>antialias|by PIL), center crop (?P<crop>\d+), "
    rf"(?:{_IMAGENET}|mean (?P<mean>[-.e\d]+(?: [-.e\d]+){{2}}) and std (?P<std>[-.e\d]+(?: [-.e\d]+){{2}}))"
)
_CPU = torch.device("cpu")
_BAND = 16  # results computed by one matrix product
_WHOLE_BYTES = 256 << 20  # of the pictures that a resize reads or makes at a time, as float32

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

    Whatever the shape of the frames, no more than 256 MiB of them are pictures of float32 at a time; one frame that
    shrinks may be more alone.
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
        return _floats(_by_pil(frames, resized, transform)[..., top : top + side, left : left + side])
    at_once = _WHOLE_BYTES // (4 * 3 * max(height * width, resized[0] * resized[1]))
    if short > target or transform.kernel != "bilinear" or (frames.is_cuda and at_once):
        parts = [
            _resize_whole(part, resized, top, left, side, transform.kernel) for part in frames.split(max(1, at_once))
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts)
    rows = _bands(height, resized[0], top, side, device=frames.device)
    return _resize(frames, rows, _bands(width, resized[1], left, side, 3, frames.device))


def edge(side: int, transform: Transform = DEFAULT) -> int:
    """Pixels before what the network sees, of a `crop` of so many."""
    return round((side - transform.crop) / 2.0)


def squash(frames: Tensor, side: int = CROP, transform: Transform = DEFAULT) -> Tensor:
    """The whole of each frame in a square, whatever its shape was.

    frames: uint8 (n, height, width, 3). Gives what `crop` gives, (n, 3, side, side): torchvision's
    `resize(frames, [side, side], antialias=True)` in float32, rounded, bit for bit. With its bound of memory.
    """
    height, width = frames.shape[1:3]
    if transform.by_pil:
        return _floats(_by_pil(frames, (side, side), transform))
    at_once = _WHOLE_BYTES // (4 * 3 * max(height * width, side * side))
    parts = [_squashed(part, side, transform.kernel) for part in frames.split(max(1, at_once))]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _squashed(frames: Tensor, side: int, kernel: str) -> Tensor:
    # Plane by plane: measured, a fifth less time than pixel by pixel, with the same bits.
    planes = frames.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
    made = F.interpolate(planes, (side, side), mode=kernel, antialias=True)
    return _whole_numbers(made.contiguous(memory_format=torch.channels_last), kernel)


def _by_pil(frames: Tensor, resized: tuple[int, int], transform: Transform) -> Tensor:
    """uint8 (n, 3, *resized), whatever device the frames are on: PIL works on the CPU."""
    kernel = Image.Resampling[transform.kernel.upper()]
    made = [np.asarray(Image.fromarray(frame).resize(resized[::-1], kernel)) for frame in frames.cpu().numpy()]
    return torch.from_numpy(np.stack(made)).to(frames.device).permute(0, 3, 1, 2)


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


def _resize_whole(
    frames: Tensor, resized: tuple[int, int], top: int, left: int, side: int, kernel: str = DEFAULT.kernel
) -> Tensor:
    whole = F.interpolate(frames.permute(0, 3, 1, 2).float(), resized, mode=kernel, antialias=True)
    window = whole[..., top : top + side, left : left + side]
    return _whole_numbers(window.contiguous(memory_format=torch.channels_last), kernel)


def _whole_numbers(pixels: Tensor, kernel: str) -> Tensor:
    """As torchvision has them of float32, in place: only bicubic can leave 0 to 255."""
    return (pixels.clamp_(0, 255) if kernel == "bicubic" else pixels).round_()


Band = tuple[int, int, int, Tensor]  # inputs from, to; first result; weights (results, inputs)


def _resize(frames: Tensor, rows: tuple[Band, ...], columns: tuple[Band, ...]) -> Tensor:
    """The window that the bands make: along rows of pixels first, as torch does. It costs what the window costs.

    Products of small dense matrices: a result needs two neighbours only, but sixteen results at a time keep the CPU's
    vector units busy (measured: a third of the time of torch's kernel, with the same bits). Where pictures shrink, sums
    are longer, and their last bits depend on the order.
    """
    n, _, width, channels = frames.shape
    side = rows[-1][2] + len(rows[-1][3])
    (top, bottom), (left, right) = ((bands[0][0], bands[-1][1]) for bands in (rows, columns))
    out = torch.empty(n, side, side * channels, device=frames.device)
    wide = torch.empty(bottom - top, side * channels, device=frames.device)
    with true_fp32(frames.device):
        for frame, target in zip(frames, out, strict=True):
            lines = frame[top:bottom].reshape(bottom - top, width * channels)[:, left:right].float()
            for start, end, first, weights in columns:
                torch.mm(lines[:, start - left : end - left], weights.t(), out=wide[:, first : first + len(weights)])
            for start, end, first, weights in rows:
                torch.mm(weights, wide[start - top : end - top], out=target[first : first + len(weights)])
    return out.round_().view(n, side, side, channels).permute(0, 3, 1, 2)


@lru_cache(64)
def _bands(
    length: int, resized: int, first: int, count: int, channels: int = 1, device: torch.device = _CPU
) -> tuple[Band, ...]:
    """Weights that make `count` results of `resized`, from `first` on, of `length` pixels of interleaved channels."""
    start, weights = _weights(length, resized, first, count)
    bands = []
    for i in range(0, count, _BAND):
        band = weights[i : i + _BAND]
        used = np.flatnonzero(band.any(0))
        begin, end = int(used[0]), int(used[-1]) + 1
        mixed = torch.from_numpy(np.kron(band[:, begin:end], np.eye(channels, dtype=np.float32))).to(device)
        bands.append(((start + begin) * channels, (start + end) * channels, i * channels, mixed))
    return tuple(bands)


def _weights(length: int, resized: int, first: int, count: int) -> tuple[int, np.ndarray]:
    """What torch's antialiased bilinear resize multiplies `length` pixels with to make `count` results of `resized`,
    from `first` on: the first pixel that they need, and float32 (count, pixels).

    Bit for bit: float32 and float64 take turns as in ATen's `_compute_indices_min_size_weights_aa`.
    """
    f32, f64 = np.float32, np.float64
    scale = f32(length) / f32(resized)
    support, sharpness = (scale, f32(1 / f64(scale))) if scale >= 1 else (f32(1), f32(1))
    centres = (f64(scale) * (np.arange(first, first + count) + 0.5)).astype(f32)
    begin = np.maximum(((centres - support).astype(f64) + 0.5).astype(np.int64), 0)
    end = np.minimum(((centres + support).astype(f64) + 0.5).astype(np.int64), length)
    size = np.minimum(end - begin, 2 * int(np.ceil(support)) + 1)
    start = int(begin[0])
    weights = np.zeros((count, int((begin + size).max()) - start), f32)
    total = np.zeros(count, f32)
    for j in range(int(size.max())):
        distances = np.abs((((begin + j).astype(f32) - centres).astype(f64) + 0.5) * sharpness).astype(f32)
        weight = np.where((j < size) & (distances < 1), 1 - distances, f32(0))
        total += weight  # one after another, as ATen does: float32 sums depend on the order
        here = j < size
        weights[here.nonzero()[0], (begin - start + j)[here]] = weight[here]
    return start, weights / total[:, None]


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
