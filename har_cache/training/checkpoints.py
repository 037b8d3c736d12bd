"""Files that a training leaves: metrics.csv, best.ckpt and last.ckpt after each epoch, in the end the model."""

import dataclasses
import io
import math
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import RunError
from ..model.config import BestEpoch, RunConfig, read_config, write_config
from ..model.run import CURVES, METRICS, OUT_OF_FOLD
from ..model.writer import save_model
from ..plots import plot_curves
from ..storage.files import file_sha256, read_csv, read_file, sha256, to_csv, write_file
from ..storage.history import TRAINED, add_event

COLUMNS = ("epoch", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "lr", "seconds")
_SCHEMA = "har-checkpoint/1"
_COMMENT_LENGTH = (64).to_bytes(2, "little")  # the end of a zip archive, before its comment

Row = dict[str, float]  # a line of metrics.csv


def best_row(rows: Sequence[Row]) -> Row:
    """The epoch of the lowest validation loss: of a few hundred clips the accuracy says less."""
    return min(rows, key=lambda row: row["val_loss"])


def write_metrics(run: Path, rows: Sequence[Row]) -> None:
    """Commit metrics.csv."""
    write_file(run / METRICS, to_csv(COLUMNS, ([_figure(row[name]) for name in COLUMNS] for row in rows)))


def read_metrics(run: Path) -> list[Row]:
    """The epochs of a run's metrics.csv. Raises HarCacheError where it is not there, or damaged."""
    path = run / METRICS
    header, *rows = read_csv(path) or [[]]
    if tuple(header) != COLUMNS:
        raise RunError(f"{path}: damaged (expected {','.join(COLUMNS)}); train again with --overwrite")
    try:
        return [dict(zip(COLUMNS, map(float, row), strict=True)) for row in rows]
    except ValueError as error:
        raise RunError(f"{path}: damaged ({error}); train again with --overwrite") from error


def checked_rows(rows: Any, epochs: int) -> list[Row]:
    """The epochs of a checkpoint, at most so many. Raises ValueError or TypeError where they are none."""
    if len(rows) > epochs or not all(set(row) == set(COLUMNS) and all(map(_is_figure, row.values())) for row in rows):
        raise ValueError("no epochs")
    return list(rows)


def check_moments(optimizer: torch.optim.Optimizer) -> None:
    """Raise ValueError where what an optimizer keeps of a parameter is not of its shape."""
    for parameter, kept in optimizer.state.items():
        for name, value in kept.items():
            if not isinstance(value, Tensor) or (name != "step" and value.shape != parameter.shape):
                raise ValueError(f"{name} is not of its parameter")


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Commit a checkpoint: `state`, which holds tensors and plain values."""
    file = io.BytesIO()
    torch.save({"schema": _SCHEMA, **state}, file)
    write_file(path, sealed(file.getvalue()))


def load_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint's state, on the CPU. Raises RunError on one that is damaged, or holds code: it is not run."""
    data = read_file(path)
    if not _is_intact(data):
        raise RunError(f"{path}: damaged, or not written by this version of har-cache; start over with --overwrite")
    try:
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise RunError(
            f"{path}: refused: it is damaged, or holds more than tensors; start over with --overwrite"
        ) from error
    except Exception as error:  # a damaged pickle can raise anything: IndexError, TypeError, ...
        raise RunError(f"{path}: damaged, cannot be read as a checkpoint; start over with --overwrite") from error
    if not isinstance(state, dict) or "state_dict" not in state:
        raise RunError(f"{path}: is no checkpoint of a training; start over with --overwrite")
    if state.get("schema") != _SCHEMA:
        raise RunError(f"{path}: is of another version of har-cache; start over with --overwrite")
    return state


def sealed(archive: bytes) -> bytes:
    """A zip archive without a comment, as torch writes it, with its sha256 as its comment: torch reads it as before."""
    return archive[:-2] + _COMMENT_LENGTH + sha256(archive).encode()


def _is_intact(data: bytes) -> bool:
    archive, length, digest = data[:-66], data[-66:-64], data[-64:]
    return length == _COMMENT_LENGTH and sha256(archive + b"\0\0").encode() == digest


def finish(run: Path, config: RunConfig, model: nn.Module, best: BestEpoch) -> None:
    """Commit the weights, the curves and, last, what makes the run a finished one."""
    digest = save_model(model, run)
    plot_curves(run / METRICS, run / CURVES, best.epoch)
    begun, out_of_fold = read_config(run), run / OUT_OF_FOLD
    files = {**begun.files} if begun else {}
    if out_of_fold.exists():
        files[OUT_OF_FOLD] = file_sha256(out_of_fold)
    seconds = sum(row["seconds"] for row in read_metrics(run))
    add_event(run, TRAINED, seconds, config.versions.get("gpu"))
    write_config(run, dataclasses.replace(config, files=files, model_sha256=digest, best=best))


def _is_figure(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _figure(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.6g}"
