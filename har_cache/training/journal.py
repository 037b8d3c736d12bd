"""What a training leaves behind epoch by epoch: metrics.csv, best.ckpt and last.ckpt, each of them always whole."""

import io
import math
import pickle
import time
from collections.abc import Sized
from pathlib import Path
from typing import Any, cast

import torch
from lightning.fabric.plugins.io.checkpoint_io import CheckpointIO
from lightning.pytorch import Callback, Trainer

from ..errors import HarCacheError, RunError
from ..files import read_file, to_csv, write_file
from ..model.run import BEST, LAST, METRICS
from ..progress import Progress

COLUMNS = ("epoch", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "lr", "seconds")

Row = dict[str, float]  # a line of metrics.csv


class Journal(Callback):
    """Keeps metrics.csv, best.ckpt and last.ckpt, each of them whole at any moment.

    The best epoch is the one of the lowest validation loss: of a few hundred clips the accuracy says less.
    """

    def __init__(self, path: Path, progress: Progress) -> None:
        self.rows: list[Row] = []
        self._path, self._progress, self._started, self._train = path, progress, 0.0, (0.0, 0.0)

    @property
    def best(self) -> Row | None:
        """The row of the best epoch."""
        return min(self.rows, key=lambda row: row["val_loss"], default=None)

    def state_dict(self) -> dict[str, Any]:
        """What goes into the checkpoint."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """What came from the checkpoint."""
        self.rows = state_dict["rows"]

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Metrics of epochs that came after the checkpoint are forgotten."""
        self._write_metrics()
        epochs, steps = trainer.max_epochs or 0, len(cast(Sized, trainer.train_dataloader))
        self._progress.begin("Training", "step", epochs * steps, len(self.rows) * steps)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Start the clock."""
        self._started = time.perf_counter()

    def on_train_batch_end(self, *_: Any) -> None:
        """Tell of the step."""
        self._progress.advance()

    def on_validation_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Training's part of the epoch is over."""
        self._train = pl_module.take_means()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Write down an epoch; after its validation."""
        figures = (trainer.current_epoch + 1, *self._train, *pl_module.take_means(), _rate(trainer))
        row = dict(zip(COLUMNS, (*figures, time.perf_counter() - self._started), strict=True))
        if not all(map(math.isfinite, row.values())):
            raise HarCacheError(f"the loss of epoch {row['epoch']} is not finite: start over with a lower --lr")
        self.rows.append(row)
        best = self.best is row
        for name in (BEST, LAST) if best else (LAST,):
            trainer.save_checkpoint(self._path / name)
        self._write_metrics()
        self._progress.advance(0, f"epoch {row['epoch']:.0f}: validation accuracy {row['val_accuracy']:.1%}")

    def _write_metrics(self) -> None:
        write_file(self._path / METRICS, to_csv(COLUMNS, ([_figure(row[c]) for c in COLUMNS] for row in self.rows)))


class SafeCheckpoints(CheckpointIO):
    """Checkpoints that are whole or absent when written, and hold nothing but tensors and plain values when read."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Commit a checkpoint."""
        data = io.BytesIO()
        torch.save(checkpoint, data)
        write_file(Path(path), data.getvalue())

    def load_checkpoint(self, path: Any, map_location: Any = "cpu", weights_only: bool | None = True) -> dict[str, Any]:
        """A checkpoint's content, always with `weights_only`; for HarCacheError see `load_checkpoint`."""
        return load_checkpoint(Path(path))

    def remove_checkpoint(self, path: Any) -> None:
        """Remove a checkpoint."""
        Path(path).unlink(missing_ok=True)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint's content, on the CPU. Raises HarCacheError on one that is damaged, or holds code: it is not run."""
    try:
        content = torch.load(io.BytesIO(read_file(path)), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise RunError(
            f"{path}: refused: it is damaged, or holds more than tensors; start over with --overwrite"
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError) as error:
        raise RunError(f"{path}: damaged, cannot be read as a checkpoint; start over with --overwrite") from error
    if not isinstance(content, dict) or not isinstance(content.get("state_dict"), dict):
        raise RunError(f"{path}: is no checkpoint of a training; start over with --overwrite")
    return content


def _rate(trainer: Trainer) -> float:
    return float(trainer.optimizers[0].param_groups[0]["lr"])


def _figure(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.6g}"
