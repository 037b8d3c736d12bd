from pathlib import Path

import pytest
from har_cache_cli.main import app
from typer.testing import CliRunner, Result

from har_cache.exporting import export as exporting
from har_cache.exporting.export import Export
from har_cache.progress import Progress


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["export", *map(str, arguments)])


def test_it_says_how_it_was_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def export(run: Path, to: Path, video: Path | None, progress: Progress) -> Export:
        assert (run, video) == (tmp_path / "run", Path("clip.avi"))
        metadata = {"stage": "finetune", "split": "2", "frames": "8", "classes": "[]"}
        return Export(to, 7_300_000, metadata, 2.4e-6, f"frames of {video}")

    monkeypatch.setattr(exporting, "export", export)
    result = call(tmp_path / "run", "--to", tmp_path / "model.onnx", "--video", "clip.avi")
    assert result.exit_code == 0 and result.stdout == "", result.output
    checked, written = result.stderr.splitlines()
    assert checked == "Checked on frames of clip.avi: logits differ by at most 2.4e-06 from the model's"
    assert written == f"{tmp_path / 'model.onnx'}: 7.3 MB, stage finetune, split 2, frames 8"


def test_errors_are_one_line_and_exit_code_1(tmp_path: Path) -> None:
    for to, code in (("model.txt", 2), ("model.pt2", 1)):
        result = call(tmp_path, "--to", tmp_path / to)
        assert result.exit_code == code
        assert result.stderr.startswith("Error: ") and result.stderr.count("\n") == 1
    assert call(tmp_path).exit_code == 2
