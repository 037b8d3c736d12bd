"""Settings of features from elsewhere, and for elsewhere."""

from dataclasses import dataclass
from pathlib import Path

from ..options import REQUIRED, Settings, option
from .names import CENTER, FEATURE_FORMATS, FLIP, FULL


@dataclass(frozen=True, kw_only=True)
class ImportSettings(Settings):
    """Settings of an import of features."""

    features: Path = option(REQUIRED, "Folder of .npy or .npz files, one per clip, (frames, dim); or a .parquet file.")
    lists: tuple[str, ...] = option(REQUIRED, "List of the clips, as of `extract --list`.", flag="list", metavar="FILE")
    cache: Path = option(REQUIRED, "Cache directory to make or to bring up to date.", aliases=("out",))
    origin: str = option("not said", "What made the features: tool, model, weights.", metavar="TEXT")
    suffix: str = option(
        "", "What file names have after the clip's name, as _resnet in clip_resnet.npy.", metavar="SUFFIX"
    )
    fps: float | None = option(None, "Features per second, where no file has their times.", above=0, metavar="F")
    splits: Path | None = option(None, "Folder of split lists, where --list does not tell splits.")
    folds: int | None = option(None, "Without split lists: draw so many folds by source.", least=2, most=99)
    source_pattern: str | None = option(
        None, "Regular expression for a clip's source in its file name.", metavar="REGEX"
    )
    shard_clips: int = option(64, "Clips per shard.", least=1)
    seed: int = option(0, "Random seed, of drawn splits.", least=0)
    overwrite: bool = option(False, "Replace a cache that is in the directory.")


@dataclass(frozen=True, kw_only=True)
class ExportFeaturesSettings(Settings):
    """Settings of an export of features."""

    cache: Path = option(REQUIRED, "Cache directory.", argument=True)
    to: Path = option(REQUIRED, "Folder to write to, or to complete.", aliases=("out",))
    format: str = option(REQUIRED, "Format of the files.", choices=FEATURE_FORMATS)
    view: str | None = option(None, "View to write; default: the cache's first.", choices=(CENTER, FLIP, FULL))
