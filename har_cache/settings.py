"""Settings of all stages. Each has its name, default, help and bounds on one line, and here alone: the command line's
options, the checks of their values and what config.json says of a run come from these classes. Nothing here imports
torch, since `--help` needs it.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import SettingError
from .options import REQUIRED, Settings, option

# Devices as they are asked for: one, or (of stage one alone) several GPUs.
DEVICE = r"auto|cpu|cuda(:[0-9]+)?"
DEVICES = rf"{DEVICE}|cuda:[0-9]+(,(cuda:)?[0-9]+)+"
DECODERS = ("auto", "decord", "pyav")
EXECUTORS = ("local", "ray")
PRECISIONS = ("fp32", "fp16", "bf16", "fp16-mixed", "bf16-mixed")
MNASNET = "mnasnet0_5"  # the encoder that is taken where no other is asked for
DIM = 256  # numbers of an embedding, where no other number is asked for
NATIVE = "native"
DIMS = "Numbers of an embedding, or native: as many as features; default: as --weights have it, or 256."
_DIM = "native|[1-9][0-9]{0,5}"
TIMM = "timm:"  # before the name of an encoder
# Weights that an encoder was published with: torchvision's are of ImageNet, timm's of many things.
IMAGENET, PUBLISHED, IMAGENET_OR_RANDOM = "imagenet", "published", "imagenet-or-random"
NAMED_WEIGHTS = (IMAGENET, PUBLISHED, "random", IMAGENET_OR_RANDOM)
NAMED_PROJECTIONS = ("pca", "random")
NO_PROJECTION_NAME = "none"  # as recipes have it
CENTER, FLIP, FULL = "center", "flip", "full"  # the middle of a frame; that mirrored; all of the frame
VIEWS = ("center", "center,flip", "center,full", "center,flip,full")
FEATURE_FORMATS = ("npy", "parquet", "webdataset", "datasets")
CELLS = ("gru", "lstm", "rnn", "conv")
BLOCKS = 18  # of MNASNet: the stem, sixteen inverted residuals, the last convolution
SPLITS = (1, 2, 3)  # of HMDB51
MOST_SPLITS = 99
SEEDS = r"[0-9]{1,9}-[0-9]{1,9}|[0-9]{1,9}(,[0-9]{1,9})*"
_MOST_SEEDS = 100
ALL = "all"
FORMATS = ("text", "markdown", "latex")  # of tables


def _share(default: float, help: str) -> Any:
    return option(default, help, least=0, below=1)


def _device(help: str = "Where to compute; auto: a GPU where there is one, cuda: the first.") -> Any:
    forms = "one device: auto, cpu, cuda or cuda:N"
    return option("auto", help, pattern=DEVICE, expected=forms, metavar="auto|cpu|cuda|cuda:N")


def _devices() -> Any:
    forms = "auto, cpu, cuda, cuda:N, or GPUs as cuda:0,2"
    help = "Where to compute; auto: on GPUs where there are some, cuda: on all, cuda:0,2: on these."
    return option("auto", help, pattern=DEVICES, expected=forms, metavar="auto|cpu|cuda|cuda:N,...")


def _workers(help: str = "Worker processes; default: one a core.") -> Any:
    return option(None, help, least=1)


def _stall() -> Any:
    help = "Give up on a clip after so many seconds without a frame."
    return option(60.0, help, flag="clip-timeout", above=0, metavar="SECONDS")


_LISTS = (
    "Clips as a csv of path, label and, if known, split and source; or lines of path and label. With train= before it: "
    "the training clips; train2=: those of split 2. May be given several times."
)


@dataclass(frozen=True, kw_only=True)
class ExtractSettings(Settings):
    """Settings of stage one."""

    data: Path | None = option(
        None, "Folder of class folders, also in videos/ or in train/, val/, test/; or of unlabelled videos, or a file."
    )
    lists: tuple[str, ...] = option((), _LISTS, flag="list", metavar="[train=|val=|test=]FILE")
    cache: Path = option(REQUIRED, "Cache directory to make, or to bring up to date.")
    splits: Path | None = option(None, "Folder of HMDB51's or UCF101's split lists; default: splits/ in --data.")
    folds: int | None = option(None, "Without lists: draw so many folds, which test each source once.", least=2)
    source_pattern: str | None = option(
        None,
        "Regular expression for the film or person in a file's name; with a / in it, in its path.",
        metavar="REGEX",
    )
    encoder: str = option(MNASNET, "A classification model of torchvision, or timm:NAME.", metavar="NAME")
    weights: str = option(
        IMAGENET, "imagenet (published ones), random or imagenet-or-random (demos), a .pth or .safetensors, or a run."
    )
    projection: str | None = option(None, "pca, random, or an encoder.safetensors; default: that of --weights, or pca.")
    dim: str | None = option(
        None, DIMS, pattern=_DIM, expected="a whole number from 1 on, or native", metavar="N|native"
    )
    views: tuple[str, ...] = option((CENTER,), f"One of: {'; '.join(VIEWS)}.", listed=True)
    every: int = option(1, "Embed every N-th frame.", least=1, most=999_999_999, metavar="N")
    fps: float | None = option(None, "Embed F frames a second, by their timestamps.", above=0, metavar="F")
    precision: str = option("auto", "auto: the fastest that is faithful.", choices=("auto", *PRECISIONS))
    decoder: str = option("auto", "The frames are the same.", choices=DECODERS)
    device: str = _devices()
    workers: int | None = _workers("Worker processes, of all GPUs together; default: one a core.")
    executor: str = option("local", "ray: the CPUs of a Ray cluster (RAY_ADDRESS).", choices=EXECUTORS)
    shard_clips: int = option(64, "Clips a shard; an interrupted run redoes unfinished shards.", least=1)
    seed: int = option(0, "For random weights and projections, and drawn splits.", least=0)
    stall_s: float = _stall()
    retry_failed: bool = option(False, "Try failed clips again though their files have not changed.")
    overwrite: bool = option(False, "Replace a cache made with another recipe.")

    @property
    def named_weights(self) -> str:
        """The weights as recipes name them."""
        published = PUBLISHED if self.encoder.startswith(TIMM) else IMAGENET
        return published if self.weights in (IMAGENET, PUBLISHED) else self.weights

    @property
    def wanted_dim(self) -> int | None:
        """How many numbers an embedding is to have where `--weights` do not say it; None: as many as features."""
        return None if self.dim == NATIVE else int(self.dim or DIM)

    def _check_together(self) -> None:
        if not (self.data or self.lists):
            raise SettingError("--data: which videos? Give a folder, or a --list of them")
        if self.fps is not None and self.every > 1:
            raise SettingError("--every counts frames, --fps goes by their time: give one of them")
        if self.dim == NATIVE and self.projection:
            raise SettingError(f"--projection {self.projection}: --dim native takes features as they are, without one")
        if (views := ",".join(self.views)) not in VIEWS:
            raise SettingError(f"--views {views}: expected one of: {'; '.join(VIEWS)}")
        gpus = [int(number) for number in re.findall("[0-9]+", self.device)]
        if len(set(gpus)) < len(gpus):
            raise SettingError(f"--device {self.device}: expected each GPU once")


@dataclass(frozen=True, kw_only=True)
class ImportSettings(Settings):
    """Settings of an import of features."""

    features: Path = option(REQUIRED, "Folder of .npy or .npz files, (frames, dim), one a clip; or a .parquet table.")
    lists: tuple[str, ...] = option(REQUIRED, "List of the clips, as `har-cache extract --list` has it.", flag="list")
    cache: Path = option(REQUIRED, "Cache directory to make, or to bring up to date.")
    origin: str = option("not said", "What made the features: tool, model, weights.")
    suffix: str = option("", "What their names have after a clip's name, as _resnet.")
    fps: float | None = option(None, "Features a second, where no file of times says when.", above=0)
    splits: Path | None = option(None, "Folder of split lists, where --list says nothing of splits.")
    folds: int | None = option(None, "Draw so many splits by source, where there are none.", least=2, most=99)
    source_pattern: str | None = option(None, "Regular expression that finds a clip's source in its file name.")
    shard_clips: int = option(64, "Clips a shard.", least=1)
    seed: int = option(0, "For drawn splits.", least=0)
    overwrite: bool = option(False, "Replace the cache in the directory.")


@dataclass(frozen=True, kw_only=True)
class ExportFeaturesSettings(Settings):
    """Settings of an export of features."""

    cache: Path = option(REQUIRED, "A cache.", argument=True)
    to: Path = option(REQUIRED, "Folder to write into, or to complete.")
    format: str = option(REQUIRED, "For whom.", choices=FEATURE_FORMATS)
    view: str | None = option(None, "Of which view; default: the cache's first.", choices=(CENTER, FLIP, FULL))


@dataclass(frozen=True, kw_only=True)
class HeadSettings(Settings):
    """The head's shape, and its dropout."""

    cell: str = option("gru", "The RNN's cells; conv: dilated convolutions in its place.", choices=CELLS)
    hidden: int = option(128, "Units of each direction of the RNN.", least=1, most=8192)
    layers: int = option(1, "Layers of the RNN.", least=1, most=32)
    width: int = option(256, "Channels of the transition.", least=1, most=8192)
    dropout: float = _share(0.5, "Share of units dropped in training.")
    channel_dropout: float = _share(0.2, "Share of a clip's channels dropped.")
    input_dropout: float = _share(0.1, "Share of the RNN's inputs dropped.")
    appearance_dropout: float = _share(0.2, "Share of the mean embedding dropped.")
    hide_movement: float = _share(0.2, "Share of the training clips told by their mean alone.")
    hide_appearance: float = _share(0.4, "Share of the training clips told by their movement alone.")


