"""Several heads as one: the mean of what they say."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn


class HeadEnsemble(nn.Module):
    """Heads of the same classes; its softmax is the mean of theirs, each of logits divided by `temperature`.

    The temperature makes probabilities what they say they are (Guo et al. 2017); it changes no head's prediction.
    """

    temperature: Tensor

    def __init__(self, heads: Iterable[nn.Module], temperature: float = 1.0) -> None:
        super().__init__()
        self.heads = nn.ModuleList(heads)
        self.register_buffer("temperature", torch.tensor(float(temperature)))

    def forward(self, embeddings: Tensor, mask: Tensor) -> Tensor:
        """As that of a head: embeddings (b, t, dim), mask (b, t) -> logits (b, classes), here log-probabilities."""
        each = [(head(embeddings, mask).float() / self.temperature).log_softmax(1) for head in self.heads]
        return torch.stack(each).logsumexp(0).log_softmax(1)
