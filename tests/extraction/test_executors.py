"""Devices for new caches and for existing ones."""

from pathlib import Path

import pytest

from har_cache import devices
from har_cache.errors import HarCacheError
from har_cache.extraction.executors import devices_for_existing, devices_for_new
from har_cache.settings.extraction import ExtractSettings

from ..helpers.caches import make_recipe

ON_GPU, ON_CPU = make_recipe(device="cuda"), make_recipe(device="cpu")


def settings(device: str, executor: str = "local") -> ExtractSettings:
    return ExtractSettings(data=Path("data"), cache=Path("CACHE"), device=device, executor=executor)


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> dict[str, str | None]:
    """The GPUs of this machine, each with what is wrong with it."""
    there: dict[str, str | None] = {"cuda:0": None, "cuda:1": None}
    monkeypatch.setattr(devices, "_visible", lambda: list(there))
    monkeypatch.setattr(devices, "_fault", there.__getitem__)
    return there


def test_a_new_cache_is_made_on_what_is_asked_for(gpus: dict[str, str | None]) -> None:
    assert devices_for_new(settings("cuda"), print) == ["cuda:0", "cuda:1"]
    assert devices_for_new(settings("cuda:1"), print) == ["cuda:1"]
    assert devices_for_new(settings("cpu", "ray"), print) == ["cpu"]
    with pytest.raises(HarCacheError, match="--executor ray runs on CPUs alone: add --device cpu"):
        devices_for_new(settings("auto", "ray"), print)


@pytest.mark.parametrize(
    ("device", "found"),
    [("auto", ["cuda:0", "cuda:1"]), ("cuda", ["cuda:0", "cuda:1"]), ("cuda:1", ["cuda:1"])],
)
def test_a_cache_of_a_gpu_goes_on_on_any(gpus: dict[str, str | None], device: str, found: list[str]) -> None:
    assert devices_for_existing(settings(device), ON_GPU, print) == found


def test_a_cache_of_a_gpu_goes_on_without_one_that_is_broken(gpus: dict[str, str | None]) -> None:
    gpus["cuda:0"] = "no kernels"
    said: list[str] = []
    assert devices_for_existing(settings("auto"), ON_GPU, said.append) == ["cuda:1"]
    assert said == ["WARNING: cuda:0 cannot be used: no kernels; going on with cuda:1"]


def test_a_cache_of_the_cpu_goes_on_there_though_there_is_a_gpu(gpus: dict[str, str | None]) -> None:
    assert devices_for_existing(settings("auto"), ON_CPU, print) == ["cpu"]
    assert devices_for_existing(settings("cpu", "ray"), ON_CPU, print) == ["cpu"]
    with pytest.raises(HarCacheError) as caught:
        devices_for_existing(settings("cuda:1"), ON_CPU, print)
    assert str(caught.value) == (
        "CACHE was made on the CPU, and goes on only there: add --device cpu, or extract into another --cache directory"
    )


@pytest.mark.parametrize(
    ("device", "there", "why"),
    [
        ("auto", {}, ", but torch sees no CUDA device here: go on where there is one"),
        ("cuda", {}, ", but torch sees no CUDA device here: go on where there is one"),
        ("auto", {"cuda:0": "no kernels"}, ", but cuda:0 cannot be used: no kernels: go on where there is one"),
        ("cuda:1", {"cuda:0": None}, ", but torch sees no cuda:1 here, only cuda:0: go on where there is one"),
        ("cpu", {}, ": leave --device cpu away"),
        ("cpu", {"cuda:0": None}, ": leave --device cpu away"),
    ],
)
def test_a_cache_of_a_gpu_that_cannot_go_on_says_where_it_does(
    gpus: dict[str, str | None], device: str, there: dict[str, str | None], why: str
) -> None:
    gpus.clear()
    gpus.update(there)
    with pytest.raises(HarCacheError) as caught:
        devices_for_existing(settings(device), ON_GPU, print)
    assert str(caught.value) == (
        f"CACHE was made on a GPU, and goes on only on one{why}, or extract into another --cache directory"
    )


def test_a_cache_of_a_gpu_does_not_go_on_on_a_cluster(gpus: dict[str, str | None]) -> None:
    with pytest.raises(HarCacheError) as caught:
        devices_for_existing(settings("auto", "ray"), ON_GPU, print)
    assert str(caught.value) == (
        "CACHE was made on a GPU, and goes on only on one: leave --executor ray away, or extract into another --cache "
        "directory"
    )
