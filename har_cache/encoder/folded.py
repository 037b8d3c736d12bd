"""MNASNet for inference: BatchNorm folded into the convolutions, and every block as fast as the CPU allows.

On CPUs convolutions of low precision run as oneDNN primitives whose weights are packed once and which add the bias,
the residual and the ReLU while the result is still in registers (measured: 1.3 times the frames per second of
`F.conv2d` in channels_last, four processes at once); `graph` computes fp32 there.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

if TYPE_CHECKING:  # worker processes start twice as fast without torchvision
    from torchvision.models import MNASNet

_FIRST_STACK, _HEAD = 8, 14  # indices into MNASNet.layers: the inverted residuals are layers[8:14]


@dataclass(frozen=True)
class FoldedConv:
    """A convolution with its BatchNorm folded in: weight (out, in / groups, k, k) and bias (out), float32."""

    weight: np.ndarray
    bias: np.ndarray
    stride: int
    padding: int
    groups: int
    relu: bool


@dataclass(frozen=True)
class FoldedBlock:
    """Convolutions in a row; with `residual` the input is added to their output."""

    convs: tuple[FoldedConv, ...]
    residual: bool


@dataclass(frozen=True)
class FoldedEncoder:
    """The whole encoder as plain arrays, for worker processes: stem, 16 inverted residuals, final convolution;
    projection weight (256, 1280) and bias (256).
    """

    blocks: tuple[FoldedBlock, ...]
    weight: np.ndarray
    bias: np.ndarray


def blocks(layers: Iterable[nn.Module]) -> Iterator[nn.Module]:
    """The blocks of MNASNet's `layers`, BLOCKS in all: the stem, 16 inverted residuals, the last convolution."""
    layers = list(layers)
    yield nn.Sequential(*layers[:_FIRST_STACK])
    for stack in layers[_FIRST_STACK:_HEAD]:
        assert isinstance(stack, nn.Sequential)
        yield from stack
    yield nn.Sequential(*layers[_HEAD:])


def has_residual(block: nn.Module) -> bool:
    """Whether a block's input is added to its output."""
    return bool(getattr(block, "apply_residual", False))


def convolutions(block: nn.Module) -> Iterator[tuple[nn.Conv2d, nn.BatchNorm2d, bool]]:
    """A block's convolutions in order, each with its BatchNorm, and whether a ReLU follows."""
    row = block if isinstance(block, nn.Sequential) else block.layers
    assert isinstance(row, nn.Sequential)
    layers = list(row)
    for i, conv in enumerate(layers):
        if isinstance(conv, nn.Conv2d):
            norm = layers[i + 1]
            assert isinstance(norm, nn.BatchNorm2d)
            yield conv, norm, i + 2 < len(layers) and isinstance(layers[i + 2], nn.ReLU)


def fold(model: "MNASNet") -> FoldedEncoder:
    """An eval-mode encoder, folded."""
    folded = tuple(
        FoldedBlock(tuple(_fold(*parts) for parts in convolutions(block)), has_residual(block))
        for block in blocks(model.layers)
    )
    projection = model.classifier
    return FoldedEncoder(folded, _array(projection.weight), _array(projection.bias))


def _fold(conv: nn.Conv2d, norm: nn.BatchNorm2d, relu: bool) -> FoldedConv:
    fused = fuse_conv_bn_eval(conv, norm)
    shape = int(conv.stride[0]), int(conv.padding[0]), conv.groups
    return FoldedConv(_array(fused.weight), _array(fused.bias), *shape, relu)


def _array(parameter: object) -> np.ndarray:
    assert isinstance(parameter, Tensor)
    return parameter.detach().cpu().float().numpy().copy()


class Block:
    """A folded block in one dtype, on one device: (n, c, h, w) channels_last -> (n, c', h', w')."""

    def __init__(self, folded: FoldedBlock, dtype: torch.dtype, device: torch.device) -> None:
        kind = PackedConv if device.type == "cpu" and can_pack(dtype) else Conv
        self.convs = [kind(conv, dtype, device) for conv in folded.convs]
        self.residual = folded.residual
        self.dtype = dtype

    def __call__(self, x: Tensor) -> Tensor:
        """The block's output; `x` may be overwritten."""
        x = x.to(self.dtype)
        y = x
        for conv in self.convs[:-1]:
            y = conv(y)
        return self.convs[-1](y, x if self.residual else None)


class Conv:
    """Convolution, bias, residual and ReLU by torch's public operators."""

    def __init__(self, folded: FoldedConv, dtype: torch.dtype, device: torch.device) -> None:
        weight = torch.from_numpy(folded.weight).to(device, dtype)
        self.weight = weight.contiguous(memory_format=torch.channels_last)
        self.bias = torch.from_numpy(folded.bias).to(device, dtype)
        self.shape = (folded.stride, folded.padding, 1, folded.groups)
        self.relu = folded.relu

    def __call__(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """The convolution of `x`, with `residual` added."""
        y = F.conv2d(x, self.weight, self.bias, *self.shape)
        if residual is not None:
            y += residual
        return y.relu_() if self.relu else y


class PackedConv:
    """The same as one oneDNN primitive, its weights packed for the shape of the first input it meets."""

    def __init__(self, folded: FoldedConv, dtype: torch.dtype, device: torch.device) -> None:
        self.weight = torch.from_numpy(folded.weight).to(device, dtype)
        self.bias = torch.from_numpy(folded.bias).to(device, dtype)
        self.shape = ([folded.padding] * 2, [folded.stride] * 2, [1, 1], folded.groups)
        self.activation = "relu" if folded.relu else "none"

    def __call__(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """The convolution of `x`, with `residual` added; `residual` is overwritten."""
        ops = torch.ops.mkldnn
        if not self.weight.is_mkldnn:
            self.weight = ops._reorder_convolution_weight(self.weight, *self.shape, list(x.shape))
        if residual is None:
            return ops._convolution_pointwise(x, self.weight, self.bias, *self.shape, self.activation, [], "")
        return ops._convolution_pointwise_.binary(  # adds into `residual`, which nobody reads again
            residual, x, self.weight, self.bias, *self.shape, "add", 1.0, None, [], None
        )


def can_pack(dtype: torch.dtype) -> bool:
    """Whether this build of torch has oneDNN's fused convolutions (x86 builds have), and this CPU the dtype's."""
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_convolution_pointwise_"):
        return False
    low = {torch.float16: "_is_mkldnn_fp16_supported", torch.bfloat16: "_is_mkldnn_bf16_supported"}
    return dtype not in low or bool(getattr(torch.ops.mkldnn, low[dtype])())
