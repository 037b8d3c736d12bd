"""Settings of what stands beside the stages: data sets, whole reproductions, the bench."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from ..errors import SettingError
from ..options import REQUIRED, Settings, option
from .common import device_option, workers_option
from .names import BLOCKS, MNASNET, SEEDS
from .training import HeadSettings, TrainSettings


@dataclass(frozen=True, kw_only=True)
class ProtocolSettings(Settings):
    """Settings of a training by two protocols."""

    SECTIONS: ClassVar = {"run": "Data", "training": "Training", "head": "Head", "device": "Run"}

    cache: Path = option(REQUIRED, "A cache with three splits or more.", argument=True)
    run: Path = option(REQUIRED, "Directory for the runs: RUN/split1, RUN/split2, ... and RUN/headline.", metavar="DIR")
    training: TrainSettings = field(default_factory=TrainSettings)
    head: HeadSettings = field(default_factory=HeadSettings)
    device: str = device_option()
    overwrite: bool = option(False, "Train again what is there already.")


@dataclass(frozen=True, kw_only=True)
class ReproduceSettings(Settings):
    """Settings of a reproduction: everything, from the download to the table."""

    SECTIONS: ClassVar = {
        "cache": "Data",
        "seeds": "Training",
        "head": "Head",
        "finetune": "Fine-tuning",
        "device": "Run",
    }

    cache: Path = option(REQUIRED, "Cache directory to make, or a cache that is there.")
    runs: Path = option(REQUIRED, "Directory for all runs, and for the table: reproduction.md and .json.")
    data: Path | None = option(None, "HMDB51, or where to put it; without it no step that needs videos.")
    mirrors: tuple[str, ...] = option((), "Where HMDB51 is, as of `download --from`.", flag="from", metavar="URL|PATH")
    weights: str = option("imagenet", "Weights of the encoder, as of `har-cache extract`.", metavar="WEIGHTS")
    views: tuple[str, ...] = option(("center", "flip"), "Crops, as of `extract`.", listed=True, metavar="VIEWS")
    seeds: str = option("0-2", "Random seeds, each a run.", pattern=SEEDS, expected="0-2 or 0,1,2", metavar="0-2|0,1,2")
    folds: int = option(5, "Folds of each training list, to choose settings by.", least=2)
    training: TrainSettings = field(default_factory=TrainSettings)
    head: HeadSettings = field(default_factory=HeadSettings)
    finetune: bool = option(True, "Fine-tune a run of each split end to end.")
    tune_epochs: int = option(12, "Epochs of fine-tuning.", least=1)
    unfreeze: int | None = option(None, "Fine-tune the last so many blocks; default: all.", least=0, most=BLOCKS)
    backbone_lr: float = option(0.1, "Learning rate of the backbone, as a factor of --lr.", above=0, most=1)
    device: str = device_option()
    workers: int | None = workers_option()
    plan: bool = option(False, "Only say what would be done, what it costs, and what to expect.")


@dataclass(frozen=True, kw_only=True)
class SampleSettings(Settings):
    """Settings of the drawn sample."""

    out: Path = option(REQUIRED, "Folder to draw into.", aliases=("data",))
    classes: int = option(8, "Classes, 2 to 14, even: they come in pairs that look alike.", least=2, most=14)
    clips: int | None = option(None, "Clips per class; default: 80, or 40 with --hard.", least=8)
    seed: int = option(0, "Random seed; another one draws other people.", least=0)
    hard: bool = option(False, "Draw a harder data set: noisier, with fewer clips.")
    workers: int | None = workers_option()

    def _check_together(self) -> None:
        if self.classes % 2:
            raise SettingError(f"--classes {self.classes}: expected an even number; they come in pairs that look alike")


@dataclass(frozen=True, kw_only=True)
class StandinSettings(Settings):
    """Settings of a cache without videos."""

    splits: Path = option(REQUIRED, "Folder of split lists, <class>_test_split<k>.txt, which name the clips.")
    cache: Path = option(REQUIRED, "Cache directory to make.", aliases=("out",))
    seed: int = option(0, "Random seed of the embeddings.", least=0)


_MIRRORS = "An archive, a folder unpacked from one, or the URL of either. Repeatable; default: the official site."


@dataclass(frozen=True, kw_only=True)
class DownloadSettings(Settings):
    """Settings of the download of HMDB51."""

    out: Path = option(REQUIRED, "Folder to fill or to complete; extract takes it as --data.", aliases=("data",))
    mirrors: tuple[str, ...] = option((), _MIRRORS, flag="from", metavar="URL|PATH")
    unverified: bool = option(False, "Take archives whose sha256 is not the published one.")


@dataclass(frozen=True, kw_only=True)
class BenchSettings(Settings):
    """Settings of the measurement of this machine."""

    data: Path = option(REQUIRED, "Data set, of which up to 64 clips are used.")
    encoder: str = option(MNASNET, "Backbone, as of `har-cache extract`.", metavar="NAME")
    baseline: bool = option(False, "Measure the naive baseline too, and what is saved against it.")
    device: str = device_option()
    workers: int | None = workers_option()
    seconds: float = option(1.0, "How long each part is measured in each repeat.", above=0, metavar="SECONDS")
    repeats: int = option(7, "Repeats, of which the median is shown.", least=1)
