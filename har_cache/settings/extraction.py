"""Settings of stage one."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ..errors import SettingError
from ..options import REQUIRED, Settings, option
from .common import devices_option, stall_option, workers_option
from .names import CENTER, DECODERS, DIM, EXECUTORS, IMAGENET, MNASNET, NATIVE, PRECISIONS, PUBLISHED, TIMM, VIEWS

DIMS = "Size of an embedding; native: the backbone's features as they are; default: that of --weights, or 256."
_DIM = "native|[1-9][0-9]{0,5}"


_LISTS = (
    "Clips as a csv (path, label and, if known, split, source) or as lines of path and label; train=FILE: training "
    "clips, train2=FILE: those of split 2. Repeatable."
)


@dataclass(frozen=True, kw_only=True)
class ExtractSettings(Settings):
    """Settings of stage one."""

    SECTIONS: ClassVar = {
        "data": "Data",
        "encoder": "Encoder",
        "views": "Frames",
        "precision": "Computing",
        "shard_clips": "Cache",
    }

    data: Path | None = option(
        None, "Class folders, also in videos/ or train/, val/, test/; unlabelled videos; or one video."
    )
    lists: tuple[str, ...] = option((), _LISTS, flag="list", metavar="[train=|val=|test=]FILE")
    cache: Path = option(REQUIRED, "Cache directory to make or to bring up to date.", aliases=("out",))
    splits: Path | None = option(None, "Folder of split lists, HMDB51's or UCF101's; default: splits/ in --data.")
    folds: int | None = option(None, "Without split lists: draw so many folds by source, each tested once.", least=2)
    source_pattern: str | None = option(
        None,
        "Regular expression for a clip's source (film, person) in its name; with a /, in its path.",
        metavar="REGEX",
    )
    encoder: str = option(MNASNET, "Backbone: a classification model of torchvision, or timm:NAME.", metavar="NAME")
    weights: str = option(
        IMAGENET,
        "imagenet: as published; random, imagenet-or-random: for demos; a .pth or .safetensors file; a run.",
        metavar="imagenet|random|FILE|RUN",
    )
    projection: str | None = option(
        None,
        "Features to embedding: pca, random or an encoder.safetensors; default: that of --weights, or pca.",
        metavar="pca|random|FILE",
    )
    dim: str | None = option(
        None, DIMS, pattern=_DIM, expected="a whole number from 1 on, or native", metavar="N|native"
    )
    views: tuple[str, ...] = option((CENTER,), f"Crops to embed: {'; '.join(VIEWS)}.", listed=True, metavar="VIEWS")
    every: int = option(1, "Embed every N-th frame.", least=1, most=999_999_999, metavar="N")
    fps: float | None = option(None, "Embed F frames a second, by their timestamps.", above=0, metavar="F")
    precision: str = option("auto", "auto: the fastest that is faithful to fp32.", choices=("auto", *PRECISIONS))
    decoder: str = option("auto", "Video decoder; of sound files all give the same frames.", choices=DECODERS)
    device: str = devices_option()
    workers: int | None = workers_option("Worker processes, of all GPUs together; default: one per core.")
    executor: str = option("local", "ray: the CPUs of a Ray cluster (RAY_ADDRESS).", choices=EXECUTORS)
    shard_clips: int = option(64, "Clips per shard; after an interruption, unfinished shards are made again.", least=1)
    seed: int = option(0, "Random seed, of random weights and projections and of drawn splits.", least=0)
    stall_s: float = stall_option()
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
