"""Encoders by name."""

import difflib
from functools import cache

from ...errors import SettingError
from ...settings.names import MNASNET, TIMM
from .architecture import Architecture


@cache
def architecture(name: str = MNASNET) -> Architecture:
    """The encoder of this name: a classification model of torchvision, or `timm:NAME`. Raises SettingError where there
    is none, or timm is not installed.
    """
    if name.startswith(TIMM):
        from . import of_timm

        wanted = name.removeprefix(TIMM)
        if not of_timm.is_model(wanted):
            raise _unknown(name, "timm", wanted, of_timm.names(), "python -c 'import timm; print(timm.list_models())'")
        return of_timm.find(wanted)
    from . import of_torchvision  # only now: worker processes start twice as fast without torchvision

    if name not in of_torchvision.names():
        where = "https://docs.pytorch.org/vision/stable/models.html"
        raise _unknown(name, "torchvision", name, of_torchvision.names(), where)
    return of_torchvision.find(name)


def is_encoder(name: str) -> bool:
    """Whether there is an encoder of this name."""
    try:
        return bool(architecture(name))
    except SettingError:
        return False


def _unknown(asked: str, library: str, name: str, names: list[str], where: str) -> SettingError:
    prefix = asked.removesuffix(name)
    near = [f"{prefix}{known}" for known in difflib.get_close_matches(name, names, 4)]
    like = f"; near to it: {', '.join(near)}" if near else ""
    return SettingError(f"encoder {asked}: {library} has no classification model of this name{like}; all: {where}")
