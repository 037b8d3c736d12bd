"""Models of timm, which the extra `timm` installs: by name, with the weights that it has them with."""

import contextlib
import logging
import math
import sys
from functools import partial
from types import ModuleType
from typing import Any

from torch import nn

from ...errors import SettingError, WeightsError
from ...settings.names import TIMM
from ..transform import Transform
from .architecture import Architecture, State, one_line, undrawn


def names() -> list[str]:
    """All that there are, without the prefix. Raises SettingError where timm is not installed."""
    return list(_timm().list_models())


def find(name: str) -> Architecture:
    """One of them, by its name without the prefix. Raises SettingError where timm is not installed, or the model cannot
    be an encoder here: its last layer is no `Linear`, or its transform does not end in a crop of the middle.
    """
    whole = f"{TIMM}{name}"
    with undrawn():
        model = make(name, 1)
    layer = model.get_classifier()
    if not isinstance(layer, nn.Linear):
        raise SettingError(f"encoder {whole}: its last layer is no Linear, which a projection could take the place of")
    path = next(path for path, module in model.named_modules() if module is layer)
    transform = _transform(whole, _timm().data.resolve_model_data_config(model))
    bias = layer.bias is not None
    return Architecture(whole, transform, partial(make, name), path, layer.in_features, bias, partial(_published, name))


def make(name: str, dim: int) -> Any:
    """The model with so many outputs, freshly drawn."""
    return _timm().create_model(name, pretrained=False, num_classes=dim)


def is_model(name: str) -> bool:
    """Whether there is one of this name. Raises SettingError where timm is not installed."""
    return bool(_timm().is_model(name))


def _timm() -> ModuleType:
    try:
        import timm
        import timm.data
    except ImportError as error:
        raise SettingError(
            f"--encoder timm:... needs timm ({one_line(error)}), which the extra `timm` installs: pip install timm"
        ) from error
    return timm


def _transform(name: str, config: dict[str, Any]) -> Transform:
    _, height, width = config["input_size"]
    kernel, mode = config["interpolation"], config.get("crop_mode", "center")
    if height != width or kernel not in ("bilinear", "bicubic") or mode not in (None, "center"):
        raise SettingError(
            f"encoder {name}: its transform ({kernel}, crop {mode} of {height}x{width}) is none that this version knows"
        )
    resize = math.floor(height / (config["crop_pct"] or 1))  # as timm.data.transforms_factory has it
    return Transform(resize, height, kernel, True, tuple(config["mean"]), tuple(config["std"]))


def _published(name: str) -> State:
    """By timm's own code, from the Hugging Face Hub or where else timm has them, as it checks them."""
    logging.getLogger("timm").setLevel(logging.WARNING)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            return _timm().create_model(name, pretrained=True, num_classes=1).state_dict()
    except Exception as error:  # the Hub's client has errors of its own, and timm raises RuntimeError for want of it
        raise WeightsError(
            f"published weights of {TIMM}{name} cannot be had ({one_line(error)}). Let timm fetch them on a machine "
            "with a network and copy its cache ($HF_HOME), or pass a file with --weights PATH; --weights random is for "
            "demos and tests"
        ) from error