@dataclass(frozen=True, kw_only=True)
class TrainSettings(Settings):
    """Settings of any training. `ema`: how much of the averaged weights, which are kept, a step leaves at most."""

    epochs: int = option(64, "Epochs: passes over the training clips.", least=1)
    frames: int = option(32, "Frames a clip: one from each of so many equal segments.", least=1, most=4096)
    batch_size: int = option(32, "Clips a batch.", least=1)
    lr: float = option(2e-3, "Peak learning rate, after a linear warm-up; then a cosine.", above=0)
    weight_decay: float = option(0.05, "Of AdamW; biases and norms do not decay.", least=0)
    label_smoothing: float = _share(0.1, "Of the cross-entropy.")
    warmup: float = option(0.05, "Share of all steps in which the learning rate rises.", least=0, most=1)
    ema: float = _share(0.97, "Decay of the averaged weights, which are kept; 0: none.")
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
    ema: float = _share(0.99, "Decay of the averaged weights, which are kept; 0: none.")
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
    device: str = _device()
    resume: bool = option(False, "Go on with a run that was interrupted.")
    overwrite: bool = option(False, "Replace the run in the directory.")

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
    device: str = _device()
    workers: int | None = _workers("Processes that decode; default: one a core, half of that without a GPU.")
    stall_s: float = _stall()
    resume: bool = option(False, "Go on with a run that was interrupted.")
    overwrite: bool = option(False, "Replace the run in the directory.")


