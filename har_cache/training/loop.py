"""Training: the loop that stages two and three share."""

import copy
import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..encoder.fp32 import fp32_precision, true_fp32
from ..errors import HarCacheError, RunError
from ..model.run import BEST, LAST
from ..progress import Progress
from ..settings.training import TrainSettings
from .batches import Batch, derive_seed, mean_probabilities
from .checkpoints import (
    COLUMNS,
    Row,
    best_row,
    check_moments,
    checked_rows,
    load_checkpoint,
    save_checkpoint,
    write_metrics,
)
from .step import GraphedStep, Recorder, Step

_LEAST = torch.finfo(torch.float32).tiny  # of a probability, whose logarithm is to be finite
# What torch raises on a state that was not that of such a model or optimizer.
_UNFIT = (KeyError, RuntimeError, ValueError, TypeError, AttributeError, IndexError, OverflowError)


class EpochBatches(Protocol):
    """Batches to train on, ready on the device; `epoch`, which is set before, decides what is in them."""

    epoch: int

    def __len__(self) -> int:
        """Their number."""

    def __iter__(self) -> Iterator[Batch]:
        """All of them, once; empty ones where all clips have failed."""


class Trainer:
    """A model `(inputs, mask) -> logits`, trained with the smoothed cross-entropy. What is validated and kept is the
    average of its weights, in `averaged`: an exponential moving one, of which a step leaves `settings.ema` at most.

    Random numbers are a function of the seed and the epoch, so that a resumed run draws what it would have drawn.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        rates: Sequence[Callable[[int], float]],
        settings: TrainSettings,
        accumulate: int = 1,
        start_epoch: Callable[[int], object] = lambda epoch: None,
        record: Recorder | None = None,
        keep_last: bool = False,
    ) -> None:
        """`model`: on its device; `optimizer`: as `Step` takes it; `rates`: the learning rate of each of its groups by
        the step, from 0 on; `accumulate`: batches a step; `start_epoch`: called with each epoch, from 0 on; `record`:
        what records the steps, if anything does; `keep_last`: the last epoch is kept, and not the best.
        """
        self.model, self.settings, self.rows = model, settings, list[Row]()
        self._optimizer, self._rates, self._accumulate = optimizer, rates, accumulate
        self._start_epoch, self._record, self._keep_last = start_epoch, record, keep_last
        self.averaged = _copied(model) if settings.ema else model
        self._step = Step(model, self.averaged, optimizer, settings.label_smoothing)
        self._steps = 0

    def fit(
        self,
        train: EpochBatches,
        val: Iterable[Batch],
        run: Path,
        progress: Progress,
        resume: bool,
        tell: Callable[[Sequence[Row]], None] = lambda rows: None,
    ) -> Row:
        """Train, keeping checkpoints and metrics in `run`; gives the row of the epoch that is kept, with its weights in
        the model. `val`: judged by the mean of the ways in which they hold their clips; `tell`: is given all epochs so
        far, after each.

        `resume` goes on from last.ckpt, where there is one. Raises HarCacheError on a bad checkpoint or when training
        diverges, KeyboardInterrupt on Ctrl-C and SystemExit on SIGTERM: what was kept then stays.
        """
        if resume and (run / LAST).exists():
            self._restore(run / LAST)
        write_metrics(run, self.rows)  # without epochs that came after the checkpoint
        tell(self.rows)
        step = GraphedStep(self._step, self._record, progress.say) if self._record else self._step
        epochs, steps = self.settings.epochs, -(-len(train) // self._accumulate)
        with _exit_on_sigterm(), progress.task("Training", "step", epochs * steps, len(self.rows) * steps):
            for epoch in range(len(self.rows), epochs):
                row = self._epoch(epoch, step, train, val, progress)
                if not all(map(math.isfinite, row.values())):
                    raise HarCacheError(f"the loss of epoch {epoch + 1} is not finite: start over with a lower --lr")
                self.rows.append(row)
                self._save(run)
                tell(self.rows)
                progress.advance(0, self._note())
        try:
            self.model.load_state_dict(load_checkpoint(run / BEST)["state_dict"])
        except _UNFIT as error:
            raise RunError(f"{run / BEST}: does not fit what is trained; start over with --overwrite") from error
        return self._chosen()

    def _epoch(
        self, epoch: int, step: Step | GraphedStep, train: EpochBatches, val: Iterable[Batch], progress: Progress
    ) -> Row:
        begun = time.perf_counter()
        torch.manual_seed(derive_seed(self.settings.seed, epoch, 1))
        train.epoch = epoch
        self._start_epoch(epoch)
        with fp32_precision(self._step.device, "tf32"):  # as exact as fp16, and without its overflows
            trained = self._train(step, train, progress)
        with torch.no_grad(), true_fp32(self._step.device):
            validated = self._validate(val)
        figures = (epoch + 1, *trained, *validated, self._rates[0](self._steps), time.perf_counter() - begun)
        return dict(zip(COLUMNS, figures, strict=True))

    def _train(self, step: Step | GraphedStep, batches: EpochBatches, progress: Progress) -> tuple[float, float]:
        """An epoch's steps; gives loss, without smoothing, and accuracy."""
        self.model.train()
        found: list[tuple[Tensor, Tensor]] = []
        total = len(batches)
        for i, batch in enumerate(batches):
            window = min(self._accumulate, total - i + i % self._accumulate)  # the last one may be shorter
            last = (i + 1) % self._accumulate == 0 or i + 1 == total
            if last:
                self._step.prepare((rate(self._steps) for rate in self._rates), self._kept())
            if len(batch.labels):
                found.append((step(batch, window, last), batch.labels))
            elif last:
                step.update()
            if last:
                self._steps += 1
                progress.advance()
        return _means(found)

    def _kept(self) -> float:
        """The share of the average that a step leaves: it forgets fast at first, or a short training would keep where
        it began.
        """
        return min(self.settings.ema, (1 + self._steps) / (10 + self._steps)) if self._steps else 0.0

    def _validate(self, batches: Iterable[Batch]) -> tuple[float, float]:
        self.averaged.eval()
        full = (batch for batch in batches if len(batch.labels))
        found = [(mean_probabilities(self.averaged, batch), batch.labels) for batch in full]
        return _means([(probabilities.clamp(min=_LEAST).log(), labels) for probabilities, labels in found])

    def _save(self, run: Path) -> None:
        """Commit the epoch: metrics.csv after the checkpoint that `resume` reads, and that one after best.ckpt, so that
        a run that is ended in between does the epoch again.
        """
        state: dict[str, Any] = {"state_dict": self.averaged.state_dict()}
        if self._chosen() is self.rows[-1]:
            save_checkpoint(run / BEST, state)
        state |= {"model": self.model.state_dict(), "optimizer": self._optimizer.state_dict()}
        state |= {"rows": self.rows, "steps": self._steps}
        save_checkpoint(run / LAST, state)
        write_metrics(run, self.rows)

    def _restore(self, path: Path) -> None:
        state = load_checkpoint(path)
        try:
            self.averaged.load_state_dict(state["state_dict"])
            self.model.load_state_dict(state["model"])
            # The groups are those of here and now: the checkpoint may come from another device.
            groups = zip(self._optimizer.param_groups, state["optimizer"]["param_groups"], strict=True)
            state["optimizer"]["param_groups"] = [{**ours, "params": theirs["params"]} for ours, theirs in groups]
            self._optimizer.load_state_dict(state["optimizer"])
            self.rows, self._steps = checked_rows(state["rows"], self.settings.epochs), state["steps"]
            check_moments(self._optimizer)
            if type(self._steps) is not int or not 0 <= self._steps < 1 << 62 or not self.rows:
                raise ValueError("no number of steps")
        except _UNFIT as error:
            raise RunError(f"{path}: does not fit what is trained; start over with --overwrite") from error

    def _chosen(self) -> Row:
        return self.rows[-1] if self._keep_last else best_row(self.rows)

    def _note(self) -> str:
        row = self.rows[-1]
        note = f"epoch {row['epoch']} of {self.settings.epochs}: loss {row['train_loss']:.3f}, "
        note += f"validation loss {row['val_loss']:.3f}, accuracy {row['val_accuracy']:.1%}"
        return f"{note} (best so far)" if best_row(self.rows) is row and not self._keep_last else note


