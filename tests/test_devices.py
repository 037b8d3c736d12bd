import logging
from types import SimpleNamespace

import pytest
import torch

from har_cache import devices
from har_cache.devices import changed_versions, device_versions, resolve_device, resolve_devices
from har_cache.errors import HarCacheError

TOO_OLD = "CUDA error: no kernel image is available for execution on the device\nFor debugging consider ..."


@pytest.fixture
def machine(monkeypatch):
    """A machine of so many GPUs, of which the ones by number raise these errors; gives the current one, if any."""
    chosen = []

    def install(count, faults=()):
        zeros = torch.zeros

        def fake_zeros(*size, device="cpu"):
            number = torch.device(device).index
            if number in faults:
                raise faults[number]
            return zeros(*size)

        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch, "zeros", fake_zeros)
        monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
        monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
        return chosen

    return install


@pytest.mark.parametrize(
    ("count", "name", "one", "several"),
    [
        (0, "cpu", "cpu", ["cpu"]),
        (0, "auto", "cpu", ["cpu"]),
        (2, "cpu", "cpu", ["cpu"]),
        (1, "auto", "cuda:0", ["cuda:0"]),
        (3, "auto", "cuda:0", ["cuda:0", "cuda:1", "cuda:2"]),
        (3, "cuda", "cuda:0", ["cuda:0", "cuda:1", "cuda:2"]),
        (3, "cuda:1", "cuda:1", ["cuda:1"]),
        (3, "cuda:2,0", None, ["cuda:2", "cuda:0"]),
        (3, "cuda:0,cuda:2", None, ["cuda:0", "cuda:2"]),
    ],
)
def test_devices_by_name(machine, count, name, one, several):
    current, said = machine(count), []
    assert resolve_devices(name, said.append) == several
    assert current == []
    if one:
        assert resolve_device(name, said.append) == one
        assert current == ([] if one == "cpu" else [one])
    assert said == []


@pytest.mark.parametrize("resolve", [resolve_device, resolve_devices])
@pytest.mark.parametrize(
    ("count", "name", "message"),
    [
        (0, "cuda", "--device cuda: torch sees no CUDA device here; --device cpu takes the CPU"),
        (0, "cuda:1", "--device cuda:1: torch sees no CUDA device here; --device cpu takes the CPU"),
        (2, "cuda:2", "--device cuda:2: torch sees no cuda:2 here, only cuda:0, cuda:1; --device cpu takes the CPU"),
    ],
)
def test_a_device_that_is_not_there_is_refused(machine, resolve, count, name, message):
    machine(count)
    with pytest.raises(HarCacheError) as caught:
        resolve(name)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (RuntimeError(TOO_OLD), "CUDA error: no kernel image is available for execution on the device"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 MiB."), "CUDA out of memory. Tried"),
        (torch.cuda.DeferredCudaCallError("no driver"), "no driver"),
        (OSError(), "OSError"),
    ],
)
def test_a_gpu_that_cannot_compute_is_left_by_auto_and_refused_by_name(machine, error, cause):
    current, said = machine(1, {0: error}), []
    assert resolve_device("auto", said.append) == "cpu" and resolve_devices("auto", said.append) == ["cpu"]
    assert len(said) == 2 and current == []
    assert all(line.startswith(f"WARNING: cuda:0 cannot be used: {cause}") for line in said)
    assert all(line.endswith("; going on with the CPU") and "\n" not in line for line in said)
    for name in ("cuda", "cuda:0"):
        with pytest.raises(HarCacheError) as caught:
            resolve_device(name)
        assert str(caught.value).startswith(f"--device {name}: cuda:0 cannot be used: {cause}")
        assert "--device cpu" in str(caught.value) and "\n" not in str(caught.value)


def test_auto_takes_the_gpus_that_can_be_used(machine):
    said: list[str] = []
    machine(3, {0: RuntimeError(TOO_OLD)})
    assert resolve_devices("auto", said.append) == ["cuda:1", "cuda:2"]
    assert resolve_device("auto", said.append) == "cuda:1"
    assert [line.rpartition("; ")[2] for line in said] == ["going on with cuda:1, cuda:2", "going on with cuda:1"]
    assert resolve_device("cuda:1") == "cuda:1"  # one that is not asked for is not tried
    with pytest.raises(HarCacheError, match="cuda:0 cannot be used"):
        resolve_devices("cuda")


def test_where_nobody_listens_a_warning_is_logged(machine, caplog):
    machine(1, {0: RuntimeError(TOO_OLD)})
    resolve_device("auto")
    assert [record.levelno for record in caplog.records] == [logging.WARNING] and "cuda:0" in caplog.text


def test_what_decides_on_a_gpus_bits(monkeypatch):
    gpus = {"cuda:0": ("NVIDIA B", 9, 0), "cuda:1": ("NVIDIA A", 8, 0), "cuda:2": ("NVIDIA B", 9, 0)}

    def properties(device):
        name, major, minor = gpus[device]
        return SimpleNamespace(name=name, major=major, minor=minor)

    monkeypatch.setattr(torch.cuda, "get_device_properties", properties)
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_80", "sm_90"])
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 92400)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(devices, "_driver", lambda: "")
    same = {"cuda": "13.0", "cudnn": "92400", "torch_kernels": "sm_80 sm_90"}
    assert device_versions("cuda:0", "cuda:2") == {"gpu": "NVIDIA B", "compute_capability": "9.0", **same}
    assert device_versions("cuda:0", "cuda:1") == {
        "gpu": "NVIDIA A, NVIDIA B",
        "compute_capability": "8.0, 9.0",
        **same,
    }
    monkeypatch.setattr(devices, "_driver", lambda: "570.1")
    assert device_versions("cuda:0")["driver"] == "570.1"
    assert device_versions("cpu") == device_versions() == {}


def test_a_driver_that_does_not_tell_its_version_is_left_out(monkeypatch):
    def missing(name):
        raise OSError

    monkeypatch.setattr("ctypes.CDLL", missing)
    assert devices._driver() == ""
    broken = SimpleNamespace(nvmlInit_v2=lambda: 9, nvmlSystemGetDriverVersion=lambda version, size: 9)
    monkeypatch.setattr("ctypes.CDLL", lambda name: broken)
    assert devices._driver() == ""


def test_the_driver_tells_its_version(monkeypatch):
    def version(buffer, size):
        buffer.value = b"570.86.15"
        return 0

    library = SimpleNamespace(nvmlInit_v2=lambda: 0, nvmlSystemGetDriverVersion=version, nvmlShutdown=lambda: 0)
    monkeypatch.setattr("ctypes.CDLL", lambda name: library)
    assert devices._driver() == "570.86.15"


@pytest.mark.parametrize(
    ("before", "now", "changed"),
    [
        ({}, {"gpu": "A"}, []),
        ({"gpu": "A"}, {}, []),
        ({"gpu": "A", "numpy": "1"}, {"gpu": "A", "numpy": "2"}, []),
        ({"gpu": "A", "torch": "2"}, {"gpu": "B", "torch": "3"}, ["gpu A, now B", "torch 2, now 3"]),
        ({"driver": "1 / 2"}, {"driver": "2"}, []),
        ({"driver": "1 / 2"}, {"driver": "3"}, ["driver 1 / 2, now 3"]),
    ],
)
def test_versions_that_have_changed(before, now, changed):
    assert changed_versions(before, now) == changed


def test_kinds_of_devices():
    assert [devices.kind_of(name) for name in ("cpu", "cuda", "cuda:3")] == ["cpu", "cuda", "cuda"]
