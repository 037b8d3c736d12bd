"""An encoder on its way to where it works: MNASNet folded, any other as it is."""

from collections.abc import Sequence

import torch
from torch import nn

from ...settings import CENTER, MNASNET
from ..encoder import Encoder
from ..folded import FoldedEncoder, fold
from ..transform import Transform
from .eager import EagerEncoder, PackedModel
from .names import architecture

Packed = FoldedEncoder | PackedModel


def pack(model: nn.Module, name: str) -> Packed:
    """The encoder of this name as plain arrays, for worker processes."""
    if name == MNASNET:
        return fold(model)
    return PackedModel(name, {key: tensor.detach().cpu().numpy() for key, tensor in model.state_dict().items()})


def unpack(
    packed: Packed, precision: str = "fp32", views: Sequence[str] = (CENTER,), device: str = "cpu"
) -> Encoder | EagerEncoder:
    """The encoder at work."""
    made = Encoder if isinstance(packed, FoldedEncoder) else EagerEncoder
    return made(packed, precision, views, device)  # type: ignore[arg-type]


def transform_of(packed: Packed) -> Transform:
    """How frames become what it takes."""
    return Encoder.transform if isinstance(packed, FoldedEncoder) else architecture(packed.name).transform


def warm_up(encoder: Encoder | EagerEncoder) -> None:
    """Have a model take the memory that it needs for a batch; MNASNet's is little."""
    if isinstance(encoder, EagerEncoder):
        side = encoder.transform.crop
        encoder.features(torch.zeros(encoder.batch, 3, side, side))
