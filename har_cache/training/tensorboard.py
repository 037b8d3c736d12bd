"""Curves for TensorBoard, written while a training goes on."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import HarCacheError
from ..model.run import TENSORBOARD
from .checkpoints import Row

Told = Callable[[Sequence[Row]], None]
_TAGS = {
    "train_loss": "loss/training",
    "val_loss": "loss/validation",
    "train_accuracy": "accuracy/training",
    "val_accuracy": "accuracy/validation",
    "lr": "learning rate",
    "seconds": "seconds of an epoch",
}


def check_tensorboard() -> None:
    """Raise HarCacheError where TensorBoard's writer is not installed."""
    _writer()


@contextmanager
def curves(run: Path, wanted: bool) -> Iterator[Told]:
    """A function that is given all epochs so far, after each of them, and writes those that are new for TensorBoard,
    into `tensorboard/` of the run; where they are not `wanted` it does nothing.

    What is there of an earlier beginning is replaced: the curves are those of metrics.csv.
    """
    if not wanted:
        yield lambda rows: None
        return
    shutil.rmtree(run / TENSORBOARD, ignore_errors=True)
    with _writer()(str(run / TENSORBOARD)) as writer:
        written = 0

        def write(rows: Sequence[Row]) -> None:
            nonlocal written
            for row in rows[written:]:
                for name, tag in _TAGS.items():
                    writer.add_scalar(tag, row[name], int(row["epoch"]))
            written = len(rows)
            writer.flush()

        yield write


def _writer() -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise HarCacheError("--tensorboard needs tensorboard: pip install tensorboard") from error
    return SummaryWriter
