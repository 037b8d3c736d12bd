"""Weights between those that a fine-tuning started from and those that it ended with (WiSE-FT, arXiv 2109.01903)."""

from collections.abc import Mapping

import torch
from torch import Tensor


def blend_weights(start: Mapping[str, Tensor], tuned: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """(1 - share) * start + share * tuned, of two states of one network; what is the same in both stays so to the bit.

    Whole numbers are those of the start. BatchNorm's statistics are blended too where they have learnt: those of the
    blend they are only to first order, in what the weights have changed by, but to count them anew would take another
    pass over the training clips, and with them the blend is judged before it is kept.
    """
    return {name: _between(value, tuned[name], share) for name, value in start.items()}


def _between(start: Tensor, tuned: Tensor, share: float) -> Tensor:
    return torch.lerp(start, tuned, share) if start.is_floating_point() else start.clone()