@dataclass(frozen=True, kw_only=True)
class EvaluateSettings(Settings):
    """Settings of an evaluation."""

    run: Path = option(REQUIRED, "Run directory, as written by train-head or finetune.", argument=True)
    split: int | None = option(None, "Whose test list; default: its own split's.", least=1, most=MOST_SPLITS)
    cache: Path | None = option(None, "The run's cache, if it has moved; or one of its own.")
    data: Path | None = option(None, "A fine-tuned run's data set, if it has moved.")
    workers: int | None = _workers("Processes that decode raw frames; default: one a core.")
    device: str = _device()
    probabilities: bool = option(False, "Write probabilities.csv too: every class's, as `har-cache score` reads them.")


@dataclass(frozen=True, kw_only=True)
class KnownClips(Settings):
    """Of what needs no more than what a data set's clips are: a cache knows that too."""

    cache: Path | None = option(None, "A cache of the data set: it knows classes, splits and sources.")
    data: Path | None = option(None, "The data set, in place of a cache, as `har-cache extract` has it.")
    lists: tuple[str, ...] = option((), "As `har-cache extract` has it.", flag="list", metavar="FILE")
    splits: Path | None = option(None, "As `har-cache extract` has it.")
    folds: int | None = option(None, "As `har-cache extract` has it.", least=2)
    source_pattern: str | None = option(None, "As `har-cache extract` has it.", metavar="REGEX")

    def _check_together(self) -> None:
        if bool(self.cache) == bool(self.data or self.lists):
            raise SettingError("--cache and --data (or --list) both say which clips there are: give one of them")
        if self.cache and (self.splits or self.folds or self.source_pattern):
            raise SettingError("--splits, --folds and --source-pattern go with --data: a cache has its own")