def _copied(model: nn.Module) -> nn.Module:
    """A copy whose learning parameters are its own. What does not learn, and buffers, both models share."""
    shared = [*(p for p in model.parameters() if not p.requires_grad), *model.buffers()]
    copied = copy.deepcopy(model, {id(tensor): tensor for tensor in shared})
    return copied.to(next(model.parameters()).device)  # packs an RNN's weights on CUDA, which a copy has not


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

    @property
    def rising(self) -> int:
        """Steps of the warm-up."""
        return max(1, round(self.total * self.warmup))

    def __call__(self, step: int) -> float:
        """Above 0 and at most 1."""
        if step < self.rising:
            return (step + 1) / self.rising
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - self.rising) / max(1, self.total - self.rising))))


def _means(found: list[tuple[Tensor, Tensor]]) -> tuple[float, float]:
    """Mean cross-entropy and accuracy over all clips; `found`: log-probabilities and labels, batch by batch."""
    log_probabilities, labels = (torch.cat(part) for part in zip(*found, strict=True))
    right = int((log_probabilities.argmax(1) == labels).sum())
    return float(F.nll_loss(log_probabilities, labels)), right / len(labels)


@contextmanager
def _exit_on_sigterm() -> Iterator[None]:
    """SIGTERM ends the process as an error would, with the exit code of one that it killed."""
    theirs = signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    if theirs or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
