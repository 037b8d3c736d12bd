"""What this machine offers to a process: cores, memory, instruction sets. Containers and quotas included."""

import math
import os
from functools import cache
from pathlib import Path

from .errors import HarCacheError

_WORKER_BYTES = 1 << 30
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
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for file in (
        *(folder / "memory.max" for folder in _own_groups(root)),
        *(folder / "memory.limit_in_bytes" for folder in _own_groups(root, "memory")),
    ):
        text = _read(file)
        if text.isdigit():
            limits.append(int(text))
    return min(limits)


@cache
def cpu_flags() -> frozenset[str]:
    """Instruction sets of this CPU by their Linux names (`avx512_bf16`, ...); empty where Linux does not tell."""
    for line in _read(Path("/proc/cpuinfo")).splitlines():
        if line.startswith("flags"):
            return frozenset(line.split(":", 1)[1].split())
    return frozenset()


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


def resolve_device(name: str) -> str:
    """`cpu` or `cuda` for `auto`, `cpu`, `cuda`. Raises HarCacheError where there is no such device."""
    import torch  # only here: most that this module tells needs no torch

    if name not in ("auto", "cpu", "cuda"):
        raise HarCacheError(f"--device {name}: expected auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise HarCacheError("--device cuda: torch sees no CUDA device here; use --device cpu")
    return "cuda" if name != "cpu" and torch.cuda.is_available() else "cpu"


def default_workers() -> int:
    """One worker a core, as far as memory goes."""
    return max(1, min(cores(), memory_bytes() // _WORKER_BYTES))
