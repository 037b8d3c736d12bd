"""The machine, as a process sees it: cores, memory, instruction sets (containers and quotas included), versions,
interrupts.
"""

import contextlib
import importlib.metadata
import math
import os
import platform
import signal
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

_WORKER_BYTES = 1 << 30
_PACKAGES = (
    "har-cache",
    "torch",
    "torchvision",
    "onnxruntime",
    "decord",
    "av",
    "h5py",
    "numpy",
    "scikit-learn",
    "timm",
)
CGROUP = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")


def cores() -> int:
    """Cores this process may use: its affinity mask, cut down by a container's CPU quota, at least 1."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota()
    return max(1, min(allowed, math.floor(quota)) if quota else allowed)


def cpu_quota(root: Path = CGROUP) -> float | None:
    """The container's CPU quota in cores (cgroup v2, then v1), or None where there is none."""
    limits = [_read(folder / "cpu.max").split() for folder in _own_groups(root)]
    for folder in _own_groups(root, "cpu"):
        limits.append([_read(folder / f"cpu.cfs_{name}_us") for name in ("quota", "period")])
    # Where there is none, v2 says `max 100000`, v1 says -1 and 100000.
    quotas = [int(limit[0]) / int(limit[1]) for limit in limits if len(limit) == 2 and all(map(str.isdigit, limit))]
    return min(quotas, default=None)


def memory_bytes(root: Path = CGROUP) -> int:
    """Memory this process may use, in bytes: the machine's, cut down by a container's limit."""
    limits = [_read(folder / "memory.max") for folder in _own_groups(root)]
    limits += [_read(folder / "memory.limit_in_bytes") for folder in _own_groups(root, "memory")]
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([machine, *(int(limit) for limit in limits if limit.isdigit())])


@cache
def cpu_flags() -> frozenset[str]:
    """Instruction sets of this CPU by their Linux names (`avx512_bf16`, ...); empty where Linux does not tell."""
    return frozenset(_cpuinfo("flags").split())


def cpu_name() -> str:
    """What the processor is called."""
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def _cpuinfo(name: str) -> str:
    """Facts that Linux tells of the first core; empty where it does not."""
    lines = _read(Path("/proc/cpuinfo")).splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")


def _own_groups(root: Path, controller: str = "") -> list[Path]:
    """This process's cgroup folder and those above it: the limits of all of them hold. v1 names a controller."""
    top = root / controller
    for line in _read(OWN_GROUPS).splitlines():
        _, controllers, group = line.split(":", 2)
        if controller in controllers.split(","):
            own = top / group.lstrip("/")
            return [own, *(p for p in own.parents if p.is_relative_to(top))]
    return [top]


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def default_workers() -> int:
    """One worker a core, as far as memory goes."""
    return max(1, min(cores(), memory_bytes() // _WORKER_BYTES))


def repeat_products() -> None:
    """For cuBLAS, which reads it once: without it, its products on a GPU may differ in their last bits from one run to
    the next, and so would a training. Processes that are started later inherit it.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def limit_threads() -> None:
    """Not more threads than a container's CPU quota has cores: torch counts the machine's, and waits for all."""
    import torch

    if torch.get_num_threads() > cores():
        torch.set_num_threads(cores())


@contextmanager
def one_thread() -> Iterator[None]:
    """torch on one thread: sums are added up in one order on every machine, and what is small waits for nobody."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def describe() -> dict[str, Any]:
    """The machine for a report of measurements: CPU, cores, quota, memory, GPU, versions, and the code's commit."""
    import torch

    return {
        "cpu": cpu_name(),
        "cores": cores(),
        "cpu_quota": cpu_quota(),
        "memory_gib": round(memory_bytes() / 2**30, 1),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": platform.platform(terse=True),
        "versions": {"python": platform.python_version(), **versions()},
        "commit": _commit(),
    }


def versions(names: Iterable[str] = _PACKAGES) -> dict[str, str]:
    """Versions of these packages, as far as they are installed; by default of all that embedding and training use."""
    found = {}
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def version() -> str:
    """That of har-cache, `unknown` where it is not installed."""
    return versions(["har-cache"]).get("har-cache", "unknown")


def _commit() -> str | None:
    """The commit of the checkout that this code runs from, if it does."""
    root = Path(__file__).parents[1]
    if not (root / ".git").exists():
        return None
    try:
        run = subprocess.run(["git", "-C", root, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return run.stdout.strip()


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Put Ctrl-C off until the end: an import of compiled modules that is interrupted may raise anything. Processes
    that are started meanwhile never get it: it is this one's to handle.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
