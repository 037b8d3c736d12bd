"""Settings of stages two and three."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from ..errors import SettingError
from ..options import REQUIRED, Settings, option
from .common import device_option, share_option, stall_option, workers_option
from .names import ALL, CELLS, MOST_SPLITS, SEEDS

_MOST_SEEDS = 100


@dataclass(frozen=True, kw_only=True)
class HeadSettings(Settings):
    """The head's shape, and its dropout."""

    cell: str = option("gru", "Recurrent cell; conv: dilated convolutions in place of the RNN.", choices=CELLS)
    hidden: int = option(128, "Hidden units of the RNN, in each direction.", least=1, most=8192)
    layers: int = option(1, "Layers of the RNN (or of convolutions).", least=1, most=32)
    width: int = option(256, "Channels of the Conv1d transition after the RNN.", least=1, most=8192)
    dropout: float = share_option(0.5, "Dropout after each layer of the RNN and before the classifier.")
    channel_dropout: float = share_option(0.2, "Dropout of whole channels of the embeddings.")
    input_dropout: float = share_option(0.1, "Dropout of the RNN's inputs.")
    appearance_dropout: float = share_option(0.2, "Dropout of the mean embedding, before its linear classifier.")
    hide_movement: float = share_option(0.2, "Share of training clips classified by their mean embedding alone.")
    hide_appearance: float = share_option(0.4, "Share of training clips classified by the RNN alone.")


@dataclass(frozen=True, kw_only=True)
class TrainSettings(Settings):
    """Settings of any training. `ema`: how much of the averaged weights, which are kept, a step leaves at most."""

    epochs: int = option(64, "Epochs: passes over the training clips.", least=1)
    frames: int = option(32, "Frames per clip: one from each of so many equal segments.", least=1, most=4096)
    batch_size: int = option(32, "Batch size, in clips.", least=1)
    lr: float = option(2e-3, "Peak learning rate, after a linear warm-up and before a cosine decay.", above=0)
    weight_decay: float = option(0.05, "Weight decay of AdamW; not of biases and norms.", least=0)
    label_smoothing: float = share_option(0.1, "Label smoothing of the cross-entropy.")
    warmup: float = option(0.05, "Warm-up, as a share of all steps.", least=0, most=1)
    ema: float = share_option(0.97, "Decay of the moving average of the weights, which is kept; 0: no average.")
    seed: int = option(0, "Random seed, of initial weights, order and frames.", least=0)


@dataclass(frozen=True, kw_only=True)
class TuneSettings(TrainSettings):
    """Training end to end: `lr` is the head's, `frames` is None only until the run that it starts from is known."""

    epochs: int = option(12, "Epochs: passes over the training clips.", least=1)
    frames: int = option(None, "Frames per clip, one from each of so many equal segments; default: the run's.", least=1)
    batch_size: int = option(8, "Batch size, in clips on the device at a time.", least=1)
    accumulate: int = option(1, "Batches per optimizer step (gradient accumulation).", least=1)
    lr: float = option(3e-4, "Peak learning rate of the head, before a cosine decay.", above=0)
    backbone_lr: float = option(0.1, "Learning rate of the backbone, as a factor of --lr.", above=0, most=1)
    head_epochs: int = option(1, "Epochs at the beginning with the backbone frozen.", least=0)
    unfreeze: int | None = option(None, "Fine-tune the last so many blocks of the backbone; default: all.", least=0)
    ema: float = share_option(0.99, "Decay of the moving average of the weights, which is kept; 0: no average.")
    blend: float = option(0.5, "Share of the tuned weights in the kept ones; the rest are the run's.", above=0, most=1)
    augment: bool = option(True, "Augment: a random crop and colours per clip; flips, where the cache has that view.")
    train_norms: bool = option(False, "Update BatchNorm's running statistics.")
    checkpointing: bool = option(False, "Gradient checkpointing: less memory, more time.")
    seed: int = option(0, "Random seed, of order, frames and augmentation.", least=0)

    def _check_together(self) -> None:
        if self.head_epochs > self.epochs:
            raise SettingError(f"--head-epochs {self.head_epochs}: expected 0 to {self.epochs}, the epochs there are")
        if self.train_norms and self.checkpointing:
            raise SettingError("--checkpointing runs blocks twice, which --train-norms would count: give one of them")


