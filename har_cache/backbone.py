"""The encoder as something to train: which of its blocks learn, what they remember, what their norms do."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torchvision.models import MNASNet

BLOCKS = 18
_FIRST_STACK, _HEAD = 8, 14  # indices into MNASNet.layers: the inverted residuals are layers[8:14]


class Backbone(nn.Module):
    """torchvision's encoder, with its own parameters under its own names, run block by block: the stem, 16 inverted
    residuals, the last convolution.

    `unfrozen`: how many of the last blocks learn, and the projection with them where that is any; None for all.
    `asleep` makes it for the time being a frozen one. BatchNorm uses, and keeps, the statistics it came with, unless
    `train_norms`. With `checkpointing` a block's inner activations are computed again instead of being kept.
    """

    def __init__(
        self, encoder: MNASNet, unfrozen: int | None = None, train_norms: bool = False, checkpointing: bool = False
    ) -> None:
        super().__init__()
        self.layers, self.classifier = encoder.layers, encoder.classifier
        self.first = 0 if unfrozen is None else max(0, BLOCKS - unfrozen)
        self.train_norms, self.checkpointing, self.asleep = train_norms, checkpointing, False
        learning = [] if unfrozen == 0 else [*list(self._blocks())[self.first :], self.classifier]
        self.requires_grad_(False)
        for module in learning:
            module.requires_grad_(True)

    def forward(self, frames: Tensor) -> Tensor:
        """Normalised frames (n, 3, 224, 224) -> embeddings (n, 256)."""
        blocks = list(self._blocks())
        first = len(blocks) if self.asleep else self.first
        learning = torch.is_grad_enabled()
        again = learning and self.checkpointing
        with torch.no_grad():
            for block in blocks[:first]:
                frames = block(frames)
        for block in blocks[first:]:
            frames = checkpoint(block, frames, use_reentrant=False) if again else block(frames)
        with torch.set_grad_enabled(learning and not self.asleep):
            return self.classifier(frames.mean((2, 3)))

    def train(self, mode: bool = True) -> "Backbone":
        """As always, but that frozen norms stay in eval mode."""
        super().train(mode)
        if mode:
            for block in list(self._blocks())[: self.first if self.train_norms else BLOCKS]:
                block.eval()
        return self

    def _blocks(self) -> Iterator[nn.Module]:
        layers = list(self.layers)
        yield nn.Sequential(*layers[:_FIRST_STACK])
        for stack in layers[_FIRST_STACK:_HEAD]:
            assert isinstance(stack, nn.Sequential)
            yield from stack
        yield nn.Sequential(*layers[_HEAD:])
