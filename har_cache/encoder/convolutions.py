"""Folded convolutions and blocks at work, in one dtype on one device, in as few passes over memory as that allows.

On CPUs convolutions of low precision run as oneDNN primitives whose weights are packed once and which add the bias,
the residual and the ReLU while the result is still in registers (measured: 1.3 times the frames per second of
`F.conv2d` in channels_last, four processes at once); `onnx_graph` computes fp32 there. On CUDA cuDNN computes bias and
ReLU with the convolution: 62 kernels for all blocks and 14 MB a frame in fp16, where torch's operators, one after
another, are 149 kernels and 36 MB.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .folded import FoldedBlock, FoldedConv

_CLOSE = 0.02  # of the largest number: bf16, rounded twice, is off by less


class Block:
    """A folded block in one dtype, on one device: (n, c, h, w) channels_last -> (n, c', h', w')."""

    def __init__(self, folded: FoldedBlock, dtype: torch.dtype, device: torch.device) -> None:
        self.convs = [_kind(conv, dtype, device)(conv, dtype, device) for conv in folded.convs]
        self.residual = folded.residual
        self.dtype = dtype

    def __call__(self, x: Tensor) -> Tensor:
        """The block's output; `x` may be overwritten."""
        x = x.to(self.dtype)
        y = x
        for conv in self.convs[:-1]:
            y = conv(y)
        return self.convs[-1](y, x if self.residual else None)


def _kind(folded: FoldedConv, dtype: torch.dtype, device: torch.device) -> "type[Conv | PackedConv]":
    if device.type == "cpu" and can_pack(dtype):
        return PackedConv
    return CudnnConv if device.type == "cuda" and folded.relu else Conv


class Conv:
    """Convolution, bias, residual and ReLU by torch's public operators."""

    def __init__(self, folded: FoldedConv, dtype: torch.dtype, device: torch.device) -> None:
        weight = torch.from_numpy(folded.weight).to(device, dtype)
        self.weight = weight.contiguous(memory_format=torch.channels_last)
        self.bias = torch.from_numpy(folded.bias).to(device, dtype) if folded.bias.any() else None
        self.shape = (folded.stride, folded.padding, 1, folded.groups)
        self.relu = folded.relu

    def __call__(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """The convolution of `x`, with `residual` added."""
        y = F.conv2d(x, self.weight, self.bias, *self.shape)
        if residual is not None:
            y += residual
        return y.relu_() if self.relu else y


class CudnnConv(Conv):
    """Convolution, bias and ReLU as one kernel of cuDNN, where it has one to rely on; else as `Conv` does them.

    The first input decides, for good, so one must be given before a CUDA graph is captured. It is never a matter of
    timing. `refused`: why there is no such kernel; empty where there is one, or before the first input.
    """

    def __init__(self, folded: FoldedConv, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__(folded, dtype, device)
        self.refused = ""
        self._decided = False

    def __call__(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """The convolution of `x`, with `residual` added."""
        if residual is not None or not len(x):
            return super().__call__(x, residual)
        if not self._decided:
            self.refused, self._decided = self._refusal(x), True
        return super().__call__(x) if self.refused else self._fused(x)

    def _fused(self, x: Tensor) -> Tensor:
        stride, padding, dilation, groups = self.shape
        square = [stride] * 2, [padding] * 2, [dilation] * 2
        return torch.cudnn_convolution_relu(x, self.weight, self.bias, *square, groups)

    def _refusal(self, x: Tensor) -> str:
        """Why inputs like `x` are not left to one kernel.

        torch lets this operator take algorithms that are not the same every time, and has it add 0 times what lies in
        its output's memory already, which must not be read then: 0 times NaN is NaN. So both are tried.
        """
        linear = F.conv2d(x, self.weight, self.bias, *self.shape)
        outputs = []
        try:
            for _ in range(2):
                torch.full_like(linear, math.nan)  # freed at once: the output gets its memory
                outputs.append(self._fused(x))
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as no_kernel:
            return str(no_kernel).strip().partition("\n")[0]
        if not torch.equal(*outputs):
            return "the same input gives other bits the second time"
        off, largest = (outputs[0] - linear.relu()).abs().max(), linear.abs().max()
        return "" if off <= _CLOSE * largest else f"off by {off:.2g} where the largest number is {largest:.2g}"


class PackedConv:
    """The same as one oneDNN primitive, its weights packed for the shape of the first input it meets."""

    def __init__(self, folded: FoldedConv, dtype: torch.dtype, device: torch.device) -> None:
        self.weight = torch.from_numpy(folded.weight).to(device, dtype)
        self.bias = torch.from_numpy(folded.bias).to(device, dtype)
        self.shape = ([folded.padding] * 2, [folded.stride] * 2, [1, 1], folded.groups)
        self.activation = "relu" if folded.relu else "none"

    def __call__(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """The convolution of `x`, with `residual` added; `residual` is overwritten."""
        ops = torch.ops.mkldnn
        if not self.weight.is_mkldnn:
            self.weight = ops._reorder_convolution_weight(self.weight, *self.shape, list(x.shape))
        if residual is None:
            return ops._convolution_pointwise(x, self.weight, self.bias, *self.shape, self.activation, [], "")
        return ops._convolution_pointwise_.binary(  # adds into `residual`, which nobody reads again
            residual, x, self.weight, self.bias, *self.shape, "add", 1.0, None, [], None
        )


def can_pack(dtype: torch.dtype) -> bool:
    """Whether this build of torch has oneDNN's fused convolutions (x86 builds have), and this CPU the dtype's."""
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_convolution_pointwise_"):
        return False
    low = {torch.float16: "_is_mkldnn_fp16_supported", torch.bfloat16: "_is_mkldnn_bf16_supported"}
    return dtype not in low or bool(getattr(torch.ops.mkldnn, low[dtype])())