class _RunSettings(Settings):
    """Of what makes a run."""

    resume: bool
    overwrite: bool
    tensorboard: bool

    def _check_together(self) -> None:
        if self.resume and self.overwrite:
            raise SettingError("--resume goes on with a run, --overwrite starts it over: give one of them")


@dataclass(frozen=True, kw_only=True)
class TrainHeadSettings(_RunSettings):
    """Settings of stage two."""

    SECTIONS: ClassVar = {"cache": "Data", "training": "Training", "head": "Head", "device": "Run"}

    cache: Path = option(REQUIRED, "Cache of `har-cache extract`.")
    run: Path = option(REQUIRED, "Run directory to make: weights, metrics, curves.", aliases=("out",))
    split: str = option(
        "1",
        "Split to train on; all: each that the cache has, in RUN/split1, RUN/split2, ...",
        pattern=rf"[1-9][0-9]?|{ALL}",
        expected=f"1 to {MOST_SPLITS} or {ALL}",
        metavar=f"SPLIT|{ALL}",
    )
    fold: int = option(0, "Which seventh of the training list validates; 0: the evenest.", least=0, most=6)
    folds: int | None = option(
        None, "Cross-validate: a head for each of so many folds; the run is their mean.", least=2
    )
    seeds: str | None = option(
        None,
        "Several seeds, a run each: RUN/seed0, RUN/seed1, ...",
        pattern=SEEDS,
        expected="0-2 or 0,1,2",
        metavar="0-2|0,1,2",
    )
    validate_on: int | None = option(
        None,
        "Validate on this split's test list, with nothing held out. It leaks.",
        least=1,
        most=MOST_SPLITS,
        metavar="SPLIT",
    )
    training: TrainSettings = field(default_factory=TrainSettings)
    head: HeadSettings = field(default_factory=HeadSettings)
    device: str = device_option()
    resume: bool = option(False, "Continue an interrupted run.")
    overwrite: bool = option(False, "Replace a run that is in the directory.")
    tensorboard: bool = option(False, "Write curves for TensorBoard while training, into RUN/tensorboard.")

    @property
    def seed_numbers(self) -> tuple[int, ...]:
        """The seeds to train with, in rising order."""
        if self.seeds is None:
            return (self.training.seed,)
        numbers = [int(number) for number in re.findall("[0-9]+", self.seeds)]
        return tuple(range(numbers[0], numbers[1] + 1)) if "-" in self.seeds else tuple(sorted(set(numbers)))

    def _check_together(self) -> None:
        super()._check_together()
        if self.folds and self.fold:
            raise SettingError("--fold says which part is held out, with --folds each is in turn: give one of them")
        if self.validate_on and (self.fold or self.folds):
            given = f"--fold {self.fold}" if self.fold else f"--folds {self.folds}"
            raise SettingError(f"{given} holds clips out, --validate-on nothing: give one of them")
        if self.seeds and not 0 < len(self.seed_numbers) <= _MOST_SEEDS:
            raise SettingError(f"--seeds {self.seeds}: expected 1 to {_MOST_SEEDS} seeds, the lower one first")
        if self.seeds and self.training.seed:
            raise SettingError("--seed is one seed, --seeds several: give one of them")


@dataclass(frozen=True, kw_only=True)
class FinetuneSettings(_RunSettings):
    """Settings of stage three."""

    SECTIONS: ClassVar = {"start": "Data", "training": "Training", "device": "Run"}

    start: Path = option(REQUIRED, "Run of `har-cache train-head` to start from.", flag="from", aliases=("start",))
    data: Path = option(REQUIRED, "The data set that the run's cache was made from.")
    run: Path = option(REQUIRED, "Run directory to make: weights, metrics, curves.", aliases=("out",))
    cache: Path | None = option(None, "The run's cache, if it has moved.")
    training: TuneSettings = field(default_factory=TuneSettings)
    device: str = device_option()
    workers: int | None = workers_option("Processes that decode; default: one per core, half of that without a GPU.")
    stall_s: float = stall_option()
    resume: bool = option(False, "Continue an interrupted run.")
    overwrite: bool = option(False, "Replace a run that is in the directory.")
    tensorboard: bool = option(False, "Write curves for TensorBoard while training, into RUN/tensorboard.")
