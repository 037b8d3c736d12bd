from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from har_cache.evaluation.results import DataSetSize
from har_cache.model.run import Run
from har_cache.pages.about import about_run, duration, size_text, warnings
from har_cache.pages.making import commands_of_run
from har_cache.storage.files import to_json

from ..evaluation.test_results import METRICS
from ..helpers.synthetic import small_subsets, write_cache, write_run

DRAWN = DataSetSize("sample", 640, 8, drawn=True)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("about")
    return Run.open(write_run(folder / "run", write_cache(folder / "cache", small_subsets(), frames=1)))


@pytest.mark.parametrize(
    ("weights", "data_set", "begin"),
    [
        ("imagenet", None, []),
        ("imagenet", replace(DRAWN, drawn=False), []),
        ("random", None, ["RANDOM WEIGHTS: "]),
        ("random, fine-tuned (0123456789ab)", None, ["RANDOM WEIGHTS: "]),
        ("imagenet", DRAWN, ["DRAWN VIDEOS: "]),
        ("random", DRAWN, ["RANDOM WEIGHTS, DRAWN VIDEOS: "]),
        ("made up", None, ["MADE-UP EMBEDDINGS: "]),
    ],
)
def test_what_is_no_result_is_said_to_be_none(run: Run, weights: str, data_set: Any, begin: list[str]) -> None:
    recipe = replace(run.config.recipe, weights=weights)
    said = warnings(recipe, replace(METRICS, data_set=data_set))
    assert [line[: line.index(": ") + 2] for line in said] == begin


def test_a_drawn_sample_is_known_by_its_folder_where_the_evaluation_says_nothing(run: Run, tmp_path: Path) -> None:
    assert "DRAWN" not in about_run(run, METRICS, tmp_path).warnings[0]
    (tmp_path / "sample.json").write_bytes(to_json({"format": 3, "classes": 4, "clips": 8, "seed": 0}))
    about = about_run(run, METRICS, tmp_path)
    assert "DRAWN" in about.warnings[0]
    assert about.facts["Data"] == f"drawn sample \u201c{tmp_path.name}\u201d, 4 classes"
    assert f"--data {tmp_path}" in about.commands[0]


def test_the_data_set_is_named_with_its_size() -> None:
    assert size_text(replace(METRICS, data_set=DRAWN)) == "drawn sample \u201csample\u201d, 640 clips of 8 classes"
    assert size_text(METRICS) == ""


def test_commands_make_the_run_again(run: Run) -> None:
    extract, train, evaluate = commands_of_run(run, METRICS)
    cache, path = run.config.cache, run.path
    assert extract == f"har-cache extract --data DATA --cache {cache} --weights random"
    assert (
        train == f"har-cache train-head --cache {cache} --run {path} --epochs 3 --frames 16 --batch-size 64 --lr 0.001"
    )
    assert evaluate == f"har-cache evaluate {path} --split 3"  # that METRICS are of


def test_settings_that_a_cache_was_made_with_are_in_its_command(run: Run) -> None:
    recipe = replace(
        run.config.recipe, model="resnet18", dim=128, views=("center", "flip"), frames="every 4", weights="w"
    )
    command, *_ = commands_of_run(replace(run, config=replace(run.config, recipe=recipe)), None, Path("videos"))
    options = "--encoder resnet18 --weights WEIGHTS --dim 128 --views center,flip --every 4"
    assert command == f"har-cache extract --data videos --cache {run.config.cache} {options}"


def test_features_of_others_have_no_command_that_makes_them(run: Run) -> None:
    recipe = replace(run.config.recipe, origin="another tool")
    first, *_ = commands_of_run(replace(run, config=replace(run.config, recipe=recipe)), None)
    assert first.startswith("har-cache train-head ")


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.04, "0.0 s"), (42.4, "42 s"), (100, "2 min"), (7260, "2 h 1 min"), (5399, "1 h 30 min")]
)
def test_times_are_said_in_units_that_people_use(seconds: float, said: str) -> None:
    assert duration(seconds) == said
