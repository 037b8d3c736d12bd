"""Encoder and head trained as one: what Lightning's Trainer is given in stage three."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from ..model.network import Backbone, CNNBidirectionalRNN
from ..settings import TuneSettings
from .augment import Augmentation, augmented, centred
from .batches import Batch
from .loop import Classifier, WarmupCosine, parameter_groups


class EndToEnd(nn.Module):
    """The network on raw frames: augmented in training, transformed exactly otherwise."""

    def __init__(self, network: CNNBidirectionalRNN, augmentation: Augmentation | None) -> None:
        super().__init__()
        self.network, self.augmentation = network, augmentation

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """uint8 (b, t, 256, 256, 3), mask (b, t) -> logits (b, classes)."""
        with torch.no_grad():
            changed = self.training and self.augmentation is not None
            images = augmented(frames, self.augmentation) if changed and self.augmentation else centred(frames)
        return self.network(images, mask)


class FineTuner(Classifier):
    """A Classifier whose backbone learns later than its head, and more slowly."""

    settings: TuneSettings

    def __init__(self, network: CNNBidirectionalRNN, settings: TuneSettings, steps: int) -> None:
        """`network`: its encoder a Backbone; `steps`: batches of an epoch."""
        assert isinstance(network.encoder, Backbone)
        model = EndToEnd(network, Augmentation() if settings.augment else None)
        super().__init__(model, settings, -(-steps // settings.accumulate))

    @property
    def network(self) -> CNNBidirectionalRNN:
        """The network that is trained."""
        assert isinstance(self.model, EndToEnd)
        return self.model.network

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW as of stage two, with a group each for head and backbone; the backbone has a warm-up of its own."""
        s = self.settings
        head = parameter_groups(self.network.head, s.weight_decay)
        slow = parameter_groups(self.network.encoder, s.weight_decay)
        backbone = [{**group, "lr": s.lr * s.backbone_lr} for group in slow if group["params"]]
        optimizer = torch.optim.AdamW([*head, *backbone], lr=s.lr)
        whole = WarmupCosine(s.epochs * self.steps, s.warmup)
        late = _Later(whole.total, s.warmup, s.head_epochs * self.steps)
        curves: list[Callable[[int], float]] = [*[whole] * len(head), *[late] * len(backbone)]
        rate = torch.optim.lr_scheduler.LambdaLR(optimizer, curves)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": rate, "interval": "step"}}

    def on_train_epoch_start(self) -> None:
        """Wake the backbone when its time has come."""
        super().on_train_epoch_start()
        assert isinstance(self.network.encoder, Backbone)
        self.network.encoder.asleep = self.current_epoch < self.settings.head_epochs

    def training_step(self, batch: Batch, index: int) -> Tensor | None:
        """The smoothed cross-entropy; None for a batch whose clips have all failed."""
        return super().training_step(batch, index) if len(batch.labels) else None

    def validation_step(self, batch: Batch, index: int) -> None:
        """Count loss and right answers of the clips that have not failed."""
        if len(batch.labels):
            super().validation_step(batch, index)


@dataclass(frozen=True)
class _Later(WarmupCosine):
    """The same for what starts to learn at a step only, and then has a warm-up of its own."""

    start: int

    def __call__(self, step: int) -> float:
        rising = max(1, round(self.total * self.warmup))
        return super().__call__(step) * min(1.0, max(0, step - self.start + 1) / rising)
