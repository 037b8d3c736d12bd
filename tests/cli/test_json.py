"""Commands whose result is files say with --json what they made: one object on stdout, and nothing else."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from har_cache_cli.main import app
from typer.testing import CliRunner, Result

from har_cache.cache.manifest import read_manifest
from har_cache.evaluation.results import Evaluation

from ..conftest import Finished
from ..evaluation.test_results import METRICS


def call(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def content(result: Result) -> dict[str, Any]:
    return json.loads(result.stdout)


def test_extract(finished: Finished, tmp_path: Path) -> None:
    own = finished.copy(tmp_path)
    options = ["--weights", "random", "--shard-clips", 2, "--workers", 2]
    found = content(call("extract", "--data", own.data, "--out", own.cache, *options, "--json"))
    manifest = read_manifest(own.cache)
    assert (found["cache"], found["fingerprint"]) == (str(own.cache), manifest.fingerprint)
    assert found["counts"]["clips"] == 16 and found["clips"] == 0 and found["failures"] == []


def test_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from har_cache.sample_data import draw

    made = draw.SampleReport(2, 16, 400, tmp_path / "s")
    monkeypatch.setattr(draw, "draw", lambda *_: made)
    result = call("sample", "--out", tmp_path / "s", "--json")
    assert content(result) == {"classes": 2, "clips": 16, "frames": 400, "path": str(tmp_path / "s")}


def test_standin(tmp_path: Path) -> None:
    for name in ("a", "b"):
        rows = "".join(f"film{i}_{name}_{n}.avi {1 + (i == 0)}\n" for i in range(3) for n in range(2))
        (tmp_path / "lists").mkdir(exist_ok=True)
        for split in (1, 2, 3):
            (tmp_path / "lists" / f"{name}_test_split{split}.txt").write_text(rows)
    found = content(call("standin", "--splits", tmp_path / "lists", "--cache", tmp_path / "c", "--json"))
    assert (found["cache"], found["clips"], found["classes"]) == (str(tmp_path / "c"), 12, 2)


def test_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from har_cache.exporting import export

    metadata = {"stage": "head", "split": "1", "frames": "8"}
    written = export.Export(tmp_path / "m.onnx", 9, metadata, 1e-6, "noise")
    monkeypatch.setattr(export, "export", lambda *_: written)
    found = content(call("export", "run", "--out", tmp_path / "m.onnx", "--json"))
    assert (found["path"], found["bytes"], found["metadata"]) == (str(tmp_path / "m.onnx"), 9, metadata)


def test_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from har_cache.pages import report

    monkeypatch.setattr(report, "report", lambda run, *_: run / "report.html")
    assert content(call("report", "run\udcff", "--json")) == {"runs": ["run\\xff"], "page": "run\\xff/report.html"}


def test_an_evaluation_with_clips_that_do_not_decode_ends_with_3_unless_that_is_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from har_cache.evaluation import evaluate

    done = replace(Evaluation(tmp_path, METRICS, []), failures={"a/1.avi": "empty file"})
    monkeypatch.setattr(evaluate, "evaluate", lambda *_: [done])
    result = call("evaluate", "run", "--json")
    assert result.exit_code == 3 and content(result)["split"] == METRICS.split
    assert "1 clip could not be decoded" in result.stderr
    assert call("evaluate", "run", "--json", "--allow-failed").exit_code == 0
    monkeypatch.setattr(evaluate, "evaluate", lambda *_: [replace(done, failures={})])
    assert call("evaluate", "run", "--json").exit_code == 0
