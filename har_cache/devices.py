"""The devices that torch computes on: chosen by name, tried out, and what decides on the bits that they compute."""

import ctypes
import logging
import warnings
from collections.abc import Callable, Mapping

from .errors import HarCacheError

# Where these change, the last bits of what a GPU computes may.
_DECISIVE = ("gpu", "compute_capability", "driver", "cuda", "cudnn", "torch")

SEVERAL = " / "  # between versions, where there were several

Say = Callable[[str], None]
warn: Say = logging.getLogger(__name__).warning  # a line on stderr, where nobody has said otherwise


def resolve_device(name: str, say: Say = warn) -> str:
    """The device that `auto`, `cpu`, `cuda` (the first GPU) or `cuda:N` means, tried out; a GPU is then this process's
    current one.

    `say` is told where `auto` finds a GPU that cannot be used, and takes the CPU. Raises HarCacheError where a device
    that is named cannot be used.
    """
    first = resolve_devices(name, say, most=1)[0]
    if first != "cpu":
        use_device(first)
    return first


def resolve_devices(name: str, say: Say = warn, most: int | None = None) -> list[str]:
    """The devices that `auto`, `cpu`, `cuda`, `cuda:N` or `cuda:N,M` means, tried out: `cpu`, or GPUs as `cuda:N`, for
    `auto` and `cuda` all that there are, at most `most`. Otherwise as `resolve_device`.
    """
    if name == "cpu" or (name == "auto" and not _visible()):
        return ["cpu"]
    try:
        return gpus(name, say, most)
    except HarCacheError as error:
        if name != "auto":
            raise HarCacheError(f"--device {name}: {error}; --device cpu takes the CPU") from error
        say(f"WARNING: {error}; going on with the CPU")
        return ["cpu"]


def gpus(name: str, say: Say = warn, most: int | None = None) -> list[str]:
    """The GPUs that `auto`, `cuda` (both: all, or `most`), `cuda:N` or `cuda:N,M` means, tried out.

    `say` is told of those that `auto` leaves out, since they cannot be used. Raises HarCacheError where none is left,
    or one that is named cannot be used: it says why.
    """
    there = _visible()
    if not there:
        raise HarCacheError("torch sees no CUDA device here")
    numbers = name.replace(",cuda:", ",").partition(":")[2]
    named = [f"cuda:{int(number)}" for number in numbers.split(",")] if numbers else there
    if lacking := [device for device in named if device not in there]:
        raise HarCacheError(f"torch sees no {lacking[0]} here, only {', '.join(there)}")
    found: list[str] = []
    faults = []
    for device in named[:most] if name == "cuda" else named:
        if len(found) == most:
            break
        if fault := _fault(device):
            faults.append(f"{device} cannot be used: {fault}")
        else:
            found.append(device)
    if faults and (name != "auto" or not found):
        raise HarCacheError("; ".join(faults))
    if faults:
        say(f"WARNING: {'; '.join(faults)}; going on with {', '.join(found)}")
    return found


def kind_of(device: str) -> str:
    """`cpu` or `cuda`, of a device by name."""
    return device.partition(":")[0]


def _visible() -> list[str]:
    import torch  # only here: most that this module tells needs no torch

    return [f"cuda:{i}" for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []


def _fault(device: str) -> str | None:
    """Why nothing can be computed on a GPU, in one line; None where it can. That torch sees it does not say so: its
    wheels lack kernels for old ones, its memory may be taken, its driver broken.
    """
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of several lines, for a GPU that is too old
            torch.zeros(1, device=device) + 1
            torch.cuda.synchronize(device)
    except Exception as error:  # of any class: what is lazily initialised may fail in any way
        return first_line(error)
    return None


def first_line(error: BaseException) -> str:
    """The first line of an error's text, or its class where it has none: torch's go on with advice to developers."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300].rstrip(".") if lines else type(error).__name__


def use_device(device: str) -> None:
    """Make a GPU this process's current one: what names no device means it, and no other one is touched."""
    import torch

    torch.cuda.set_device(device)


MACHINE_VERSIONS = ("torch", "gpu", "compute_capability", "driver", "cuda", "cudnn", "torch_kernels")


def device_versions(*devices: str) -> dict[str, str]:
    """What decides, beside packages, on the bits that GPUs compute: their names and compute capabilities, the driver,
    CUDA, cuDNN, and what torch has kernels for; without a GPU among `devices` nothing.
    """
    gpus = [device for device in devices if device != "cpu"]
    if not gpus:
        return {}
    import torch

    found = [torch.cuda.get_device_properties(device) for device in gpus]
    told = {
        "gpu": ", ".join(sorted({each.name for each in found})),
        "compute_capability": ", ".join(sorted({f"{each.major}.{each.minor}" for each in found})),
        "driver": _driver(),
        "cuda": torch.version.cuda or "",
        "cudnn": str(torch.backends.cudnn.version() or ""),
        "torch_kernels": " ".join(torch.cuda.get_arch_list()),
    }
    return {name: value for name, value in told.items() if value}


def changed_versions(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """What decides on the bits that a GPU computes and is another one now, as `driver 1, now 2`, as far as both say.
    `before` may tell of several, between slashes.
    """
    return [
        f"{name} {before[name]}, now {now[name]}"
        for name in _DECISIVE
        if name in before and name in now and now[name] not in before[name].split(SEVERAL)
    ]


def _driver() -> str:
    """The version of NVIDIA's driver; empty where it does not tell. torch knows that of CUDA alone."""
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
        version = ctypes.create_string_buffer(80)
        if nvml.nvmlInit_v2() or nvml.nvmlSystemGetDriverVersion(version, len(version)):
            return ""
        nvml.nvmlShutdown()
    except (OSError, AttributeError):
        return ""
    return version.value.decode(errors="replace")
