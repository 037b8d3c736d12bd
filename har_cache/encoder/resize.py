"""Ways to resize frames and cut a window out, all with the pixels of torch's antialiased kernels on the CPU."""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from .fp32 import true_fp32

_CPU = torch.device("cpu")
_BAND = 16  # results computed by one matrix product
_WHOLE_BYTES = 256 << 20  # of the pictures that a resize reads or makes at a time, as float32
_TAPS_BYTES = 128 << 20  # of what is made of them at a time tap by tap, as float64
_UNROLLED = 4  # products that the CPU's kernel rounds before it adds them; the rest it multiplies and adds in one


class Window(NamedTuple):
    """What is wanted of frames that are resized to (height, width): the part from (top, left), of (rows, columns)."""

    height: int
    width: int
    top: int
    left: int
    rows: int
    columns: int


def resize(frames: Tensor, window: Window, kernel: str) -> Tensor:
    """A window of resized frames, uint8 (n, height, width, 3) -> float32 (n, 3, rows, columns), channels_last, whole
    numbers 0 to 255. Bilinear, the same bits on every device; of another `kernel` a GPU rounds a few otherwise.

    Not more than 256 MiB of pictures are read or made at a time, or, on a GPU, 128 MiB of each of what is made on the
    way; one frame may be more alone.
    """
    height, width = frames.shape[1:3]
    if kernel == "bilinear" and frames.is_cuda:
        rows = _taps(height, window.height, window.top, window.rows, frames.device)
        columns = _taps(width, window.width, window.left, window.columns, frames.device)
        size = max(window.rows, rows.after - rows.before) * window.columns * 3 * 8
        return _in_parts(frames, _TAPS_BYTES // size, lambda part: _by_taps(part, rows, columns))
    if kernel == "bilinear" and window.height >= height and window.width >= width:
        return _by_products(frames, window)
    size = max(height * width, window.height * window.width) * 3 * 4
    return _in_parts(frames, _WHOLE_BYTES // size, lambda part: _whole(part, window, kernel))


def by_pil(frames: Tensor, size: tuple[int, int], kernel: str) -> Tensor:
    """uint8 (n, 3, *size), whatever device the frames are on: PIL works on the CPU."""
    method = Image.Resampling[kernel.upper()]
    made = [np.asarray(Image.fromarray(frame).resize(size[::-1], method)) for frame in frames.cpu().numpy()]
    return torch.from_numpy(np.stack(made)).to(frames.device).permute(0, 3, 1, 2)


def _in_parts(frames: Tensor, at_once: int, made_of: Callable[[Tensor], Tensor]) -> Tensor:
    parts = [made_of(part) for part in frames.split(max(1, at_once))]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _whole(frames: Tensor, window: Window, kernel: str) -> Tensor:
    # Where all of it is wanted plane by plane: measured, 0.75 of the time that it takes pixel by pixel; the same bits.
    whole = (window.rows, window.columns) == (window.height, window.width)
    layout = torch.contiguous_format if whole else torch.preserve_format
    planes = frames.permute(0, 3, 1, 2).to(torch.float32, memory_format=layout)
    made = F.interpolate(planes, (window.height, window.width), mode=kernel, antialias=True)
    made = made[..., window.top : window.top + window.rows, window.left : window.left + window.columns]
    made = made.contiguous(memory_format=torch.channels_last)
    # As torchvision has them of float32: only bicubic can leave 0 to 255.
    return (made.clamp_(0, 255) if kernel == "bicubic" else made).round_()


class _Tap(NamedTuple):
    """One input of each result: where it is, counted from the first that any needs, and its weight, float32 and
    float64. `rounded`: for which results the product is rounded before it is added; None: for none.
    """

    inputs: Tensor
    weights: Tensor
    weights64: Tensor
    rounded: Tensor | None


class _Taps(NamedTuple):
    """What makes results along a dimension, in the order of the sums, of the inputs from `before` to `after`."""

    before: int
    after: int
    taps: tuple[_Tap, ...]


def _by_taps(frames: Tensor, rows: _Taps, columns: _Taps) -> Tensor:
    """The window, tap by tap, along rows of pixels first, as torch's kernel for the CPU does.

    That one multiplies and adds without rounding in between (but for what a compiler unrolled), in this order. A GPU's
    kernel differs from it in the last bits, of which rounding makes whole pixels: 2 in 10,000 on an H100. Here each
    operation is one that IEEE 754 defines, so that every device gives the same: a product of two float32 is exact in
    float64, and a sum of it rounded to float32 is what a fused multiply-add gives.
    """
    lines = frames[:, rows.before : rows.after, columns.before : columns.after]
    return _along(_along(lines, columns, 2), rows, 1).round_().permute(0, 3, 1, 2)


def _along(inputs: Tensor, of: _Taps, dim: int) -> Tensor:
    """float32: sums along a dimension of (n, rows, columns, 3)."""
    shape = [-1 if i == dim else 1 for i in range(4)]
    first, *others = of.taps
    total = inputs.index_select(dim, first.inputs).float().mul_(first.weights.view(shape))
    for tap in others:
        values = inputs.index_select(dim, tap.inputs)
        fused = torch.addcmul(total.double(), values.double(), tap.weights64.view(shape)).float()
        if tap.rounded is not None:
            plain = total + values.float().mul_(tap.weights.view(shape))
            fused = torch.where(tap.rounded.view(shape), plain, fused)
        total = fused
    return total


@lru_cache(64)
def _taps(length: int, resized: int, first: int, count: int, device: torch.device) -> _Taps:
    """What makes `count` results of `resized`, from `first` on, of `length` inputs."""
    span = _Span.of(length, resized, first, count)
    before, after = int(span.begin[0]), int((span.begin + span.size).max())
    unrolled = (span.size - 1) // _UNROLLED * _UNROLLED
    taps = []
    for j, weights in enumerate(span.weights()):
        inputs, rounded = np.minimum(span.begin + j, after - 1) - before, (j > 0) & (j <= unrolled)
        here, single, double, plain = (
            torch.from_numpy(array).to(device) for array in (inputs, weights, weights.astype(np.float64), rounded)
        )
        taps.append(_Tap(here, single, double, plain if rounded.any() else None))
    return _Taps(before, after, tuple(taps))


class _Span(NamedTuple):
    """Which inputs torch's antialiased bilinear resize makes results of: `size` of them from `begin` on, int64 each.
    Their weights come from `centres` and `sharpness`.
    """

    begin: np.ndarray
    size: np.ndarray
    centres: np.ndarray
    sharpness: np.float32

    @classmethod
    def of(cls, length: int, resized: int, first: int, count: int) -> "_Span":
        """`count` results of `resized`, from `first` on, of `length` inputs.

        Bit for bit: float32 and float64 take turns as in ATen's `_compute_indices_min_size_weights_aa`.
        """
        f32, f64 = np.float32, np.float64
        scale = f32(length) / f32(resized)
        support, sharpness = (scale, f32(1 / f64(scale))) if scale >= 1 else (f32(1), f32(1))
        centres = (f64(scale) * (np.arange(first, first + count) + 0.5)).astype(f32)
        begin = np.maximum(((centres - support).astype(f64) + 0.5).astype(np.int64), 0)
        end = np.minimum(((centres + support).astype(f64) + 0.5).astype(np.int64), length)
        return cls(begin, np.minimum(end - begin, 2 * int(np.ceil(support)) + 1), centres, sharpness)

    def weights(self) -> list[np.ndarray]:
        """Of the first input of each result, of the second, ...: float32 (count), 0 where it has fewer."""
        f32, f64 = np.float32, np.float64
        found, total = [], np.zeros(len(self.begin), f32)
        for j in range(int(self.size.max())):
            places = ((self.begin + j).astype(f32) - self.centres).astype(f64) + 0.5
            distances = np.abs(places * self.sharpness).astype(f32)
            found.append(np.where((j < self.size) & (distances < 1), 1 - distances, f32(0)))
            total += found[-1]  # one after another, as ATen does: float32 sums depend on the order
        return [weights / total for weights in found]


class _Band(NamedTuple):
    """Results from `first` on, made of the inputs from `before` to `after` with `weights` (results, inputs)."""

    before: int
    after: int
    first: int
    weights: Tensor


def _by_products(frames: Tensor, window: Window) -> Tensor:
    """The window of what grows, along rows of pixels first, as torch does. It costs what the window costs.

    Products of small dense matrices: a result needs two neighbours only, but sixteen results at a time keep the CPU's
    vector units busy (measured: a third of the time of torch's kernel, with the same bits). Where pictures shrink, sums
    are longer, and their last bits depend on the order.
    """
    n, height, width, channels = frames.shape
    rows = _bands(height, window.height, window.top, window.rows)
    columns = _bands(width, window.width, window.left, window.columns, channels)
    (top, bottom), (left, right) = ((bands[0].before, bands[-1].after) for bands in (rows, columns))
    out = torch.empty(n, window.rows, window.columns * channels)
    wide = torch.empty(bottom - top, window.columns * channels)
    with true_fp32(_CPU):
        for frame, target in zip(frames, out, strict=True):
            lines = frame[top:bottom].reshape(bottom - top, width * channels)[:, left:right].float()
            for start, end, first, weights in columns:
                torch.mm(lines[:, start - left : end - left], weights.t(), out=wide[:, first : first + len(weights)])
            for start, end, first, weights in rows:
                torch.mm(weights, wide[start - top : end - top], out=target[first : first + len(weights)])
    return out.round_().view(n, window.rows, window.columns, channels).permute(0, 3, 1, 2)


@lru_cache(64)
def _bands(length: int, resized: int, first: int, count: int, channels: int = 1) -> tuple[_Band, ...]:
    """Weights that make `count` results of `resized`, from `first` on, of `length` pixels of interleaved channels."""
    start, weights = _dense(length, resized, first, count)
    bands = []
    for i in range(0, count, _BAND):
        band = weights[i : i + _BAND]
        used = np.flatnonzero(band.any(0))
        begin, end = int(used[0]), int(used[-1]) + 1
        mixed = torch.from_numpy(np.kron(band[:, begin:end], np.eye(channels, dtype=np.float32)))
        bands.append(_Band((start + begin) * channels, (start + end) * channels, i * channels, mixed))
    return tuple(bands)


def _dense(length: int, resized: int, first: int, count: int) -> tuple[int, np.ndarray]:
    """The first input that the results need, and the weights as a matrix, float32 (count, inputs)."""
    span = _Span.of(length, resized, first, count)
    start = int(span.begin[0])
    dense = np.zeros((count, int((span.begin + span.size).max()) - start), np.float32)
    for j, weights in enumerate(span.weights()):
        here = j < span.size
        dense[here.nonzero()[0], (span.begin - start + j)[here]] = weights[here]
    return start, dense
