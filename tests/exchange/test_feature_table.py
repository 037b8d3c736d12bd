from pathlib import Path
from typing import Any

import numpy as np
import pytest

from har_cache.errors import ClipError, DataError

pa = pytest.importorskip("pyarrow")
from pyarrow import parquet  # noqa: E402

from har_cache.exchange.feature_table import FeatureTable  # noqa: E402


def table(path: Path, **columns: Any) -> FeatureTable:
    parquet.write_table(pa.table(columns), path, row_group_size=1)
    return FeatureTable(path)


@pytest.mark.parametrize("names", [("key", "embeddings"), ("video_path", "features"), ("name", "embedding")])
def test_a_row_is_found_by_whatever_names_the_clip(tmp_path: Path, names: tuple[str, str]) -> None:
    clip, features = names
    found = table(
        tmp_path / "t.parquet", **{clip: ["a/1.avi", "2"], features: [[[1.0, 2.0]], [[3.0, 4.0], [5.0, 6.0]]]}
    )
    assert found.read("a/1.avi", None).embeddings.tolist() == [[1, 2]]
    assert found.read("b/2.avi", 2.0).times.tolist() == [0, 0.5]
    assert found.find("3.avi") is None
    with pytest.raises(ClipError, match=r"no row of 3\.avi"):
        found.read("3.avi", None)


def test_rows_of_a_fixed_length_and_times_are_read(tmp_path: Path) -> None:
    rows = pa.array([[[1, 2], [3, 4]]], pa.list_(pa.list_(pa.float16(), 2)))
    found = table(tmp_path / "t.parquet", key=["1"], embeddings=rows, times=[[0.0, 0.1]], fps=[10.0])
    features = found.read("1.avi", None)
    assert features.embeddings.tolist() == [[1, 2], [3, 4]] and features.embeddings.dtype == np.float16
    assert features.times.tolist() == [0.0, 0.1] and features.fps == 10


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ([[1.0, 2.0]], "expected a list of rows of numbers"),
        ([[[1.0, 2.0], [3.0]]], "rows of different lengths"),
        ([[[1.0], [2.0, 3.0, 4.0]]], "rows of different lengths"),
        ([[]], "an empty row"),
        ([[[1.0, None]]], "an empty row"),
        ([[[1.0, float("nan")]]], "a NaN or an infinity in row 0"),
    ],
)
def test_rows_that_are_no_table_of_numbers_are_refused(tmp_path: Path, rows: Any, why: str) -> None:
    kind = pa.list_(pa.float64()) if why.startswith("expected") else pa.list_(pa.list_(pa.float64()))
    found = table(tmp_path / "t.parquet", key=["1"], embeddings=pa.array(rows, kind))
    with pytest.raises(ClipError, match=why):
        found.read("1", None)


def test_a_table_without_such_columns_is_refused_with_those_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"columns key, x: expected one that names the clip"):
        table(tmp_path / "t.parquet", key=["1"], x=[1.0])
    with pytest.raises(DataError, match="'1' has two rows"):
        table(tmp_path / "t.parquet", key=["1", "1"], embeddings=[[[1.0]], [[1.0]]])
    (tmp_path / "t.parquet").write_bytes(b"PAR1 no table PAR1")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        FeatureTable(tmp_path / "t.parquet")
