"""Options that several commands have."""

from typing import Any

from ..options import option
from .names import DEVICE, DEVICES, FORMATS


def share_option(default: float, help: str) -> Any:
    """A share: from 0 to less than 1."""
    return option(default, help, least=0, below=1)


def device_option(help: str = "Where to compute; auto: a GPU where there is one, cuda: the first.") -> Any:
    """One device."""
    forms = "one device: auto, cpu, cuda or cuda:N"
    return option("auto", help, pattern=DEVICE, expected=forms, metavar="auto|cpu|cuda|cuda:N")


def devices_option() -> Any:
    """One device, or several GPUs."""
    forms = "auto, cpu, cuda, cuda:N, or GPUs as cuda:0,2"
    help = "Where to compute; auto: on GPUs where there are any, cuda: on all, cuda:0,2: on these."
    return option("auto", help, pattern=DEVICES, expected=forms, metavar="auto|cpu|cuda|cuda:N,...")


def workers_option(help: str = "Worker processes; default: one per core.") -> Any:
    """How many worker processes."""
    return option(None, help, least=1)


def stall_option() -> Any:
    """How long a decoder may give nothing."""
    help = "Give up on a clip whose decoder gives no frame for so long."
    return option(60.0, help, flag="stall-timeout", aliases=("clip-timeout",), above=0, metavar="SECONDS")


def table_format_option() -> Any:
    """What tables are printed as."""
    return option("text", "Format of the printed tables.", choices=FORMATS)
