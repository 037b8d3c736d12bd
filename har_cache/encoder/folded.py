"""MNASNet for inference, as plain arrays: BatchNorm folded into the convolutions."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

if TYPE_CHECKING:  # worker processes start twice as fast without torchvision
    from torchvision.models import MNASNet

FEATURES = 1280  # pooled
_LINEAR = ("weight", "bias")
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
    projection weight (256, 1280) and bias (256), or neither, where features are the embeddings.
    """

    blocks: tuple[FoldedBlock, ...]
    weight: np.ndarray | None
    bias: np.ndarray | None


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
    weights = (_array(getattr(projection, name)) if isinstance(projection, nn.Linear) else None for name in _LINEAR)
    return FoldedEncoder(folded, *weights)


def _fold(conv: nn.Conv2d, norm: nn.BatchNorm2d, relu: bool) -> FoldedConv:
    fused = fuse_conv_bn_eval(conv, norm)
    shape = int(conv.stride[0]), int(conv.padding[0]), conv.groups
    return FoldedConv(_array(fused.weight), _array(fused.bias), *shape, relu)


def _array(parameter: object) -> np.ndarray:
    assert isinstance(parameter, Tensor)
    return parameter.detach().cpu().float().numpy().copy()


def without_linear_biases(folded: FoldedEncoder) -> FoldedEncoder:
    """The same function, where convolutions without a ReLU add no bias: the next convolution, 1x1, adds it to its own,
    multiplied by its weights. Blocks with a residual pass on what their input lacks, beside what their output does.

    Exact: biases are summed in float64. Saves a pass over memory a convolution where the bias is a kernel of its own.
    """
    blocks = []
    lacking = np.zeros(1)  # in each channel of a block's input
    for block in folded.blocks:
        assert not (block.residual and block.convs[-1].relu), "nothing can be left out before a ReLU"
        convs, offset = [], lacking
        for conv in block.convs:
            bias = conv.bias + _reached(conv, offset)
            convs.append(replace(conv, bias=(bias if conv.relu else np.zeros_like(bias)).astype(np.float32)))
            offset = np.zeros(1) if conv.relu else bias
        lacking = offset + lacking if block.residual else offset
        blocks.append(replace(block, convs=tuple(convs)))
    assert not lacking.any(), "a linear convolution is the last: nothing could add its bias"
    return replace(folded, blocks=tuple(blocks))


def _reached(conv: FoldedConv, offset: np.ndarray) -> np.ndarray:
    """What an offset of each input channel adds to the output: float64 (out)."""
    if not offset.any():
        return np.zeros(len(conv.bias))
    assert conv.weight.shape[2:] == (1, 1) and conv.groups == 1 and not conv.padding, "borders would see another offset"
    return conv.weight[:, :, 0, 0].astype(np.float64) @ offset
