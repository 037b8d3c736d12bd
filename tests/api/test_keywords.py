import dataclasses
import inspect
import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import har_cache
from har_cache.api.keywords import command, settings
from har_cache.errors import SettingError
from har_cache.options import Settings, flag, options
from har_cache.settings.evaluation import CompareSettings, PredictSettings
from har_cache.settings.exchange import ExportFeaturesSettings, ImportSettings
from har_cache.settings.extraction import ExtractSettings
from har_cache.settings.tools import DownloadSettings
from har_cache.settings.training import FinetuneSettings, TrainHeadSettings


class OfARun:
    """Stands for its directory, as a Run does."""

    def __fspath__(self) -> str:
        return "runs/a"


HEAD = {"cache": "c", "run": "r"}


def values(kind: Any, **given: Any) -> dict[str, Any]:
    """The values of all options, by their fields' names."""
    found = settings(kind, given)
    parts = [found, *(value for value in vars(found).values() if isinstance(value, Settings))]
    return {name: value for part in parts for name, value in vars(part).items()}


@pytest.mark.parametrize(
    ("kind", "given", "field", "expected"),
    [
        (ExtractSettings, {"cache": Path("c"), "data": "d"}, "data", Path("d")),
        (ExtractSettings, {"cache": "c", "shard_clips": np.int64(3)}, "shard_clips", 3),
        (ExtractSettings, {"cache": "c", "stall_timeout": 5}, "stall_s", 5.0),
        (ExtractSettings, {"cache": "c", "clip_timeout": np.float32(0.5)}, "stall_s", 0.5),
        (ExtractSettings, {"cache": "c", "list": "a.csv"}, "lists", ("a.csv",)),
        (ExtractSettings, {"cache": "c", "list": ["train=a.csv", Path("b.csv")]}, "lists", ("train=a.csv", "b.csv")),
        (ExtractSettings, {"cache": "c", "views": "center,flip"}, "views", ("center", "flip")),
        (ExtractSettings, {"cache": "c", "views": ["center", "flip"]}, "views", ("center", "flip")),
        (ExtractSettings, {"cache": "c", "dim": 512}, "dim", "512"),
        (ExtractSettings, {"cache": "c", "weights": Path("w.pth")}, "weights", "w.pth"),
        (ExtractSettings, {"cache": "c", "weights": OfARun()}, "weights", "runs/a"),
        (ExtractSettings, {"cache": "c", "workers": None}, "workers", None),
        (TrainHeadSettings, {**HEAD, "split": 2}, "split", "2"),
        (TrainHeadSettings, {**HEAD, "seeds": range(3)}, "seeds", "0,1,2"),
        (TrainHeadSettings, {**HEAD, "hidden": 8}, "hidden", 8),
        (TrainHeadSettings, {**HEAD, "epochs": 9}, "epochs", 9),
        (TrainHeadSettings, {**HEAD, "overwrite": True}, "overwrite", True),
        (FinetuneSettings, {"start": "r", "data": "d", "run": "t", "augment": False}, "augment", False),
        (PredictSettings, {"run": "r", "videos": (Path("a"), "b")}, "videos", (Path("a"), Path("b"))),
        (PredictSettings, {"run": "r", "videos": "a", "gif": "f.gif"}, "film", Path("f.gif")),
        (DownloadSettings, {"out": "o", "mirrors": "https://x/y"}, "mirrors", ("https://x/y",)),
    ],
)
def test_an_option_goes_by_the_command_lines_name_and_takes_what_python_has(
    kind: Any, given: dict[str, Any], field: str, expected: Any
) -> None:
    assert values(kind, **given)[field] == expected


@pytest.mark.parametrize(
    ("kind", "given", "said"),
    [
        (ExtractSettings, {"shard_clip": 3}, "shard_clip=: no such option; did you mean shard_clips=?"),
        (TrainHeadSettings, {"epoch": 3}, "epoch=: no such option; did you mean epochs=?"),
        (CompareSettings, {"quux": 3}, "quux=: no such option; there are split=, out_of_fold=, format=, page="),
        (TrainHeadSettings, {"epochs": "3"}, "--epochs '3': expected a whole number"),
        (TrainHeadSettings, {"epochs": True}, "--epochs True: expected a whole number"),
        (TrainHeadSettings, {"lr": "1e-3"}, "--lr '1e-3': expected a number"),
        (TrainHeadSettings, {"overwrite": 1}, "--overwrite 1: expected True or False"),
        (TrainHeadSettings, {"cell": True}, "--cell True: expected a text"),
        (ExtractSettings, {"splits": 3}, "--splits 3: expected a path"),
        (ExtractSettings, {"list": 3}, "--list 3: expected a list"),
        (PredictSettings, {"videos": []}, "VIDEOS: expected one or more"),
    ],
)
def test_what_makes_no_sense_is_said_with_what_does(kind: Any, given: dict[str, Any], said: str) -> None:
    required = {"cache": "c", "run": "r", "runs": "r"}
    parameters = {field.name: required[field.name] for field in dataclasses.fields(kind) if field.name in required}
    with pytest.raises(SettingError) as caught:
        settings(kind, given, **parameters)
    assert str(caught.value) == said


@pytest.mark.parametrize("value", [0, 5000])
def test_bounds_are_those_of_the_command_line(value: int) -> None:
    with pytest.raises(SettingError, match=f"--frames {value}: expected at least 1 and at most 4096"):
        har_cache.train_head("cache", "run", frames=value)


KINDS = {
    "compare": CompareSettings,
    "export_features": ExportFeaturesSettings,
    "extract": ExtractSettings,
    "finetune": FinetuneSettings,
    "import_features": ImportSettings,
    "predict": PredictSettings,
    "train_head": TrainHeadSettings,
}


@pytest.mark.parametrize("name", sorted(KINDS))
def test_signature_and_docstring_name_each_option_of_the_command_line(name: str) -> None:
    function = getattr(har_cache, name)
    parameters = inspect.signature(function).parameters
    for field, _ in options(KINDS[name]):
        known = {field.name, flag(field).removeprefix("--").replace("-", "_").lower()}
        assert known & parameters.keys(), field.name
        more = known & parameters.keys() - inspect.signature(inspect.unwrap(function)).parameters.keys()
        assert not more or f"- `{more.pop()}={field.default!r}`" in function.__doc__


def test_a_function_without_options_takes_none() -> None:
    @command()
    def double(number: int) -> int:
        """Twice the number."""
        return 2 * number

    assert double(2) == 4 and double.__doc__ == "Twice the number."
    with pytest.raises(TypeError):
        double(2, shard_clips=3)  # type: ignore[call-arg]


def test_a_process_that_would_start_the_script_over_calls_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(multiprocessing.current_process(), "_inheriting", True, raising=False)
    with pytest.raises(har_cache.HarCacheError, match=r'put what it does, .*, under `if __name__ == "__main__":`'):
        har_cache.sample(tmp_path / "sample", classes=2, clips=8, workers=1, progress=False)
    assert not list(tmp_path.iterdir())
