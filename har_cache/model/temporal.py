"""What reads a clip's frames in order: layers of RNNs in both directions, or of dilated convolutions."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

RNNS: dict[str, Callable[..., nn.Module]] = {"gru": nn.GRU, "lstm": nn.LSTM, "rnn": nn.RNN}
CONV = "conv"
_KERNEL = 3
_DILATIONS = (1, 2, 4)


def temporal_layer(cell: str, inputs: int, hidden: int) -> nn.Module:
    """A layer `(x (b, t, inputs), mask (b, t)) -> (b, t, 2 * hidden)` of these cells."""
    return DilatedConvolutions(inputs, hidden) if cell == CONV else BidirectionalRNN(cell, inputs, hidden)


class BidirectionalRNN(nn.Module):
    """A layer of two RNNs, one of which reads each clip backwards from its last frame.

    torch's own bidirectional layers read padding first when they go backwards, or need packed sequences, which are
    slow on a CPU and cannot be exported. Turning each clip round within its own length needs neither.
    """

    def __init__(self, cell: str, inputs: int, hidden: int) -> None:
        super().__init__()
        self.cell = cell
        self.forwards = RNNS[cell](inputs, hidden, batch_first=True)
        self.backwards = RNNS[cell](inputs, hidden, batch_first=True)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(b, t, inputs), mask (b, t) -> (b, t, 2 * hidden); arbitrary where the mask is false."""
        steps = torch.arange(x.shape[1], device=x.device)
        turned = mask.sum(1, keepdim=True) - 1 - steps
        turned = torch.where(mask, turned, steps)
        there, back = self.forwards(x)[0], self.backwards(_take(x, turned))[0]
        return torch.cat([there, _take(back, turned)], dim=2)


class DilatedConvolutions(nn.Module):
    """A layer of convolutions that reach further and further, each added to what it reads, as in temporal convolutional
    networks (Bai et al. 2018), but that they look ahead too: each step sees the seven before it and after it.
    """

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        width = 2 * hidden  # as of an RNN in both directions
        self.enter = nn.Linear(inputs, width)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(width, width, _KERNEL, padding=dilation, dilation=dilation) for dilation in _DILATIONS
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in _DILATIONS)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(b, t, inputs), mask (b, t) -> (b, t, 2 * hidden); arbitrary where the mask is false."""
        here = mask.unsqueeze(2)
        x = self.enter(x)
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            reached = convolution((x * here).transpose(1, 2)).transpose(1, 2)
            x = x + F.relu(norm(reached))
        return x


def _take(x: Tensor, steps: Tensor) -> Tensor:
    """x (b, t, c) at `steps` (b, t)."""
    return x.gather(1, steps.unsqueeze(2).expand(-1, -1, x.shape[2]))
