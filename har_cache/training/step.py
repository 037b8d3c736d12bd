"""A step of training: forward, loss, backward, clipping, AdamW and the moving average of the weights.

Nothing in it asks the device for a number, and what changes from step to step is a tensor: so it can be recorded once.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .batches import Batch

_GRADIENT_NORM = 1.0


def adamw(groups: Iterable[Mapping[str, Any]], lr: float) -> torch.optim.AdamW:
    """AdamW of these groups of parameters, the learning rate of each a tensor of its own beside them; `lr` where a
    group names none. Fused: one kernel a group.
    """
    rated = [{**group, "lr": torch.tensor(group.get("lr", lr), device=group["params"][0].device)} for group in groups]
    return torch.optim.AdamW(rated, lr=lr, fused=True, capturable=True)


class Step:
    """Trains `model`, `(inputs, mask) -> logits`, with the smoothed cross-entropy, and keeps `averaged`, a copy of it
    or the same, at the moving average of what it learns.
    """

    def __init__(
        self, model: nn.Module, averaged: nn.Module, optimizer: torch.optim.Optimizer, smoothing: float
    ) -> None:
        """`optimizer`: the rates of its groups are tensors, as those of `adamw`."""
        self.learning: list[Tensor] = [p for group in optimizer.param_groups for p in group["params"]]
        self.device = self.learning[0].device
        self._model, self._optimizer, self._smoothing = model, optimizer, smoothing
        counterparts: dict[Tensor, Tensor] = dict(zip(model.parameters(), averaged.parameters(), strict=True))
        self._averages = [] if averaged is model else [counterparts[p] for p in self.learning]
        self._kept, self._added = torch.zeros(2, device=self.device)

    def prepare(self, rates: Iterable[float], kept: float) -> None:
        """What holds from now on: the learning rate of each group, and the share of the average that a step leaves."""
        for group, rate in zip(self._optimizer.param_groups, rates, strict=True):
            group["lr"].fill_(rate)
        self._kept.fill_(kept)
        self._added.fill_(1 - kept)

    def __call__(self, batch: Batch, window: int = 1, last: bool = True) -> Tensor:
        """Add the gradients of a batch, one of `window` of a step, and with the `last` make the step; gives the
        log-probabilities (clips, classes).
        """
        log_probabilities = self._model(batch.inputs, batch.mask).log_softmax(1)
        likelihood = (1 - self._smoothing) * F.nll_loss(log_probabilities, batch.labels)
        loss = likelihood - self._smoothing * log_probabilities.mean()
        (loss / window).backward()
        if last:
            self.update()
        return log_probabilities.detach()

    def update(self) -> None:
        """Make the step with the gradients there are."""
        nn.utils.clip_grad_norm_(self.learning, _GRADIENT_NORM)
        self._optimizer.step()
        self._optimizer.zero_grad()
        if self._averages:
            with torch.no_grad():
                torch._foreach_mul_(self._averages, self._kept)
                torch._foreach_add_(self._averages, torch._foreach_mul(self.learning, self._added))

    def state(self) -> list[Tensor]:
        """All that a step changes, but the gradients; before the first, the optimizer has nothing."""
        moments = [value for p in self.learning for value in self._optimizer.state.get(p, {}).values()]
        return [*self.learning, *self._averages, *self._model.buffers(), *moments]

    def drop_gradients(self) -> None:
        """Forget the gradients that were added since the last step."""
        self._optimizer.zero_grad()
