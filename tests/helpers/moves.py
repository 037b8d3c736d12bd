"""CUDA in name: a device that computes with the CPU, but where what is moved is moved, as on a GPU.

`to("cpu")` of what is on the CPU gives the tensor itself; `to("cuda")` gives another one, an inference tensor for good
where that happens in inference mode. A network that is moved in the wrong place fails on a GPU alone, and here.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from .precisions import IEEE, TF32, switches

CUDA = torch.device("cuda:0")
_PRODUCTS = {"linear", "conv1d", "conv2d", "gru", "lstm", "rnn_tanh", "matmul", "bmm", "affine_grid"}


# Whether gradients are recorded, and how products are computed: of what learns, of the frozen part of a network
# meanwhile, and of what judges.
LEARNING, FROZEN, JUDGING = (True, TF32), (False, TF32), (False, IEEE)


class CudaInName(TorchFunctionMode):
    """While this mode is entered, every tensor says that it is on CUDA, and calls that name CUDA work.

    `products`: how each product, convolution or RNN was computed, none of them under autocast: whether gradients were
    recorded, and the switches of `precisions`. `places`: the devices that were named.
    """

    def __init__(self) -> None:
        super().__init__()
        self.products: set[tuple[bool, tuple[Any, ...]]] = set()
        self.places: set[str] = set()
        self._there: dict[int, Any] = {}  # storages that were moved, by their address; kept, so that none has another's

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = getattr(function, "__name__", "")
        if function is torch.device or name == "_parse_to":
            return function(*args, **(kwargs or {}))
        if name == "__get__" and function.__self__ is Tensor.device:
            return CUDA
        if name in _PRODUCTS:
            assert not torch.is_autocast_enabled("cuda")
            self.products.add((torch.is_grad_enabled(), switches()))
        given = {key: self._named(value) for key, value in (kwargs or {}).items() if key != "pin_memory"}
        result = function(*map(self._named, args), **given)
        named = [str(value) for value in (*args, *(kwargs or {}).values()) if _is_device(value)]
        if name in ("to", "cpu") and (named or name == "cpu"):
            return self._moved(result, args[0], bool(named) and named[0].startswith("cuda"))
        return result

    def _named(self, value: Any) -> Any:
        if not _is_device(value):
            return value
        self.places.add(str(value))
        return torch.device("cpu")

    def _moved(self, result: Tensor, before: Tensor, there: bool) -> Tensor:
        if before.data_ptr() == result.data_ptr() and not (there and self._storage(before).data_ptr() in self._there):
            result = result.clone()
        if there:
            storage = self._storage(result)
            self._there[storage.data_ptr()] = storage
        return result

    @staticmethod
    def _storage(tensor: Tensor) -> Any:
        return tensor.untyped_storage()


def _is_device(value: Any) -> bool:
    return isinstance(value, torch.device) or (isinstance(value, str) and value.split(":")[0] in ("cuda", "cpu"))


class _Event:
    """Of the device's clock, which stands still."""

    def __init__(self, enable_timing: bool = False) -> None:
        pass

    def record(self, stream: object) -> None:
        pass

    def elapsed_time(self, later: "_Event") -> float:
        return 1.0


@contextmanager
def cuda_in_name(monkeypatch: pytest.MonkeyPatch, *modules: ModuleType) -> Iterator[CudaInName]:
    """The mode, entered; what these modules resolve as a device is CUDA. Its random numbers are the CPU's. Asserts that
    its switches are left as they were.
    """
    before = switches()
    with monkeypatch.context() as patch:
        for module in modules:
            patch.setattr(module, "resolve_device", lambda *asked: "cuda", raising=False)
            patch.setattr(module, "device_versions", lambda *devices: {}, raising=False)
        patch.setattr(torch.cuda, "get_rng_state", lambda device: torch.get_rng_state())
        patch.setattr(torch.cuda, "set_rng_state", lambda state, device: torch.set_rng_state(state))
        patch.setattr(torch.cuda, "Event", _Event)
        patch.setattr(torch.cuda, "current_stream", lambda device=None: None)
        patch.setattr(torch.cuda, "synchronize", lambda device=None: None)
        with CudaInName() as mode:
            yield mode
    assert switches() == before