@dataclass(frozen=True, kw_only=True)
class ScoreSettings(KnownClips):
    """Settings of an evaluation of predictions, whoever made them."""

    predictions: Path = option(REQUIRED, "CSV: key, predicted; and what else is known: see docs/scoring.md.")
    trained_on: Path = option(REQUIRED, "CSV of the clips that the model learnt from: key; or a run's clips.csv.")
    split: int | None = option(None, "Whose test list; default: the one that is predicted.", least=1, most=MOST_SPLITS)
    out: Path | None = option(None, "Directory for metrics.json, tables, confusion.png and report.html.")


@dataclass(frozen=True, kw_only=True)
class LeakageSettings(KnownClips):
    """Settings of the overlap of splits."""

    format: str = option("text", "What the table is printed as.", choices=FORMATS)


@dataclass(frozen=True, kw_only=True)
class ProtocolSettings(Settings):
    """Settings of a training by two protocols."""

    cache: Path = option(REQUIRED, "A cache with three splits or more.", argument=True)
    run: Path = option(REQUIRED, "Directory for the runs: RUN/split1, RUN/split2, ... and RUN/headline.")
    training: TrainSettings = field(default_factory=TrainSettings)
    head: HeadSettings = field(default_factory=HeadSettings)
    device: str = _device()
    overwrite: bool = option(False, "Train again what is there.")


@dataclass(frozen=True, kw_only=True)
class ReproduceSettings(Settings):
    """Settings of a reproduction: everything, from the download to the table."""

    cache: Path = option(REQUIRED, "Cache directory to make, or a cache that is there.")
    runs: Path = option(REQUIRED, "Directory for all runs, and for the table: reproduction.md and .json.")
    data: Path | None = option(None, "HMDB51, or where to put it; without: no step that needs videos.")
    mirrors: tuple[str, ...] = option((), "Where to get HMDB51, as `har-cache download --from` has it.", flag="from")
    weights: str = option("imagenet", "As `har-cache extract` has it.")
    views: tuple[str, ...] = option(("center", "flip"), "As `har-cache extract` has it.", listed=True)
    seeds: str = option("0-2", "The seeds to train with, on each split.", pattern=SEEDS, expected="0-2 or 0,1,2")
    folds: int = option(5, "Folds of each training list.", least=2)
    training: TrainSettings = field(default_factory=TrainSettings)
    head: HeadSettings = field(default_factory=HeadSettings)
    finetune: bool = option(True, "Fine-tune a head of each split, end to end.")
    tune_epochs: int = option(12, "Epochs of fine-tuning.", least=1)
    unfreeze: int | None = option(None, "Fine-tune the last so many blocks; default: all.", least=0, most=BLOCKS)
    backbone_lr: float = option(0.1, "Learning rate of the backbone, as `har-cache finetune` has it.", above=0, most=1)
    device: str = _device()
    workers: int | None = _workers()
    plan: bool = option(False, "Only say what would be done, what it costs and what is expected.")


def _format() -> Any:
    return option("text", "What tables are printed as.", choices=FORMATS)


