"""Features in tables of Parquet: a row a clip."""

from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ..errors import ClipError, DataError, HarCacheError
from .feature_files import Features, checked, times_of

try:
    import pyarrow as pa
    import pyarrow.parquet as pq
except ImportError as error:
    raise HarCacheError("Parquet needs pyarrow: pip install pyarrow") from error

_CLIP = ("key", "path", "video", "video_path", "filename", "name")
_FEATURES = ("embeddings", "features", "embedding", "feature")


class FeatureTable:
    """The rows of a .parquet file, or of all in a folder, by the clip that they are of. A row group is in memory at a
    time. Raises DataError where it cannot be read, or a column is missing.

    `key`, or else `path` and the like, names the clip; `embeddings` or `features` holds a list of rows of numbers;
    `times` and `fps` may be there.
    """

    def __init__(self, path: Path) -> None:
        self.folder = path
        files = [path] if path.is_file() else sorted(path.rglob("*.parquet"))
        self._rows: dict[str, tuple[Path, int, int]] = {}  # file, row group and row of each clip
        for file in files:
            self._index(file)
        self._group: tuple[tuple[Path, int] | None, Any] = (None, None)

    def find(self, clip: str) -> Path | None:
        """The file that a clip's row is in, None where there is none; its path is relative to the data set."""
        row = self._row(clip)
        return row[0] if row else None

    def place(self, clip: str) -> object:
        """What no two clips may share."""
        return self._row(clip)

    def expected(self, clip: str) -> Path:
        """Where the row of a clip that has none would be."""
        return self.folder

    def others(self, clip: str) -> str:
        """Advice where no clip has a row."""
        return f"; its first row is of {next(iter(self._rows), 'nothing')!r}"

    def read(self, clip: str, fps: float | None) -> Features:
        """The features of a clip. Raises ClipError as `read_features` does."""
        row = self._row(clip)
        if row is None:
            raise ClipError(f"no features: no row of {PurePosixPath(clip).name}")
        values = {name: column[row[2]] for name, column in self._columns(row).items()}
        array = checked(_array(values[_FEATURES[0]]))
        rate = fps or _number(values.get("fps"))
        told = values.get("times")
        times = None if told is None or not told.is_valid else np.array(told.as_py(), np.float64)
        return Features(array, times_of(times, len(array), fps, "times"), rate)

    def _row(self, clip: str) -> tuple[Path, int, int] | None:
        path = PurePosixPath(clip)
        names = (clip, str(path.with_suffix("")), path.name, path.stem)
        return next((self._rows[name] for name in names if name in self._rows), None)

    def _index(self, file: Path) -> None:
        try:
            table = pq.ParquetFile(file)
            there = table.schema_arrow.names
            clip = next((name for name in _CLIP if name in there), None)
            if clip is None or not set(_FEATURES) & set(there):
                expected = f"one that names the clip ({', '.join(_CLIP)}), one of features ({', '.join(_FEATURES)})"
                raise DataError(f"{file}: columns {', '.join(there)}: expected {expected}")
            for group in range(table.num_row_groups):
                for row, name in enumerate(table.read_row_group(group, [clip]).column(0).to_pylist()):
                    if self._rows.setdefault(str(name), (file, group, row)) != (file, group, row):
                        raise DataError(f"{file}: {name!r} has two rows; keep one")
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{file}: cannot be read as Parquet: {' '.join(str(error).split())[:200]}") from error

    def _columns(self, row: tuple[Path, int, int]) -> dict[str, Any]:
        wanted = row[:2]
        if self._group[0] != wanted:
            table = pq.ParquetFile(row[0])
            there = table.schema_arrow.names
            features = next(name for name in _FEATURES if name in there)
            names = {_FEATURES[0]: features} | {name: name for name in ("times", "fps") if name in there}
            group = table.read_row_group(row[1], list(names.values()))
            self._group = wanted, {name: group.column(column) for name, column in names.items()}
        columns: dict[str, Any] = self._group[1]
        return columns


def _array(value: Any) -> np.ndarray:
    """(frames, dim) of a list of rows. Raises ClipError where rows are of different lengths, or it is no such list."""
    rows = value.values if value.is_valid and hasattr(value, "values") else None
    if rows is None or not hasattr(rows, "flatten") or not pa.types.is_nested(rows.type):
        raise ClipError(f"{value.type}: expected a list of rows of numbers")
    flat = rows.flatten()
    if rows.null_count or flat.null_count or not len(rows) or len(flat) % len(rows):
        raise ClipError("an empty row, or rows of different lengths: expected (frames, dim)")
    if len(set(rows.value_lengths().to_pylist())) != 1:
        raise ClipError("rows of different lengths: expected (frames, dim)")
    return np.asarray(flat.to_numpy(zero_copy_only=False)).reshape(len(rows), -1)


def _number(value: Any) -> float:
    return float(value.as_py()) if value is not None and value.is_valid else 0.0
