"""Settings of features from elsewhere, and for elsewhere."""

from dataclasses import dataclass
from pathlib import Path

from ..options import REQUIRED, Settings, option
from .names import CENTER, FEATURE_FORMATS, FLIP, FULL


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