@dataclass(frozen=True, kw_only=True)
class CompareSettings(Settings):
    """Settings of a comparison."""

    runs: tuple[Path, ...] = option(
        REQUIRED, "Run directories, evaluated; the first is the reference.", argument=True, metavar="RUN..."
    )
    split: int | None = option(None, "Whose test list; default: its own split's.", least=1, most=MOST_SPLITS)
    out_of_fold: bool = option(False, "On the training list, by runs of --folds: to choose settings without a test.")
    format: str = _format()
    page: Path | None = option(None, "Write a page too: an .html that needs nothing else.")

    def _check_together(self) -> None:
        if self.out_of_fold and self.split:
            raise SettingError("--split names a test list, --out-of-fold asks for none: give one of them")
        if self.out_of_fold and len(self.runs) < 2:
            raise SettingError("RUN...: expected two or more to be compared out of fold")


@dataclass(frozen=True, kw_only=True)
class AblateSettings(Settings):
    """Settings of ablations without training."""

    run: Path = option(REQUIRED, "Run directory, as written by train-head or finetune.", argument=True)
    split: int | None = option(None, "Whose test list; default: its own split's.", least=1, most=MOST_SPLITS)
    cache: Path | None = option(None, "The run's cache, if it has moved; of a fine-tuned run one of its own.")
    device: str = _device()
    format: str = _format()


@dataclass(frozen=True, kw_only=True)
class PredictSettings(Settings):
    """Settings of a prediction."""

    run: Path = option(REQUIRED, "Run directory, as written by train-head or finetune.", argument=True)
    videos: tuple[Path, ...] = option(REQUIRED, "Videos, or folders of them.", argument=True, metavar="VIDEO...")
    film: Path | None = option(None, "Write an annotated film of the videos: a .gif, or an .mp4.", flag="gif")
    device: str = _device("Where the head computes; auto: the CPU, where frames are embedded.")
    workers: int | None = _workers()
    stall_s: float = _stall()


@dataclass(frozen=True, kw_only=True)
class SampleSettings(Settings):
    """Settings of the drawn sample."""

    out: Path = option(REQUIRED, "Directory to draw into.")
    classes: int = option(8, "Actions, 2 to 14; they come in pairs that look alike.", least=2, most=14)
    clips: int | None = option(None, "Clips of each action; default: 80, or 40 with --hard.", least=8)
    seed: int = option(0, "Another seed draws other people.", least=0)
    hard: bool = option(False, "A harder one: noisier, and with fewer clips.")
    workers: int | None = _workers()

    def _check_together(self) -> None:
        if self.classes % 2:
            raise SettingError(f"--classes {self.classes}: expected an even number; they come in pairs that look alike")


@dataclass(frozen=True, kw_only=True)
class StandinSettings(Settings):
    """Settings of a cache without videos."""

    splits: Path = option(REQUIRED, "Folder of <class>_test_split<k>.txt, which name the clips.")
    cache: Path = option(REQUIRED, "Cache directory to make.")
    seed: int = option(0, "Another seed makes up other embeddings.", least=0)


_MIRRORS = (
    "An archive, a folder with what was unpacked of it, or the URL of an archive or of a folder of both; may be given "
    "several times. Default: the official site."
)


@dataclass(frozen=True, kw_only=True)
class DownloadSettings(Settings):
    """Settings of the download of HMDB51."""

    out: Path = option(REQUIRED, "Folder to fill, or to complete; extract takes it as --data.")
    mirrors: tuple[str, ...] = option((), _MIRRORS, flag="from")
    unverified: bool = option(False, "Take archives of another sha256 than the published one.")


@dataclass(frozen=True, kw_only=True)
class BenchSettings(Settings):
    """Settings of the measurement of this machine."""

    data: Path = option(REQUIRED, "Data set; up to 64 of its clips are used.")
    encoder: str = option(MNASNET, "As `har-cache extract` has it.", metavar="NAME")
    baseline: bool = option(False, "Measure the naive baseline too, and what is saved.")
    device: str = _device()
    workers: int | None = _workers()
    seconds: float = option(1.0, "How long each part is measured in each run.", above=0)
    repeats: int = option(7, "Runs; the median is shown.", least=1)
