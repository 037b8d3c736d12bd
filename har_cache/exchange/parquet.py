"""Features as Parquet: a row a clip, for pandas, polars, DuckDB, Spark, and `datasets` of Hugging Face."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..cache.reader import FeatureCache
from ..errors import HarCacheError
from ..storage.files import make_directory, write_file
from .clips import ClipFeatures
from .formats import FeatureFormat

try:
    import pyarrow as pa
    import pyarrow.parquet as pq
except ImportError as error:
    raise HarCacheError("Parquet needs pyarrow: pip install pyarrow") from error

CARD = """---
configs:
- config_name: default
  data_files:
  - split: clips
    path: data/*.parquet
---
Per-frame features of {clips} clips of {classes} classes, {dim} numbers a frame, by {model}.
`split1`, `split2`, ...: the clip's subset (train, val, test, or nothing) in each split of the data set; `times`: when
each frame is shown, in seconds; `source`: the film, person or recording that a clip is of. Written by har-cache
(fingerprint {fingerprint}).
"""


class ParquetFormat(FeatureFormat):
    """`<shard>.parquet`: key, label, source, split1, split2, ..., frames, fps, times, embeddings, a row a clip."""

    folder = ""

    def files(self, name: str, keys: Sequence[str]) -> list[str]:
        """One."""
        return [f"{self.folder}{name}.parquet"]

    def write(self, folder: Path, name: str, clips: Sequence[ClipFeatures]) -> None:
        """One file."""
        out = pa.BufferOutputStream()
        pq.write_table(_table(clips), out)
        [file] = self.files(name, ())
        make_directory((folder / file).parent)
        write_file(folder / file, out.getvalue().to_pybytes())


class DatasetsFormat(ParquetFormat):
    """Parquet as the Hub of Hugging Face has it, `data/*.parquet` and a card: `datasets.load_dataset(folder)`."""

    folder = "data/"

    def finish(self, folder: Path, cache: FeatureCache) -> None:
        """The card."""
        recipe = cache.recipe
        told = {"clips": len(cache), "classes": len(cache.classes), "dim": recipe.dim, "model": recipe.model}
        write_file(folder / "README.md", CARD.format(**told, fingerprint=cache.fingerprint).encode())


def _table(clips: Sequence[ClipFeatures]) -> Any:
    offsets = np.cumsum([0, *(len(clip.embeddings) for clip in clips)])
    numbers = pa.array(np.concatenate([clip.embeddings for clip in clips]).reshape(-1), pa.float16())
    frames = pa.FixedSizeListArray.from_arrays(numbers, clips[0].embeddings.shape[1])
    columns: dict[str, Any] = {
        name: pa.array([getattr(clip, name) for clip in clips], pa.string()) for name in ("key", "label", "source")
    }
    for split, subsets in enumerate(zip(*(clip.subsets for clip in clips), strict=True), 1):
        columns[f"split{split}"] = pa.array([subset or None for subset in subsets], pa.string())
    columns["frames"] = pa.array(np.diff(offsets), pa.int64())
    columns["fps"] = pa.array([clip.fps or None for clip in clips], pa.float64())
    columns["times"] = pa.array([_seconds(clip.times) for clip in clips], pa.list_(pa.float64()))
    columns["embeddings"] = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), frames)
    return pa.table(columns)


def _seconds(times: np.ndarray | None) -> list[float | None] | None:
    return None if times is None else [None if np.isnan(time) else float(time) for time in times]
