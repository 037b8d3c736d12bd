"""Encoder weights: where they come from, and the file they are kept in."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..errors import SettingError, WeightsError
from ..settings.names import DIM, IMAGENET, MNASNET, PUBLISHED
from .architectures.architecture import one_line
from .architectures.names import architecture, is_encoder


@dataclass(frozen=True)
class Weights:
    """Weights as they were found, before anything is fitted.

    `backbone` holds all tensors but those of the last layer; `projection` its weight (dim, features) and bias (dim),
    where the file has one; `native`: they are of a run whose features are its embeddings; `name` is `imagenet` or
    `published`, `random` or `file`, or says which run they are of; `sha256` is over the backbone's tensors.
    `projection_name` and `projection_fit` say where a run's projection came from, `trained_split` on whose labels its
    encoder was trained.
    """

    name: str
    backbone: Mapping[str, Tensor]
    projection: tuple[Tensor, Tensor] | None
    sha256: str
    projection_name: str = "file"
    projection_fit: str = ""
    trained_split: int | None = None
    native: bool = False


def find_weights(wanted: str, seed: int = 0, encoder: str = MNASNET, dim: int | None = DIM) -> Weights:
    """Weights of an encoder: `imagenet` or `published`, those that it was published with, `random` (seeded) or of a
    file: a `.pth` with a state dict, a safetensors file, whose last layer is taken for a projection where it has `dim`
    outputs.

    Raises SettingError where there is no such encoder, or `wanted` names one, WeightsError where weights cannot be
    downloaded, or do not fit (naming what is missing).
    """
    known = architecture(encoder)
    if wanted in (IMAGENET, PUBLISHED):
        state, name = known.published(), wanted
    elif wanted == "random":
        state, name = known.drawn(seed, DIM).state_dict(), "random"
    else:
        state, name = _file_state(Path(wanted)), "file"
    backbone = known.check_fit(known.backbone(state), wanted)
    projection = known.projection(state) if name == "file" else None
    fits = projection and len(projection[0]) == dim
    return Weights(name, backbone, projection if fits else None, tensors_sha256(backbone))


def random_model(seed: int, encoder: str = MNASNET) -> Any:
    """An encoder with fresh weights of this seed, in eval mode; the caller's random state is left alone."""
    return architecture(encoder).drawn(seed, DIM)


def build_encoder(state: Mapping[str, Tensor], encoder: str = MNASNET) -> Any:
    """An encoder of exactly these tensors, in eval mode. Raises RuntimeError or ValueError where they do not fit."""
    return architecture(encoder).build(state)


def save_encoder(model: nn.Module) -> bytes:
    """The bytes of an `encoder.safetensors`: the same for the same weights."""
    state = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
    return safetensors.torch.save(state)


def load_encoder(data: bytes, encoder: str = MNASNET) -> Any:
    """The model of an `encoder.safetensors`. Raises WeightsError if it is none."""
    try:
        return build_encoder(safetensors.torch.load(data), encoder)
    except (safetensors.SafetensorError, RuntimeError, KeyError, ValueError) as error:
        raise WeightsError(f"encoder.safetensors does not hold an encoder: {one_line(error)}") from error


def has_batch_norms(model: nn.Module) -> bool:
    """Whether there is something to `calibrate`."""
    return any(isinstance(module, _BatchNorm) for module in model.modules())


@torch.no_grad()
def calibrate(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Set the BatchNorm statistics to those of `batches` (normalised frames, (n, 3, side, side)), in place: a plain
    average over them. Nothing else is in training mode, where some models drop blocks by chance.

    Without this a freshly initialised network in eval mode gives nearly the same embedding for every frame.
    """
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    for batch in batches:
        model(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()


def tensors_sha256(state: Mapping[str, Tensor]) -> str:
    """sha256 over names, types, shapes and bytes, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _file_state(path: Path) -> Mapping[str, Tensor]:
    if not path.is_file():
        if is_encoder(str(path)):
            raise SettingError(f"--weights {path}: is an encoder: give --encoder {path}, and leave --weights out")
        raise WeightsError(f"--weights: no such file: {path} (or one of: imagenet, random)")
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise WeightsError(f"{path}: {error.strerror}") from error
    except Exception as error:  # a damaged file can raise anything: KeyError, AssertionError, ...
        raise WeightsError(f"{path}: cannot be read as weights: {one_line(error)}") from error
    if not isinstance(state, Mapping) or not all(
        isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()
    ):
        raise WeightsError(f"{path}: expected a plain state dict of tensors, such as torchvision's own .pth files")
    return state
