"""An exponential moving average of the weights, which is then what is validated and saved."""

from typing import Any

from lightning.pytorch import Callback
from lightning.pytorch.callbacks import WeightAveraging
from torch.optim.swa_utils import get_ema_multi_avg_fn


def averaging(decay: float, device: str) -> list[Callback]:
    """What keeps the average, of which a step leaves `decay` at most; none where that is 0."""
    return [_Average(decay, device)] if decay else []


class _Average(WeightAveraging):
    """Forgets fast at first: else a short training would keep where it began."""

    def __init__(self, decay: float, device: str) -> None:
        # The device is named: before the Trainer has moved the model, its own would be the CPU.
        super().__init__(device, use_buffers=False, multi_avg_fn=self._average)
        self._decay, self._step = decay, 0

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        """After every step."""
        self._step = self._step if step_idx is None else step_idx
        return step_idx is not None

    def _average(self, averaged: Any, current: Any, count: Any) -> None:
        kept = min(self._decay, (1 + self._step) / (10 + self._step))
        get_ema_multi_avg_fn(kept)(averaged, current, count)
