from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from har_cache.errors import HarCacheError
from har_cache.training.checkpoints import COLUMNS, best_row, read_metrics, write_metrics

ROWS = [dict(zip(COLUMNS, (epoch, 0.5, 0.25, loss, 0.75, 0.001, 2.0), strict=True)) for epoch, loss in ((1, 2), (2, 1))]


def run_in(path: Path) -> Any:
    return SimpleNamespace(path=path, config=SimpleNamespace(files={}))


def test_metrics_come_back_and_the_lowest_validation_loss_is_the_best(tmp_path: Path) -> None:
    write_metrics(tmp_path, ROWS)
    assert read_metrics(run_in(tmp_path)) == ROWS
    assert best_row(ROWS) == ROWS[1] and best_row([*ROWS, {**ROWS[1], "epoch": 3}])["epoch"] == 2


@pytest.mark.parametrize(
    "text",
    ["", "epoch,loss\n1,2\n", f"{','.join(COLUMNS)}\n1,2\n", f"{','.join(COLUMNS)}\n1,2,3,four,5,6,7\n"],
)
def test_damaged_metrics_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "metrics.csv").write_text(text)
    with pytest.raises(HarCacheError, match=r"metrics\.csv: damaged .*; train again with --overwrite"):
        read_metrics(run_in(tmp_path))
