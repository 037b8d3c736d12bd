"""The head's RNNs in a form that can be exported for any number of frames.

torch traces its own RNNs by going through the steps of the example one by one, and the length of the example then
stays in what is exported (https://github.com/pytorch/pytorch/issues/126339). torch's exporter to ONNX has had RNNs of
its own since, but it freezes the number of frames where two of them read a clip in both directions
(https://github.com/pytorch/pytorch/issues/191855), and wrote GRUs that are wrong without a word
(https://github.com/pytorch/pytorch/issues/189225). Here a whole RNN is one operator while the network is traced; then
it becomes what a program without har-cache knows: ATen's own RNN, or that of ONNX.
"""

import copy
import operator
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from ..model.network import CNNBidirectionalRNN
from ..model.temporal import BidirectionalRNN

_KERNELS: dict[str, Any] = {"gru": torch.gru, "lstm": torch.lstm, "rnn": torch.rnn_tanh}
_ATEN = {"gru": torch.ops.aten.gru.input, "lstm": torch.ops.aten.lstm.input, "rnn": torch.ops.aten.rnn_tanh.input}
# Biases, one layer, no dropout, not training, one direction, batch first.
_FIXED = (True, 1, 0.0, False, False, True)
_GATES = {"gru": (1, 0, 2), "lstm": (0, 3, 1, 2), "rnn": (0,)}  # torch's, in the order of ONNX


@torch.library.custom_op("har_cache::rnn", mutates_args=())
def _rnn(x: Tensor, start: Tensor, weights: list[Tensor], cell: str) -> Tensor:
    """(b, t, inputs), zeros (1, b, hidden), the four weights of a layer -> (b, t, hidden)."""
    return _KERNELS[cell](x, _state(start, cell), weights, *_FIXED)[0]


@_rnn.register_fake
def _(x: Tensor, start: Tensor, weights: list[Tensor], cell: str) -> Tensor:
    return x.new_empty(x.shape[0], x.shape[1], start.shape[2])


class _Traceable(nn.Module):
    """One direction of a layer; called as torch's modules are."""

    def __init__(self, layer: nn.RNNBase, cell: str) -> None:
        super().__init__()
        names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
        self.weights = nn.ParameterList(getattr(layer, name) for name in names)
        self.cell, self.hidden = cell, layer.hidden_size

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """(b, t, inputs) -> (b, t, hidden), as the only one of a tuple."""
        start = x.new_zeros(1, x.shape[0], self.hidden)
        return (_rnn(x, start, list(self.weights), self.cell),)


def traceable(network: CNNBidirectionalRNN) -> CNNBidirectionalRNN:
    """A copy of the network that gives the same, and whose RNNs `torch.export` keeps as one operator each."""
    network = copy.deepcopy(network)
    for layer in [module for module in network.head.modules() if isinstance(module, BidirectionalRNN)]:
        layer.forwards = _Traceable(cast(nn.RNNBase, layer.forwards), layer.cell)
        layer.backwards = _Traceable(cast(nn.RNNBase, layer.backwards), layer.cell)
    return network


def to_aten(program: ExportedProgram) -> ExportedProgram:
    """The program with ATen's RNNs in place of ours, so that it can be loaded where there is no har-cache."""
    graph = program.graph_module.graph
    for node in [node for node in graph.nodes if node.target is torch.ops.har_cache.rnn.default]:
        x, start, weights, cell = node.args
        with graph.inserting_before(node):
            whole = graph.call_function(_ATEN[cell], (x, _state(start, cell), weights, *_FIXED))
            whole.meta["val"] = (node.meta["val"], *[start.meta["val"]] * (2 if cell == "lstm" else 1))
            output = graph.call_function(operator.getitem, (whole, 0))
            output.meta = dict(node.meta)
        node.replace_all_uses_with(output)
        graph.erase_node(node)
    program.graph_module.recompile()
    return program


def onnx_translations() -> dict[Any, Any]:
    """Translation of our operator for `torch.onnx.export`, as its `custom_translation_table`. Needs onnxscript."""
    from onnxscript import opset18

    op: Any = opset18

    def rnn(x: Any, start: Any, weights: Sequence[Any], cell: str) -> Any:
        hidden = weights[1].shape[1]

        def reorder(weight: Any) -> Any:
            gates = [op.Slice(weight, [gate * hidden], [(gate + 1) * hidden], [0]) for gate in _GATES[cell]]
            return op.Concat(*gates, axis=0)

        w, r, *biases = map(reorder, weights)
        w, r, b = (op.Unsqueeze(weight, [0]) for weight in (w, r, op.Concat(*biases, axis=0)))  # of one direction
        steps = op.Transpose(x, perm=[1, 0, 2])
        if cell == "gru":
            output, _ = op.GRU(steps, w, r, b, hidden_size=hidden, linear_before_reset=1)
        elif cell == "lstm":
            output, _, _ = op.LSTM(steps, w, r, b, hidden_size=hidden)
        else:
            output, _ = op.RNN(steps, w, r, b, hidden_size=hidden)
        return op.Transpose(op.Squeeze(output, [1]), perm=[1, 0, 2])  # (t, 1, b, hidden) -> (b, t, hidden)

    return {torch.ops.har_cache.rnn.default: rnn}


def _state(start: Any, cell: str) -> Any:
    """Initial state of the cell: one, or two."""
    return [start, start] if cell == "lstm" else start
