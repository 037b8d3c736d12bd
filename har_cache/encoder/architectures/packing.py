"""An encoder on its way to where it works: MNASNet folded, any other as it is."""

from collections.abc import Sequence

import torch
from torch import nn

from ...cache.recipe import Recipe
from ...errors import CacheError
from ...settings.names import CENTER, MNASNET
from ..encoder import Encoder
from ..folded import FoldedEncoder, fold
from ..transform import Transform
from .eager import EagerEncoder, PackedModel

Packed = FoldedEncoder | PackedModel


def pack(model: nn.Module, name: str, transform: Transform) -> Packed:
    """The encoder of this name as plain arrays, for worker processes; `transform`: that of its recipe."""
    if name == MNASNET:
        return fold(model)
    tensors = {key: tensor.detach().cpu().numpy() for key, tensor in model.state_dict().items()}
    return PackedModel(name, transform, tensors)


def unpack(
    packed: Packed, precision: str = "fp32", views: Sequence[str] = (CENTER,), device: str = "cpu"
) -> Encoder | EagerEncoder:
    """The encoder at work."""
    made = Encoder if isinstance(packed, FoldedEncoder) else EagerEncoder
    return made(packed, precision, views, device)  # type: ignore[arg-type]


def transform_of(recipe: Recipe) -> Transform:
    """How frames become what the encoder of a recipe takes. Raises CacheError where this version does not know it."""
    if recipe.model == MNASNET:
        return Encoder.transform
    try:
        return Transform.read(recipe.transform)
    except ValueError as error:
        raise CacheError(f"the recipe of {recipe.model} has {error}") from error


def warm_up(encoder: Encoder | EagerEncoder) -> None:
    """Have a model take the memory that it needs for a batch; MNASNet's is little."""
    if isinstance(encoder, EagerEncoder):
        side = encoder.transform.crop
        encoder.features(torch.zeros(encoder.batch, 3, side, side))
