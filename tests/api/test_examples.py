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
from har_cache.api.figures import Evaluations
from har_cache.evaluation.results import read_evaluation

DOCS = Path(__file__).parents[2] / "docs"
TAKE_LONG = {"download", "finetune", "import_features", "predict", "sample"}  # or a network


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
    assert without == {"HarCacheError", "HarCacheWarning", "Run", "__version__"}


def test_examples_of_docstrings_run_and_results_print_as_one_line_and_are_json(place: Path) -> None:
    names: dict[str, Any] = {"har_cache": har_cache, "torch": torch}
    found = {}
    for name in ("train_head", "evaluate"):
        run(example(getattr(har_cache, name)), names)
        found[name] = names[{"train_head": "run", "evaluate": "found"}[name]]
    for copy in ("a", "b"):
        shutil.copytree("data/runs/sample", f"data/runs/{copy}")
    shutil.copy("data/runs/sample/evaluate/split1/predictions.csv", "predictions.csv")
    shutil.copy("data/runs/sample/clips.csv", "trained.csv")
    for name in sorted(set(har_cache.__all__) - TAKE_LONG - {"train_head", "evaluate"}):
        run(example(getattr(har_cache, name)), names)
    assert names["page"].is_file() and names["report"].clips == 0  # it was there

    evaluations, trained = found["evaluate"], found["train_head"]
    both = Evaluations((*evaluations, read_evaluation(place / "data/runs/a/evaluate/split1")))
    comparison = har_cache.compare(["data/runs/a", "data/runs/b"])
    score, extracted = names["found"], names["report"]
    for result in (trained, evaluations, evaluations[0], both, comparison, score, extracted):
        assert "\n" not in repr(result) and len(repr(result)) < 300
        assert result.to_dict().keys() == json.loads(json.dumps(result.to_dict())).keys()
    tables = (trained, evaluations, both, score, comparison)
    assert [len(table.to_pandas()) for table in tables] == [30, 4, 8, 4, 2]
    assert evaluations.metrics.clips == 4
    with pytest.raises(har_cache.HarCacheError, match="2 runs were evaluated"):
        both.metrics  # noqa: B018


@pytest.mark.parametrize("name", sorted(TAKE_LONG))
def test_examples_that_take_long_have_good_options(name: str, monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    asked: list[Any] = []
    homes = {
        "download": "downloading.download.download",
        "finetune": "finetuning.finetune.finetune",
        "import_features": "exchange.import_features.import_features",
        "predict": "prediction.predict.predict",
        "sample": "sample_data.draw.draw",
    }

    def stage(settings: Any, progress: Any) -> Any:
        settings.check()
        asked.append(settings)
        return Mock(predictions=[])

    monkeypatch.setattr(f"har_cache.{homes[name]}", stage)
    run(example(getattr(har_cache, name)), {"har_cache": har_cache})
    assert len(asked) == 1


def test_features_go_out_and_come_in(place: Path) -> None:
    made = har_cache.export_features("data/caches/sample", "features", "npy", progress=False)
    assert repr(made) == "FeatureExport('features': 16 clips as npy, 16 of them new)"
    taken = har_cache.import_features("features", "features/clips.csv", "imported", progress=False)
    assert taken.to_dict()["counts"]["clips"] == made.to_dict()["clips"] == 16
    assert repr(taken).startswith("ExtractReport('imported': 16 clips, ")


def test_several_seeds_give_a_list_of_runs(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr("har_cache.training.train_head.train_head", lambda given, _: asked.append(given) or ["a", "b"])
    assert har_cache.train_head("cache", "run") == "a"
    assert har_cache.train_head("cache", "run", seeds=range(2)) == ["a", "b"]
    assert har_cache.train_head("cache", "run", split="all") == ["a", "b"]
    assert [(given.split, given.seeds) for given in asked] == [("1", None), ("1", "0,1"), ("all", None)]


def test_a_page_of_one_run_and_one_of_several_take_what_makes_sense_for_them() -> None:
    with pytest.raises(har_cache.HarCacheError, match="--out goes with several runs"):
        har_cache.report(["run"], out="page.html")
    with pytest.raises(har_cache.HarCacheError, match=r"RUN\.\.\.: expected one or more"):
        har_cache.report([])
    with pytest.raises(har_cache.HarCacheError, match="--data goes with one run"):
        har_cache.report(["a", "b"], "data")
