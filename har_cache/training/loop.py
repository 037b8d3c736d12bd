"""Training on Lightning's Trainer: the module and the set-up that stages two and three share."""

import logging
import math
import signal
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.utilities.exceptions import SIGTERMException
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from ..model.run import BEST, LAST
from ..progress import Progress
from ..settings import TrainSettings
from .averaging import averaging
from .batches import Batch, derive_seed
from .journal import Journal, Row, SafeCheckpoints, load_checkpoint

_GRADIENT_NORM = 1.0
_TERMINATED = 128 + signal.SIGTERM  # the exit code of a process that SIGTERM ended

# Its notices say nothing that the user of a command wants to know.
for _name in ("lightning.pytorch", "lightning.fabric"):
    logging.getLogger(_name).setLevel(logging.ERROR)


class Batches(Protocol):
    """What validation iterates over: batches that are ready on the device."""

    def __len__(self) -> int:
        """How many there are."""

    def __iter__(self) -> Iterator[Batch]:
        """All of them, once."""


class EpochBatches(Batches, Protocol):
    """What training iterates over: `epoch`, which is set before, decides what is in the batches."""

    epoch: int


class Classifier(LightningModule):
    """A model `(inputs, mask) -> logits` with its loss, optimiser and schedule.

    Random numbers are a function of the seed and the epoch, so that a resumed run draws what it would have drawn.
    """

    def __init__(self, model: nn.Module, settings: TrainSettings, steps: int) -> None:
        """`steps`: of an epoch."""
        super().__init__()
        self.model, self.settings, self.steps = model, settings, steps
        self.sums = torch.zeros(3)  # loss, right answers, clips: of this epoch

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW without decay of biases and norms; a linear warm-up, then a cosine to zero."""
        groups = parameter_groups(self.model, self.settings.weight_decay)
        optimizer = torch.optim.AdamW(groups, lr=self.settings.lr)
        total = self.settings.epochs * self.steps
        rate = torch.optim.lr_scheduler.LambdaLR(optimizer, WarmupCosine(total, self.settings.warmup))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": rate, "interval": "step"}}

    def on_train_epoch_start(self) -> None:
        """Make this epoch's random numbers its own."""
        torch.manual_seed(derive_seed(self.settings.seed, self.current_epoch, 1))
        cast(EpochBatches, self.trainer.train_dataloader).epoch = self.current_epoch

    def training_step(self, batch: Batch, _: int) -> Tensor | None:
        """The smoothed cross-entropy; None for nothing to learn from."""
        inputs, mask, labels = batch
        log_probabilities = self.model(inputs, mask).float().log_softmax(1)
        loss = F.nll_loss(log_probabilities, labels)
        self._count(loss, log_probabilities, labels)
        smoothing = self.settings.label_smoothing
        return (1 - smoothing) * loss - smoothing * log_probabilities.mean()

    def validation_step(self, batch: Batch, _: int) -> None:
        """Count loss and right answers."""
        inputs, mask, labels = batch
        log_probabilities = self.model(inputs, mask).float().log_softmax(1)
        self._count(F.nll_loss(log_probabilities, labels), log_probabilities, labels)

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Batches are on the device already."""
        return batch

    def take_means(self) -> tuple[float, float]:
        """Mean cross-entropy (without smoothing) and accuracy of the clips since the last call."""
        loss, right, clips = self.sums.tolist()
        self.sums = torch.zeros_like(self.sums)
        return loss / clips, right / clips

    def _count(self, loss: Tensor, log_probabilities: Tensor, labels: Tensor) -> None:
        right = (log_probabilities.argmax(1) == labels).sum()
        clips = torch.full_like(loss, len(labels))
        self.sums = self.sums.to(loss.device) + torch.stack([loss.detach() * clips, right, clips])


def fit(
    module: Classifier,
    train: EpochBatches,
    val: Batches,
    path: Path,
    device: str,
    progress: Progress,
    resume: bool,
    accumulate: int = 1,
    callbacks: Sequence[Callback] = (),
) -> Row:
    """Train, keeping checkpoints and metrics in `path`; gives the row of the best epoch, with its weights in `module`.

    `accumulate`: batches a step; `resume` goes on from last.ckpt, where there is one. Raises HarCacheError on a bad
    checkpoint or when training diverges, and KeyboardInterrupt on Ctrl-C: what was kept then stays.
    """
    journal = Journal(path, progress)
    trainer = Trainer(
        accelerator="gpu" if device == "cuda" else "cpu",
        devices=1,
        precision=_precision(device),
        max_epochs=module.settings.epochs,
        gradient_clip_val=_GRADIENT_NORM,
        accumulate_grad_batches=accumulate,
        callbacks=[journal, *averaging(module.settings.ema, device), *callbacks],
        plugins=[SafeCheckpoints(), LightningEnvironment()],  # one process here, also on a cluster's node
        default_root_dir=path,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    last = path / LAST if resume and (path / LAST).exists() else None
    on_interrupt = signal.getsignal(signal.SIGINT)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning\.")
            trainer.fit(module, train, val, ckpt_path=last, weights_only=True)
    except SIGTERMException:  # its own exit code is 0
        raise SystemExit(_TERMINATED) from None
    except SystemExit:  # what the Trainer makes of Ctrl-C, which it ignores from then on
        if not trainer.interrupted:
            raise
        signal.signal(signal.SIGINT, on_interrupt)
        raise KeyboardInterrupt from None
    module.load_state_dict(load_checkpoint(path / BEST)["state_dict"])
    assert journal.best is not None
    return journal.best


def _precision(device: str) -> Literal["bf16-mixed", "16-mixed", "32-true"]:
    if device != "cuda":
        return "32-true"
    return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """The parameters that decay, and those that do not: biases and the gains of norms."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]


@dataclass(frozen=True)
class WarmupCosine:
    """The share of the highest learning rate at a step: a line up, half a cosine down to zero."""

    total: int
    warmup: float

    def __call__(self, step: int) -> float:
        """Above 0 and at most 1."""
        rising = max(1, round(self.total * self.warmup))
        if step < rising:
            return (step + 1) / rising
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - rising) / max(1, self.total - rising))))
