"""What this machine offers to a process: cores, memory, instruction sets. Containers and quotas included."""

import math
import os
from functools import cache
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


def cores() -> int:
    """Cores this process may use: its affinity mask, cut down by a container's CPU quota, at least 1."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota()
    return max(1, min(allowed, math.floor(quota)) if quota else allowed)


def cpu_quota(root: Path = CGROUP) -> float | None:
    """The container's CPU quota in cores (cgroup v2, then v1), or None where there is none."""
    for folder in _own_groups(root):
        words = _read(folder / "cpu.max").split()
        if len(words) == 2 and words[0] != "max":
            return int(words[0]) / int(words[1])
    quota, period = (_read(root / "cpu" / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
    if quota and period and int(quota) > 0:
        return int(quota) / int(period)
    return None


def memory_bytes(root: Path = CGROUP) -> int:
    """Memory this process may use, in bytes: the machine's, cut down by a container's limit."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for file in (
        *(folder / "memory.max" for folder in _own_groups(root)),
        root / "memory/memory.limit_in_bytes",
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


def _own_groups(root: Path) -> list[Path]:
    """This process's cgroup v2 folder and those above it: the limits of all of them hold."""
    for line in _read(Path("/proc/self/cgroup")).splitlines():
        if line.startswith("0::"):
            own = root / line[3:].lstrip("/")
            return [own, *(p for p in own.parents if p.is_relative_to(root))]
    return [root]


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
