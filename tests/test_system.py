import os

import pytest
import torch

from har_cache import system
from har_cache.system import cores, cpu_flags, cpu_quota, memory_bytes, one_thread

GIB = 1 << 30


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """Writes a tree of control groups, and the process's place in it."""

    def write(own, files):
        for name, text in files.items():
            path = tmp_path / "cgroup" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{text}\n")
        (tmp_path / "own").write_text("".join(f"{line}\n" for line in own))
        monkeypatch.setattr(system, "OWN_GROUPS", tmp_path / "own")
        return tmp_path / "cgroup"

    return write


V1 = ["4:memory:/box", "3:cpu,cpuacct:/box", "0::/"]


@pytest.mark.parametrize(
    ("own", "files", "quota"),
    [
        (["0::/"], {}, None),
        (["0::/"], {"cpu.max": "max 100000"}, None),
        (["0::/"], {"cpu.max": "250000 100000"}, 2.5),
        (["0::/"], {"cpu.max": "50000 100000"}, 0.5),
        (["0::/a/b"], {"a/b/cpu.max": "300000 100000"}, 3),
        (["0::/a/b"], {"a/b/cpu.max": "max 100000", "a/cpu.max": "200000 100000"}, 2),
        (["0::/a/b"], {"a/b/cpu.max": "400000 100000", "a/cpu.max": "200000 100000"}, 2),
        (["0::/a/b"], {"a/b/cpu.max": "100000 100000", "a/cpu.max": "200000 100000"}, 1),
        (["0::/a"], {"other/cpu.max": "100000 100000"}, None),
        (["0::/gone"], {"cpu.max": "200000 100000"}, 2),
        ([], {"cpu.max": "200000 100000"}, 2),
        (V1, {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        (V1, {"cpu/cpu.cfs_quota_us": "150000", "cpu/cpu.cfs_period_us": "100000"}, 1.5),
        (V1, {"cpu/box/cpu.cfs_quota_us": "150000", "cpu/box/cpu.cfs_period_us": "50000"}, 3),
        (V1, {"cpu/box/cpu.cfs_quota_us": "150000"}, None),
        (["2:cpuset:/a", "0::/"], {"cpu/cpu.cfs_quota_us": "200000", "cpu/cpu.cfs_period_us": "100000"}, 2),
    ],
)
def test_the_quota_is_the_smallest_of_all_groups_above_the_process(groups, own, files, quota):
    assert cpu_quota(groups(own, files)) == quota


def test_without_control_groups_there_is_no_quota(tmp_path, monkeypatch):
    monkeypatch.setattr(system, "OWN_GROUPS", tmp_path / "none")
    assert cpu_quota(tmp_path / "none") is None


@pytest.mark.parametrize(
    ("quota", "allowed", "expected"),
    [(None, 4, 4), (2.0, 4, 2), (2.9, 4, 2), (0.5, 4, 1), (8.0, 4, 4), (1.0, 1, 1), (None, 1, 1)],
)
def test_cores_are_cut_down_by_the_affinity_and_by_the_quota(monkeypatch, quota, allowed, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(allowed)), raising=False)
    monkeypatch.setattr(system, "cpu_quota", lambda: quota)
    assert cores() == expected


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
def test_cores_follow_the_affinity_of_this_process():
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert cores() == 1
    finally:
        os.sched_setaffinity(0, before)


def test_cores_where_the_system_knows_no_affinity(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    monkeypatch.setattr(system, "cpu_quota", lambda: None)
    assert cores() == 6


@pytest.mark.parametrize(
    ("own", "files", "limit"),
    [
        (["0::/"], {"memory.max": str(GIB)}, GIB),
        (["0::/a/b"], {"a/b/memory.max": "max", "a/memory.max": str(GIB)}, GIB),
        (["0::/a/b"], {"a/b/memory.max": str(2 * GIB), "a/memory.max": str(GIB)}, GIB),
        (V1, {"memory/memory.limit_in_bytes": str(GIB)}, GIB),
        (V1, {"memory/box/memory.limit_in_bytes": str(GIB), "memory/memory.limit_in_bytes": str(2 * GIB)}, GIB),
        (["0::/"], {"memory.max": "max"}, None),
        (V1, {"memory/memory.limit_in_bytes": "9223372036854771712"}, None),
        (["0::/"], {}, None),
    ],
)
def test_memory_is_the_machines_cut_down_by_the_smallest_limit(groups, monkeypatch, own, files, limit):
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 64 * GIB // 4096}.__getitem__)
    assert memory_bytes(groups(own, files)) == (limit or 64 * GIB)


@pytest.fixture
def cpuinfo(tmp_path, monkeypatch):
    def write(text):
        (tmp_path / "cpuinfo").write_text(text)
        monkeypatch.setattr(system, "_read", lambda path: (tmp_path / "cpuinfo").read_text())
        cpu_flags.cache_clear()

    yield write
    cpu_flags.cache_clear()


def test_cpu_flags_are_those_that_linux_tells(cpuinfo):
    cpuinfo("processor\t: 0\nflags\t\t: fpu avx2 avx512_bf16\n\nprocessor\t: 1\nflags\t\t: fpu avx2 avx512_bf16\n")
    assert cpu_flags() == {"fpu", "avx2", "avx512_bf16"}


def test_cpu_flags_are_empty_where_linux_does_not_tell(cpuinfo):
    cpuinfo("")
    assert cpu_flags() == frozenset()


def test_one_thread_is_given_back() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with one_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
