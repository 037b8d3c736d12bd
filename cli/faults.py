"""What is wrong with the machine, where an error of torch or Python says it: in one line, with what to do."""

import sys
from collections.abc import Collection
from typing import Any

from har_cache.devices import first_line

_OF_A_GPU = ("CUDA error", "CUDA out of memory", "cuDNN error", "CUDA driver error", "NVRTC", "NVML")


def thread_fault(error: RuntimeError) -> str | None:
    """Of a system that allows no more threads; None for another error."""
    return "the system allows no more threads (`ulimit -u`)" if "can't start new thread" in str(error) else None


def gpu_fault(error: RuntimeError, flags: Collection[str]) -> str | None:
    """What is wrong with a GPU, and what to do, in one line; None for an error of something else."""
    torch = sys.modules.get("torch")  # a command that has not imported it has no such error
    if torch is None:
        return None
    text = first_line(error)
    no_memory = isinstance(error, torch.OutOfMemoryError) or "out of memory" in text or "ALLOC_FAILED" in text
    if not isinstance(error, torch.OutOfMemoryError | torch.AcceleratorError) and not text.startswith(_OF_A_GPU):
        return None
    remedies = ["a smaller --batch-size"] if no_memory and "--batch-size" in flags else []
    remedies += ["another GPU with --device cuda:N", "--device cpu"] if "--device" in flags else []
    in_use = _memory_in_use(torch)
    what = f"the GPU is out of memory{f' ({in_use})' if in_use else ''}" if no_memory else f"the GPU failed: {text}"
    return f"{what}; " + (f"try {' or '.join(remedies)}" if remedies else "--debug shows where")


def _memory_in_use(torch: Any) -> str:
    """Of the GPU that this process uses; empty where that cannot be had, as after some errors."""
    try:
        device, (free, total) = torch.cuda.current_device(), torch.cuda.mem_get_info()
    except Exception:
        return ""
    return f"cuda:{device}: {(total - free) / 2**30:.1f} of {total / 2**30:.1f} GiB are in use"
