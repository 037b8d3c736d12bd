"""The head: bidirectional RNN, Conv1d transition, masked pooling and classifier, beside one of the mean. To logits."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..settings.names import DIM
from ..settings.training import HeadSettings
from .temporal import temporal_layer

_KERNEL = 3
_LEAST_STD = 1e-3  # of a dimension that hardly changes
_MASKED = -1e4  # below any activation, and representable in float16


class Head(nn.Module):
    """Embeddings of a clip's frames, in order -> logits of its classes.

        head = har_cache.Head(classes=51)
        logits = head(torch.zeros(2, 30, 256), torch.ones(2, 30, dtype=torch.bool))

    Two classifiers, whose logits add up, as in two-stream networks. The RNN's sees each frame less the mean of its
    clip: how the clip moves, whatever stands around. The other, linear, sees that mean: the scene and the people. Each
    is alone for a part of the training clips, or what is easier to learn by heart would leave the other nothing.

    `mean` and `std`, each (dim), standardise the embeddings; they are those of the training clips.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        classes: int,
        settings: HeadSettings = HeadSettings(),
        mean: Tensor | None = None,
        std: Tensor | None = None,
        dim: int = DIM,
    ) -> None:
        """`dim`: numbers of an embedding, where no `mean` says it."""
        super().__init__()
        dim = dim if mean is None else len(mean)
        self.settings = s = settings
        self.register_buffer("mean", torch.zeros(dim) if mean is None else mean.clone())
        self.register_buffer("std", torch.ones(dim) if std is None else std.clamp(min=_LEAST_STD))
        # Whole channels of a clip, not single numbers, which the other frames would make up for.
        self.channel_dropout = nn.Dropout1d(s.channel_dropout)
        self.project = nn.Sequential(nn.Linear(dim, s.hidden), nn.LayerNorm(s.hidden), nn.Dropout(s.input_dropout))
        sizes = [s.hidden] + [2 * s.hidden] * (s.layers - 1)
        self.layers = nn.ModuleList(temporal_layer(s.cell, size, s.hidden) for size in sizes)
        self.dropout = nn.Dropout(s.dropout)
        self.transition = nn.Conv1d(2 * s.hidden, s.width, _KERNEL, padding=_KERNEL // 2)
        self.norm = nn.LayerNorm(s.width)
        self.classifier = nn.Linear(2 * s.width, classes)
        self.appearance = nn.Sequential(nn.Dropout(s.appearance_dropout), nn.Linear(dim, classes))

    def forward(self, embeddings: Tensor, mask: Tensor) -> Tensor:
        """Embeddings (b, t, dim), mask (b, t) that is true for frames, which come first -> logits (b, classes).

        What stands where the mask is false changes nothing, nor does more of it. Every clip needs a frame.
        """
        return self._sum(**self.branches(embeddings, mask))

    def branches(self, embeddings: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """The logits (b, classes) of each classifier alone, by its name; `forward` adds them up."""
        here = mask.unsqueeze(2)
        x = ((embeddings.float() - self.mean) / self.std).masked_fill(~here, 0)
        average = x.sum(1) / here.sum(1)
        moves = (x - average.unsqueeze(1)).transpose(1, 2)
        x = self.project(self.channel_dropout(moves).transpose(1, 2))
        for layer in self.layers:
            x = self.dropout(layer(x, mask))
        x = x * here  # so that the convolution sees at a clip's end what it sees at the end of the tensor: zeros
        x = self.transition(x.transpose(1, 2)).transpose(1, 2)
        movement = self.classifier(self.dropout(masked_pool(F.relu(self.norm(x)), mask)))
        return {"movement": movement, "appearance": self.appearance(average)}

    def _sum(self, movement: Tensor, appearance: Tensor) -> Tensor:
        """Logits (b, classes) of both; in training some of them of one alone."""
        if not self.training:
            return movement + appearance
        drawn = torch.rand(len(movement), 1, device=movement.device)
        hidden = self.settings.hide_movement, 1 - self.settings.hide_appearance
        return movement * (drawn >= hidden[0]) + appearance * (drawn < hidden[1])


def masked_pool(x: Tensor, mask: Tensor) -> Tensor:
    """(b, t, c) -> (b, 2c): mean and maximum over the steps where the mask, (b, t), is true."""
    here = mask.unsqueeze(2)
    mean = (x * here).sum(1) / here.sum(1)
    return torch.cat([mean, x.masked_fill(~here, _MASKED).amax(1)], dim=1)
