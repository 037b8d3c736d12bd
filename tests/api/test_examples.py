"""The documentation's Python: pages, a notebook, and the examples of docstrings; in order, on the sample's cache."""

import inspect
import json
import re
import shutil
import textwrap
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch

import har_cache
from har_cache.api import figures, runs

DOCS = Path(__file__).parents[2] / "docs"
CALLED_ELSEWHERE = {"download", "finetune", "import_features", "sample"}  # their examples take a network, or long


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", har_cache.HarCacheWarning)
        yield


def run(code: str, names: dict[str, Any]) -> None:
    exec(compile(code, "example", "exec"), names)


def blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)


def test_the_page_of_the_api_runs(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    for block in blocks("python.md"):
        run(block, names)
    printed = capsys.readouterr().out
    assert "Evaluations(Evaluation('data/runs/sample/evaluate/split1': top-1 " in printed
    assert "epoch=: no such option; did you mean epochs=?" in printed
    assert len(names["report"].predictions) == 8 and names["probabilities"].shape == (2,)


def test_the_page_of_an_own_head_runs_and_its_head_has_30_lines(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names: dict[str, Any] = {}
    first, second = blocks("own-head.md")
    assert len([line for line in first.splitlines() if line]) <= 30
    run(first, names)
    run(second, names)
    assert "Score(top-1 " in capsys.readouterr().out and (place / "own-head" / "report.html").is_file()


def test_the_notebook_runs_and_was_saved_without_outputs(place: Path) -> None:
    cells = json.loads((DOCS / "own_head.ipynb").read_text("utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] or cell["execution_count"] for cell in code)
    names: dict[str, Any] = {}
    for cell in code:
        run("".join(cell["source"]), names)
    assert names["run"].config.best and len(names["right"]) == len(names["val"])


def example(function: Any) -> str:
    indented = re.findall(r"^(?: {4}.*\n)+", inspect.getdoc(function) or "", re.MULTILINE)
    return textwrap.dedent(indented[0]) if indented else ""


def test_every_public_name_has_an_example_in_its_docstring_or_none_to_give() -> None:
    without = {name for name in har_cache.__all__ if not example(getattr(har_cache, name))}
    assert without == {"FeatureCache", "HarCacheError", "HarCacheWarning", "Head", "Predictor", "Run", "__version__"}


def test_examples_of_docstrings_run(place: Path) -> None:
    names: dict[str, Any] = {"har_cache": har_cache, "torch": torch}
    for name in ("train_head", "evaluate"):
        run(example(getattr(har_cache, name)), names)
    for copy in ("a", "b"):
        shutil.copytree("data/runs/sample", f"data/runs/{copy}")
    shutil.copy("data/runs/sample/evaluate/split1/predictions.csv", "predictions.csv")
    shutil.copy("data/runs/sample/clips.csv", "trained.csv")
    for clip, video in zip(sorted(place.glob("data/sample/videos/*/*.avi")), ("a.mp4", "b.mp4"), strict=False):
        shutil.copy(clip, video)
    for name in sorted(set(har_cache.__all__) - CALLED_ELSEWHERE - {"train_head", "evaluate"}):
        run(example(getattr(har_cache, name)), names)
    assert names["page"].is_file() and len(names["report"].predictions) == 2


@pytest.mark.parametrize("name", sorted(CALLED_ELSEWHERE))
def test_examples_that_take_long_have_good_options(name: str, monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    asked: list[Any] = []
    homes = {
        "download": "downloading.download.download",
        "finetune": "finetuning.finetune.finetune",
        "import_features": "exchange.import_features.import_features",
        "sample": "sample_data.draw.draw",
    }

    def stage(settings: Any, progress: Any) -> Any:
        settings.check()
        asked.append(settings)
        return Mock()

    monkeypatch.setattr(f"har_cache.{homes[name]}", stage)
    run(example(getattr(har_cache, name)), {"har_cache": har_cache})
    assert len(asked) == 1


def test_functions_are_in_modules_of_what_they_are_about() -> None:
    assert har_cache.evaluate is figures.evaluate and har_cache.train_head is runs.train_head
