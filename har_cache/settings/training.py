"""Settings of stages two and three."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import SettingError
from ..options import REQUIRED, Settings, option
from .common import device_option, share_option, stall_option, workers_option
from .names import ALL, CELLS, MOST_SPLITS, SEEDS

_MOST_SEEDS = 100


@dataclass(frozen=True, kw_only=True)
class HeadSettings(Settings):
    """The head's shape, and its dropout."""

    cell: str = option("gru", "The RNN's cells; conv: dilated convolutions in its place.", choices=CELLS)
    hidden: int = option(128, "Units of each direction of the RNN.", least=1, most=8192)
    layers: int = option(1, "Layers of the RNN.", least=1, most=32)
    width: int = option(256, "Channels of the transition.", least=1, most=8192)
    dropout: float = share_option(0.5, "Share of units dropped in training.")
    channel_dropout: float = share_option(0.2, "Share of a clip's channels dropped.")
    input_dropout: float = share_option(0.1, "Share of the RNN's inputs dropped.")
    appearance_dropout: float = share_option(0.2, "Share of the mean embedding dropped.")
    hide_movement: float = share_option(0.2, "Share of the training clips told by their mean alone.")
    hide_appearance: float = share_option(0.4, "Share of the training clips told by their movement alone.")


@dataclass(frozen=True, kw_only=True)
class TrainSettings(Settings):
    """Settings of any training. `ema`: how much of the averaged weights, which are kept, a step leaves at most."""

    epochs: int = option(64, "Epochs: passes over the training clips.", least=1)
    frames: int = option(32, "Frames a clip: one from each of so many equal segments.", least=1, most=4096)
    batch_size: int = option(32, "Clips a batch.", least=1)
    lr: float = option(2e-3, "Peak learning rate, after a linear warm-up; then a cosine.", above=0)
    weight_decay: float = option(0.05, "Of AdamW; biases and norms do not decay.", least=0)
    label_smoothing: float = share_option(0.1, "Of the cross-entropy.")
    warmup: float = option(0.05, "Share of all steps in which the learning rate rises.", least=0, most=1)
    ema: float = share_option(0.97, "Decay of the averaged weights, which are kept; 0: none.")
    seed: int = option(0, "For weights, order and frames.", least=0)


@dataclass(frozen=True, kw_only=True)
class TuneSettings(TrainSettings):
    """Training end to end: `lr` is the head's, `frames` is None only until the run that it starts from is known."""

    epochs: int = option(12, "Epochs: passes over the training clips.", least=1)
    frames: int = option(None, "Frames a clip, one from each of so many equal segments; default: the run's.", least=1)
    batch_size: int = option(8, "Clips on the device at a time.", least=1)
    accumulate: int = option(1, "Batches a step.", least=1)
    lr: float = option(3e-4, "Peak learning rate of the head.", above=0)
    backbone_lr: float = option(0.1, "Learning rate of the backbone, as a share of --lr.", above=0, most=1)
    head_epochs: int = option(1, "Epochs at the beginning that train the head alone.", least=0)
    unfreeze: int | None = option(None, "Train the encoder's last so many blocks; default: all.", least=0)
    ema: float = share_option(0.99, "Decay of the averaged weights, which are kept; 0: none.")
    blend: float = option(0.5, "Share of the tuned weights in what is kept; the rest: the run's.", above=0, most=1)
    augment: bool = option(True, "Random crops and colours, one of each a clip; flips, where the cache has that view.")
    train_norms: bool = option(False, "Let BatchNorm learn statistics anew.")
    checkpointing: bool = option(False, "Less memory for more time: compute activations twice.")
    seed: int = option(0, "For order, frames and augmentation.", least=0)

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

    cache: Path = option(REQUIRED, "A cache that `har-cache extract` made.")
    run: Path = option(REQUIRED, "Run directory to make: weights, metrics, curves.")
    split: str = option(
        "1",
        "Or all that the cache has: RUN/split1, RUN/split2, ...",
        pattern=rf"[1-9][0-9]?|{ALL}",
        expected=f"1 to {MOST_SPLITS} or {ALL}",
        metavar=f"SPLIT|{ALL}",
    )
    fold: int = option(
        0, "Which seventh is held out to validate on, whatever the seed; 0: the evenest.", least=0, most=6
    )
    folds: int | None = option(
        None,
        "Hold out so many parts of the training list in turn, a head each; used is their mean.",
        least=2,
    )
    seeds: str | None = option(
        None,
        "Several seeds, 0-2 or 0,1,2: a run each, RUN/seed0 to RUN/seed2.",
        pattern=SEEDS,
        expected="0-2 or 0,1,2",
    )
    validate_on: int | None = option(
        None,
        "Hold nothing out; validate on this split's test list. It leaks.",
        least=1,
        most=MOST_SPLITS,
        metavar="SPLIT",
    )
    training: TrainSettings = field(default_factory=TrainSettings)
    head: HeadSettings = field(default_factory=HeadSettings)
    device: str = device_option()
    resume: bool = option(False, "Go on with a run that was interrupted.")
    overwrite: bool = option(False, "Replace the run in the directory.")
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

    start: Path = option(REQUIRED, "Run that `har-cache train-head` made.", flag="from")
    data: Path = option(REQUIRED, "The data set that the run's cache was made from.")
    run: Path = option(REQUIRED, "Run directory to make: weights, metrics, curves.")
    cache: Path | None = option(None, "The run's cache, if it has moved.")
    training: TuneSettings = field(default_factory=TuneSettings)
    device: str = device_option()
    workers: int | None = workers_option("Processes that decode; default: one a core, half of that without a GPU.")
    stall_s: float = stall_option()
    resume: bool = option(False, "Go on with a run that was interrupted.")
    overwrite: bool = option(False, "Replace the run in the directory.")
    tensorboard: bool = option(False, "Write curves for TensorBoard while training, into RUN/tensorboard.")
