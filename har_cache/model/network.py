"""Encoder and head as one network, and MNASNet as something to train, block by block."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torchvision.models import MNASNet

from ..encoder.folded import blocks, convolutions, has_residual
from ..settings.names import BLOCKS
from .ensemble import HeadEnsemble
from .head import Head


class CNNBidirectionalRNN(nn.Module):
    """Encoder and head in one: what stage three trains, and what predicts from frames alone.

    The encoder is a library's own model whose last layer is the projection, as `weights.load_encoder` gives it: by
    default torchvision's `mnasnet0_5` with a `Linear(1280, 256)`.
    """

    def __init__(self, encoder: nn.Module, head: Head | HeadEnsemble) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """Normalised frames (b, t, 3, side, side), mask (b, t) as for the head -> logits (b, classes)."""
        embeddings = self.encoder(frames.flatten(0, 1))
        return self.head(embeddings.reshape(frames.shape[0], frames.shape[1], embeddings.shape[1]), mask)


class Backbone(nn.Module):
    """torchvision's MNASNet, with its own parameters under its own names, run block by block: the stem, 16 inverted
    residuals, the last convolution.

    `unfrozen`: how many of the last blocks learn, and the projection with them where that is any; None for all.
    `asleep` makes it for the time being a frozen one. BatchNorm uses, and keeps, the statistics it came with, unless
    `train_norms`. With `checkpointing` a block's inner activations are computed again instead of being kept.

    Blocks that learn nothing have their BatchNorm folded into the convolutions once, and again after `train`, `eval`, a
    step, a move or new weights: whoever changes weights otherwise calls one of them.
    """

    def __init__(
        self, encoder: MNASNet, unfrozen: int | None = None, train_norms: bool = False, checkpointing: bool = False
    ) -> None:
        super().__init__()
        self.layers, self.classifier = encoder.layers, encoder.classifier
        self.first = 0 if unfrozen is None else max(0, BLOCKS - unfrozen)
        self.train_norms, self.checkpointing, self.asleep = train_norms, checkpointing, False
        self.requires_grad_(False)
        for block in list(blocks(self.layers))[self.first :]:
            block.requires_grad_(True)
        self.classifier.requires_grad_(unfrozen != 0)
        self._folded: dict[int, list[Folded]] = {}  # by the number of the block
        self.register_load_state_dict_post_hook(_fold_anew)
        self.to(memory_format=torch.channels_last)  # measured: 1.5 times as fast

    def forward(self, frames: Tensor) -> Tensor:
        """Normalised frames (n, 3, 224, 224) -> embeddings (n, dim)."""
        row = list(blocks(self.layers))
        learning = torch.is_grad_enabled() and not self.asleep
        first = self.first if learning else BLOCKS
        with torch.no_grad():
            for i, block in enumerate(row[:first]):
                frames = _run(block, frames, self._fold(i, block))
        for i, block in enumerate(row[first:], first):
            self._folded.pop(i, None)
            again = self.checkpointing
            frames = checkpoint(_run, block, frames, use_reentrant=False) if again else _run(block, frames)
        with torch.set_grad_enabled(learning):
            return self.classifier(frames.mean((2, 3)))

    def _fold(self, number: int, block: nn.Module) -> "list[Folded] | None":
        """The folded convolutions of a block; None where its norms are training."""
        if any(norm.training for _, norm, _ in convolutions(block)):
            return None
        if number not in self._folded:
            self._folded[number] = [_fold(conv, norm) for conv, norm, _ in convolutions(block)]
        return self._folded[number]

    def train(self, mode: bool = True) -> "Backbone":
        """As always, but that frozen norms stay in eval mode."""
        _fold_anew(self)
        super().train(mode)
        for block in list(blocks(self.layers))[: self.first if self.train_norms else BLOCKS]:
            block.eval()
        return self

    def _apply(self, fn: Any, recurse: bool = True) -> "Backbone":
        _fold_anew(self)
        return super()._apply(fn, recurse)


Folded = tuple[Tensor, Tensor]  # weight and bias


def _fold_anew(backbone: Backbone, *_: object) -> None:
    backbone._folded.clear()


def _run(block: nn.Module, x: Tensor, folded: list[Folded] | None = None) -> Tensor:
    y = x
    for i, (conv, norm, relu) in enumerate(convolutions(block)):
        y = norm(conv(y)) if norm.training else _convolve(conv, folded[i] if folded else _fold(conv, norm), y)
        y = F.relu_(y) if relu else y
    return y + x if has_residual(block) else y


def _fold(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> Folded:
    """BatchNorm whose statistics stand still is a part of the convolution (measured: a fifth of the time saved)."""
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    return conv.weight * scale[:, None, None, None], norm.bias - norm.running_mean * scale


def _convolve(conv: nn.Conv2d, folded: Folded, x: Tensor) -> Tensor:
    return F.conv2d(x, *folded, conv.stride, conv.padding, conv.dilation, conv.groups)
