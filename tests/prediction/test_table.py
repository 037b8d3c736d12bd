from pathlib import Path

import numpy as np
import pytest

from har_cache.prediction.predictor import Prediction
from har_cache.prediction.table import to_table
from har_cache.prediction.windows import Window
from har_cache.storage.files import read_csv

CLASSES = ("sit", "a|b")
FAILED = {Path("bad.avi"): "a text file, not a video"}


def prediction(video: str, shares: tuple[float, float], true: str | None = None) -> Prediction:
    windows = [Window(0.0, 1.5, 0, 3, np.array([0.9, 0.1])), Window(1.5, 2.0, 3, 1, np.array([0.2, 0.8]))]
    embeddings = np.zeros((1, 4, 256), np.float16)
    return Prediction(Path(video), 2.0, embeddings, CLASSES, np.array(shares), true, None, windows=windows)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    return tmp_path / "p.csv"


def test_a_video_is_a_row_and_those_that_fail_come_last(written: Path) -> None:
    found = [prediction("x.avi", (0.25, 0.75), "sit"), prediction("sit\udcff.avi", (1.0, 0.0))]
    written.write_bytes(to_table(found, FAILED, windows=False))
    assert read_csv(written) == [
        ["video", "predicted", "probability", "top5", "true", "known", "frames", "reason"],
        ["x.avi", "a|b", "0.750000", r"a\|b|sit", "sit", "", "4", ""],
        ["sit\\xff.avi", "sit", "1.000000", r"sit|a\|b", "", "", "4", ""],
        ["bad.avi", "", "", "", "", "", "", "a text file, not a video"],
    ]


def test_a_window_is_a_row(written: Path) -> None:
    written.write_bytes(to_table([prediction("x.avi", (0.25, 0.75))], FAILED, windows=True))
    header, *rows = read_csv(written)
    assert header[:5] == ["video", "begin", "end", "predicted", "probability"]
    assert [row[:5] for row in rows] == [
        ["x.avi", "0.000", "1.500", "sit", "0.900000"],
        ["x.avi", "1.500", "2.000", "a|b", "0.800000"],
        ["bad.avi", "", "", "", ""],
    ]
    assert [row[header.index("frames")] for row in rows] == ["3", "1", ""]
