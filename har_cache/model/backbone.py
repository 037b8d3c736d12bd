"""Any encoder as something to train, block by block."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..encoder.architectures.blocks import blocks
from ..encoder.architectures.eager import memory_format
from ..encoder.architectures.names import architecture
from ..errors import SettingError
from ..settings.names import BLOCKS, MNASNET
from .network import Backbone


class EagerBackbone(nn.Module):
    """A library's own model, its parameters under their own names, trained as `Backbone` trains MNASNet: `unfrozen`,
    `asleep`, `train_norms` and `checkpointing` are as there.

    Blocks are in eval mode, which keeps the statistics of norms and drops nothing, but those that learn where
    `train_norms` is set.
    """

    def __init__(
        self,
        model: nn.Module,
        classifier: str,
        unfrozen: int | None = None,
        train_norms: bool = False,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self._whole = [model.eval()]  # in a list: not a part of this module, which has the same parts under same names
        for kind in ("_parameters", "_buffers", "_modules", "_non_persistent_buffers_set"):
            self.__dict__[kind] = model.__dict__[kind]
        found = blocks(model, classifier)
        first = 0 if unfrozen is None else max(0, len(found) - unfrozen)
        self.train_norms, self.asleep = train_norms, False
        self._learning = [module for block in found[first:] for module in block] if unfrozen != 0 else []
        self.requires_grad_(unfrozen is None or (first == 0 and unfrozen > 0))  # with what is in no block
        for module in self._learning:
            module.requires_grad_(True)
            if checkpointing and any(module.children()):
                module.forward = partial(checkpoint, module.forward, use_reentrant=False)
        model.get_submodule(classifier).requires_grad_(unfrozen != 0)
        self._layout = memory_format(model)
        self.to(memory_format=self._layout)

    def forward(self, frames: Tensor) -> Tensor:
        """Normalised frames (n, 3, side, side) -> embeddings (n, dim)."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.asleep):
            return self._whole[0](frames.contiguous(memory_format=self._layout))

    def train(self, mode: bool = True) -> "EagerBackbone":
        """As always, but that what does not learn, and norms that are frozen, stay in eval mode."""
        super().train(mode)
        for child in self.children():
            child.eval()
        if self.train_norms:
            for module in self._learning:
                module.train(mode)
        return self


TrainableEncoder = Backbone | EagerBackbone


def trainable(
    encoder: Any, name: str, unfrozen: int | None = None, train_norms: bool = False, checkpointing: bool = False
) -> TrainableEncoder:
    """The encoder of this name, ready to be trained."""
    if name == MNASNET:
        return Backbone(encoder, unfrozen, train_norms, checkpointing)
    return EagerBackbone(encoder, architecture(name).classifier, unfrozen, train_norms, checkpointing)


def check_unfrozen(encoder: nn.Module, name: str, unfrozen: int | None) -> None:
    """Raise SettingError where the encoder of this name has fewer blocks than are to be trained."""
    count = BLOCKS if name == MNASNET else len(blocks(encoder, architecture(name).classifier))
    if unfrozen is not None and unfrozen > count:
        raise SettingError(f"--unfreeze {unfrozen}: expected at least 0 and at most {count}, the blocks of {name}")
