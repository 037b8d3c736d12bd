"""Classification models of torchvision: by name, with the weights that its own enumeration calls the default ones."""

import contextlib
import pickle
import re
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import nn
from torchvision import models
from torchvision.transforms.functional import InterpolationMode

from ...errors import FileError, SettingError, WeightsError
from ...settings.names import MNASNET
from ...storage.files import file_sha256
from ..transform import Transform
from .architecture import Architecture, State, one_line, undrawn

# What models need to be told to be those that published weights are of, without outputs that only training has.
_ARGUMENTS: dict[str, dict[str, Any]] = {
    name: {"aux_logits": False, "transform_input": True, "init_weights": False}
    for name in ("googlenet", "inception_v3")
}
_AUXILIARY = re.compile(r"aux\d|AuxLogits\.")
_DENSE = re.compile(r"(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\..*)")  # names as they once were
_KERNELS = {InterpolationMode.BILINEAR: "bilinear", InterpolationMode.BICUBIC: "bicubic"}


def names() -> list[str]:
    """All that there are."""
    return list(models.list_models(module=models))


def find(name: str) -> Architecture:
    """One of them. Raises SettingError where its last layer is no `Linear`."""
    with undrawn():
        model = make(name, 1)
    linear = [(path, layer) for path, layer in model.named_modules() if isinstance(layer, nn.Linear)]
    if not linear or linear[-1][1].out_features != 1:
        raise SettingError(f"encoder {name}: its last layer is no Linear, which a projection could take the place of")
    path, layer = linear[-1]
    weights = models.get_model_weights(name).DEFAULT
    bias = layer.bias is not None
    return Architecture(
        name, _transform(weights), partial(make, name), path, layer.in_features, bias, partial(_published, weights)
    )


def make(name: str, dim: int) -> nn.Module:
    """The model with so many outputs, freshly drawn. MNASNet's classifier is one layer, without the dropout."""
    if name != MNASNET:
        return models.get_model(name, weights=None, num_classes=dim, **_ARGUMENTS.get(name, {}))
    model = models.mnasnet0_5(weights=None)
    model.classifier = nn.Linear(model.classifier[-1].in_features, dim)
    return model


def _transform(weights: Any) -> Transform:
    preset = weights.transforms()
    (resize,), (crop,) = preset.resize_size, preset.crop_size
    return Transform(resize, crop, _KERNELS[preset.interpolation], False, tuple(preset.mean), tuple(preset.std))


def _published(weights: Any) -> State:
    """Hash-checked, and without what only training needs."""
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    try:
        _check_hash(folder / PurePosixPath(weights.url).name)
        with contextlib.redirect_stdout(sys.stderr):  # torch.hub says there what it downloads
            state = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (
        FileError,
        OSError,
        RuntimeError,
        pickle.UnpicklingError,
    ) as error:  # no network; a file whose hash does not match
        raise WeightsError(
            f"ImageNet weights cannot be had ({one_line(error)}). Fetch {weights.url} on a machine with a network "
            f"and put it into {folder}, or pass the file with --weights PATH; --weights random is for demos and tests"
        ) from error
    return renamed(state)


def renamed(state: State) -> State:
    """The tensors of a published file by the names that they have in the model."""
    kept: Mapping[str, Any] = {name: tensor for name, tensor in state.items() if not _AUXILIARY.match(name)}
    return {_DENSE.sub(r"\1\2", name): tensor for name, tensor in kept.items()}


def _check_hash(file: Path) -> None:
    """Check a file that is there already: torch.hub compares only what it downloads with the hash in its name."""
    wanted = file.stem.rpartition("-")[2]
    if file.exists() and not file_sha256(file).startswith(wanted):
        raise RuntimeError(f"{file} is not the published file: its sha256 does not begin with {wanted}; remove it")
