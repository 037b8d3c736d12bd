from collections.abc import Iterator
from typing import Any

import pytest
import torch

from har_cache.encoder.fp32 import fp32_precision, true_fp32

from ..helpers.precisions import IEEE, TF32, switches

CUDA = torch.device("cuda")  # its switches can be set without one


@pytest.fixture(params=["highest", "high"])
def asked(request: pytest.FixtureRequest) -> Iterator[str]:
    """What a user asked of torch's products before."""
    backends: list[Any] = [torch.backends.cuda.matmul, torch.backends.mkldnn.matmul]
    legacy, before = torch.get_float32_matmul_precision(), [backend.fp32_precision for backend in backends]
    torch.set_float32_matmul_precision(request.param)
    yield request.param
    torch.set_float32_matmul_precision(legacy)
    for backend, theirs in zip(backends, before, strict=True):
        backend.fp32_precision = theirs


@pytest.fixture(params=[(False, False), (True, False), (False, True)])
def algorithms(request: pytest.FixtureRequest) -> Iterator[tuple[bool, bool]]:
    """cuDNN's `benchmark` and `deterministic` as they were before."""
    cudnn: Any = torch.backends.cudnn
    before = cudnn.benchmark, cudnn.deterministic
    cudnn.benchmark, cudnn.deterministic = request.param
    yield request.param
    cudnn.benchmark, cudnn.deterministic = before


@pytest.mark.parametrize("device", [CUDA, torch.device("cuda:1")])
def test_products_convolutions_and_rnns_are_true_fp32_and_what_was_set_comes_back(
    device: torch.device, asked: str, algorithms: tuple[bool, bool]
) -> None:
    before = switches()
    assert before[0] == ("tf32" if asked == "high" else "ieee") and before[3:] == algorithms
    with true_fp32(device):
        assert switches() == IEEE
    assert switches() == before
    with pytest.raises(KeyError), true_fp32(device):
        assert switches() == IEEE
        raise KeyError
    assert switches() == before


def test_tf32_is_as_much_the_same_every_time_and_the_inner_one_counts(asked: str) -> None:
    before = switches()
    with pytest.raises(KeyError), fp32_precision(CUDA, "tf32"):
        assert switches() == TF32
        with true_fp32(CUDA):
            assert switches() == IEEE
        assert switches() == TF32
        raise KeyError
    assert switches() == before


def test_a_cpu_s_switches_are_left_alone() -> None:
    before = switches()
    with true_fp32(torch.device("cpu")), fp32_precision(torch.device("cpu"), "tf32"):
        assert switches() == before


def test_torch_s_own_switches_are_not_those_of_true_fp32() -> None:
    """Else the tests above would show nothing."""
    assert switches() not in (IEEE, TF32)
