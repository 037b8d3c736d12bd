import io
import zipfile
from pathlib import Path

import pytest

from har_cache.errors import HarCacheError, RunError
from har_cache.training.checkpoints import COLUMNS, best_row, load_checkpoint, read_metrics, sealed, write_metrics

ROWS = [dict(zip(COLUMNS, (epoch, 0.5, 0.25, loss, 0.75, 0.001, 2.0), strict=True)) for epoch, loss in ((1, 2), (2, 1))]


def test_metrics_come_back_and_the_lowest_validation_loss_is_the_best(tmp_path: Path) -> None:
    write_metrics(tmp_path, ROWS)
    assert read_metrics(tmp_path) == ROWS
    assert best_row(ROWS) == ROWS[1] and best_row([*ROWS, {**ROWS[1], "epoch": 3}])["epoch"] == 2


@pytest.mark.parametrize(
    "text",
    ["", "epoch,loss\n1,2\n", f"{','.join(COLUMNS)}\n1,2\n", f"{','.join(COLUMNS)}\n1,2,3,four,5,6,7\n"],
)
def test_damaged_metrics_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "metrics.csv").write_text(text)
    with pytest.raises(HarCacheError, match=r"metrics\.csv: damaged .*; train again with --overwrite"):
        read_metrics(tmp_path)


@pytest.mark.parametrize(
    "pickled", [b"", b"\x80\x02}", b"\x80\x02u.", b"\x80\x02h\x07.", b"\x80\x02" + b"]" * 9 + b"."]
)
def test_a_checkpoint_whose_pickle_makes_no_sense_is_refused(tmp_path: Path, pickled: bytes) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/version", b"3\n")
    (tmp_path / "last.ckpt").write_bytes(sealed(file.getvalue()))
    with pytest.raises(RunError, match=r"last\.ckpt: .*start over with --overwrite"):
        load_checkpoint(tmp_path / "last.ckpt")
