"""Folded blocks in fp32 as one graph of ONNX Runtime: what computes them fastest on CPUs.

Measured, one frame at a time, four 1-thread processes at once: 1.8 times the frames per second of oneDNN's convolutions
for the first six blocks, 1.2 times for all of them. A call costs less, and what it passes on stays in the CPU's cache.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from .folded import FoldedBlock, FoldedConv
from .transform import CROP, scale_and_shift

_OPSET, _IR_VERSION = 17, 9  # no newer than needed


class Graph:
    """Normalisation and the first blocks of a network, on the CPU, on as many threads as torch uses.

    `graph(crops)`: what `crop` gives, float32 (n, 3, 224, 224) -> float32 (n, c, h, w).
    """

    def __init__(self, blocks: Sequence[FoldedBlock]) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # leave the cores to others meanwhile
        self._session = onnxruntime.InferenceSession(_model(blocks), options, providers=["CPUExecutionProvider"])

    def __call__(self, crops: Tensor) -> Tensor:
        """The blocks' output."""
        pixels = crops.permute(0, 2, 3, 1).contiguous()  # as `crop` has them in memory
        (output,) = self._session.run(None, {"pixels": pixels.numpy()})
        return torch.from_numpy(output)


def _model(blocks: Sequence[FoldedBlock]) -> bytes:
    """The graph: pixels (n, 224, 224, 3) of 0 to 255 in, the last block's output (n, c, h, w) out."""
    graph = _GraphBuilder()
    scale, shift = (values.reshape(3, 1, 1) for values in scale_and_shift())
    x = graph.add("Transpose", ["pixels"], perm=[0, 3, 1, 2])
    x = graph.add("Mul", [x, graph.keep(scale)])
    x = graph.add("Add", [x, graph.keep(shift)])
    for block in _merged(blocks):
        y = x
        for conv in block.convs:
            y = graph.convolve(y, conv)
        x = graph.add("Add", [y, x]) if block.residual else y
    return graph.finish("pixels", ["n", CROP, CROP, 3], x)


class _GraphBuilder:
    """Nodes and constants of a graph, added one by one."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._tensors: list[onnx.TensorProto] = []

    def add(self, operator: str, inputs: Sequence[str], **attributes: Any) -> str:
        """A node; gives the name of its output."""
        output = f"y{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def keep(self, values: np.ndarray) -> str:
        """A constant; gives its name."""
        self._tensors.append(numpy_helper.from_array(values, f"c{len(self._tensors)}"))
        return str(self._tensors[-1].name)

    def convolve(self, x: str, conv: FoldedConv) -> str:
        """A convolution with its bias and ReLU."""
        inputs = [x, self.keep(conv.weight), self.keep(conv.bias)]
        y = self.add("Conv", inputs, strides=[conv.stride] * 2, pads=[conv.padding] * 4, group=conv.groups)
        return self.add("Relu", [y]) if conv.relu else y

    def finish(self, name: str, shape: Sequence[int | str], output: str) -> bytes:
        """The model from the input of this name to `output`."""
        given = helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        found = helper.make_tensor_value_info(output, TensorProto.FLOAT, ["n", "c", "h", "w"])
        graph = helper.make_graph(self._nodes, "blocks", [given], [found], self._tensors)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)
        return bytes(model.SerializeToString())


def _merged(blocks: Iterable[FoldedBlock]) -> list[FoldedBlock]:
    """The blocks, with 1x1 convolutions that follow each other without a ReLU multiplied into one, where that is hardly
    more work, for a pass over memory less: the end of the stem and the start of the first inverted residual.
    """
    merged = list(blocks)
    for i in range(len(merged) - 1):
        before, after = merged[i], merged[i + 1]
        first, second = before.convs[-1], after.convs[0]
        if len(after.convs) > 1 and _can_merge(first, second) and not (before.residual or after.residual):
            merged[i] = replace(before, convs=(*before.convs[:-1], _product(first, second)))
            merged[i + 1] = replace(after, convs=after.convs[1:])
    return merged


def _can_merge(first: FoldedConv, second: FoldedConv) -> bool:
    small = all(conv.weight.shape[2:] == (1, 1) and conv.groups == conv.stride == 1 for conv in (first, second))
    outputs, inputs = second.weight.shape[0], first.weight.shape[1]
    return small and not first.relu and outputs * inputs <= 1.5 * (first.weight.size + second.weight.size)


def _product(first: FoldedConv, second: FoldedConv) -> FoldedConv:
    """One 1x1 convolution that does what two in a row do."""
    a, b = (conv.weight[:, :, 0, 0].astype(np.float64) for conv in (first, second))
    weight, bias = b @ a, b @ first.bias + second.bias
    return replace(second, weight=weight[:, :, None, None].astype(np.float32), bias=bias.astype(np.float32))
