"""The device "cuda" on the CPU, with its rounding: the same program, and the numbers that a GPU would come close to.

A convolution or product of low precision is summed in float32 and rounded once; a bias after it, a ReLU, a sum of two
tensors round again. With TF32 the inputs of products and convolutions have 10 bits after the point.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

Refuses = Callable[[Tensor, Tensor], bool]


@contextmanager
def emulated_cuda(refuses: Refuses = lambda x, weight: False, tf32: bool = False) -> Iterator[None]:
    """Within it, tensors that are moved to "cuda" stay on the CPU and are computed as said above.

    `refuses(x, weight)`: whether cuDNN has no kernel for a convolution with its ReLU. `tf32`: products and convolutions
    of float32 are in TF32, whatever the program asks for.
    """
    with _Emulated(refuses, tf32):
        yield


class _Emulated(TorchFunctionMode):
    def __init__(self, refuses: Refuses, tf32: bool) -> None:
        super().__init__()
        self._refuses, self._tf32 = refuses, tf32

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.device:
            return func(*args, **(kwargs or {}))
        args, kwargs = tree_map(_on_cpu, (args, kwargs or {}))
        if func is torch.cudnn_convolution_relu:
            return self._fused(*args)
        if func is torch.conv2d:
            return self._conv2d(*args, **kwargs)
        if func is F.linear and self._tf32:
            args = (_to_tf32(args[0]), _to_tf32(args[1]), *args[2:])
        return func(*args, **kwargs)

    def _conv2d(self, x: Tensor, weight: Tensor, bias: Tensor | None = None, *shape: Any) -> Tensor:
        y = self._exact(x, weight, *shape).to(x.dtype)
        return y if bias is None else y + bias.view(-1, 1, 1)

    def _fused(
        self, x: Tensor, weight: Tensor, bias: Tensor, stride: Any, padding: Any, dilation: Any, n: int
    ) -> Tensor:
        if self._refuses(x, weight):
            raise RuntimeError("GET was unable to find an engine to execute this computation\nTry something else")
        y = self._exact(x, weight, stride, padding, dilation, n) + bias.float().view(-1, 1, 1)
        return y.relu().to(x.dtype)

    def _exact(self, x: Tensor, weight: Tensor, *shape: Any) -> Tensor:
        if x.dtype == torch.float32 and self._tf32:
            x, weight = _to_tf32(x), _to_tf32(weight)
        return F.conv2d(x.float(), weight.float(), None, *shape)


def _on_cpu(value: Any) -> Any:
    if isinstance(value, torch.device) and value.type == "cuda":
        return torch.device("cpu")
    return "cpu" if isinstance(value, str) and value.partition(":")[0] == "cuda" else value


def _to_tf32(x: Tensor) -> Tensor:
    """To the nearest number with 10 bits after the point, of 23."""
    bits = x.view(torch.int32)
    return ((bits + 0x1000) & ~0x1FFF).view(torch.float32)
