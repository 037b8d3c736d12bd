"""A CUDA device that computes nothing, on any machine: what a program asks of it, one operation after another.

torch's FakeTensorMode gives every tensor its shape, dtype, strides and device, and refuses operations whose tensors are
on two devices; nothing is computed, so that a tensor of 34 GB costs nothing either.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from har_cache.encoder import resize, transform

_CONVOLUTIONS = ("conv2d", "convolution", "cudnn_convolution", "cudnn_convolution_relu")
_MOVES = ("_to_copy", "copy_", "to")
_ASKED = ("equal", "allclose", "is_nonzero", "item", "_local_scalar_dense")
_FREE = ("empty", "empty_like", "empty_strided", "device", "detach", "lift_fresh")


@dataclass(frozen=True)
class Made:
    """A tensor that an operation gave. `bytes` are those of its elements; `new`: in memory of its own."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device
    bytes: int
    channels_last: bool
    new: bool


@dataclass(frozen=True)
class Operation:
    """An operation: its name without `aten.` and overload, the devices of the tensors that it was given, and what it
    gave. `kernels`: how many CUDA runs for it in eager mode, where a bias is added after cuDNN's convolution.
    `waits`: whether the program waits for the device here, to know a number.
    """

    name: str
    devices: frozenset[str]
    made: tuple[Made, ...]
    kernels: int
    waits: bool

    @property
    def is_convolution(self) -> bool:
        """Whether this is a convolution, with a ReLU in it or not."""
        return self.name in _CONVOLUTIONS

    @property
    def mixes_devices(self) -> bool:
        """Whether it reads tensors of several devices, and does not just move one to another."""
        return len(self.devices) > 1 and self.name not in _MOVES


class Recorded(list[Operation]):
    """The operations of a `fake_cuda`, in order; `clear()` forgets those so far."""

    @property
    def convolutions(self) -> list[Operation]:
        """The convolutions among them."""
        return [operation for operation in self if operation.is_convolution]

    @property
    def kernels(self) -> int:
        """Kernels that they run on the device."""
        return sum(operation.kernels for operation in self)

    @property
    def largest(self) -> int:
        """Bytes of the largest tensor that any of them made."""
        return max(made.bytes for operation in self for made in operation.made)

    @property
    def waits(self) -> int:
        """How often the program waits for the device to know a number."""
        return sum(operation.waits for operation in self)

    def count(self, name: str) -> int:  # type: ignore[override]
        """How many of them have this name."""
        return sum(operation.name == name for operation in self)


@contextmanager
def fake_cuda() -> Iterator[Recorded]:
    """Within it tensors are fake, those of the device "cuda" too; gives the list of what is done with them.

    Real tensors of the CPU may be used within; no tensor made within may be used outside. Whoever asks for a number
    that the device has computed is told that it is 1, and whoever asks whether something is so, that it is. RNNs and
    gradients cannot be had: torch asks the driver for them.
    """
    recorded = Recorded()
    _forget_constants()
    try:
        with FakeTensorMode(allow_non_fake_inputs=True), _Recorder(recorded):
            yield recorded
    finally:
        _forget_constants()


@contextmanager
def recorded() -> Iterator[Recorded]:
    """Gives the list of what is done with tensors within it; they are real ones."""
    recorded = Recorded()
    with _Recorder(recorded):
        yield recorded


def _forget_constants() -> None:
    """Constants that are kept from call to call: fake ones must not get out, nor real ones in."""
    for value in (*vars(transform).values(), *vars(resize).values()):
        if hasattr(value, "cache_clear"):
            value.cache_clear()


class _Recorder(TorchDispatchMode):
    def __init__(self, recorded: Recorded) -> None:
        super().__init__()
        self._recorded = recorded

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        theirs = {tensor.untyped_storage()._cdata for tensor in given}
        name = func._schema.name.partition("::")[2]
        asked = name in _ASKED and any(tensor.device.type == "cuda" for tensor in given)
        if asked:
            out: Any = True
        elif name == "cudnn_convolution_relu":
            out = _fused_convolution(*args, **kwargs)
        else:
            out = func(*args, **kwargs)
        made = tuple(_made(leaf, theirs) for leaf in tree_leaves(out) if isinstance(leaf, Tensor))
        devices = frozenset(str(tensor.device) for tensor in given)
        self._recorded.append(Operation(name, devices, made, _kernels(func, name, args, kwargs, made), asked))
        return out


def _made(tensor: Tensor, theirs: set[int]) -> Made:
    return Made(
        tuple(tensor.shape),
        tensor.stride(),
        tensor.dtype,
        tensor.device,
        tensor.numel() * tensor.element_size(),
        tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last),
        tensor.untyped_storage()._cdata not in theirs,
    )


def _kernels(func: Any, name: str, args: Sequence[Any], kwargs: Any, made: Sequence[Made]) -> int:
    """Views cost nothing, nor does memory that nothing is written to."""
    on_device = any(tensor.device.type == "cuda" for tensor in made)
    if not on_device or name in _FREE or not (func._schema.is_mutable or any(tensor.new for tensor in made)):
        return 0
    bias = args[2] if len(args) > 2 else kwargs.get("bias")
    return 2 if name in ("conv2d", "convolution") and bias is not None else 1


def _fused_convolution(x: Tensor, weight: Tensor, bias: Tensor | None, *shape: Any) -> Tensor:
    """What `cudnn_convolution_relu` gives: torch knows no fake of it."""
    stride, padding, dilation, groups = shape
    return torch.ops.aten.convolution(x, weight, bias, stride, padding, dilation, False, [0, 0], groups)
