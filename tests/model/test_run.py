import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from har_cache.errors import HarCacheError
from har_cache.model import run, writer
from har_cache.model.config import BestEpoch, Candidate, Choice, RunConfig, Start, read_config, write_config
from har_cache.model.head import Head
from har_cache.model.run import Run, find_runs
from har_cache.settings.training import HeadSettings, TrainSettings, TuneSettings
from har_cache.storage.files import seal, sha256

from ..helpers.caches import make_recipe

SETTINGS = HeadSettings(hidden=4, width=6)
CLIPS = {'a/1, or "2".avi': "train", "a/\n.avi": "val", "a/\r.avi": "val", "=a/b": "train"}


def write_run(path: Path, split: int = 1, finished: bool = True) -> Head:
    path.mkdir(parents=True)
    head = Head(3, SETTINGS)
    config = {
        "schema": "har-run/1",
        "stage": "head",
        "split": split,
        "cache": "somewhere",
        "fingerprint": "f" * 64,
        "recipe": make_recipe().to_dict(),
        "classes": ["a", "b", "c"],
        "head": {"cell": "gru", "hidden": 4, "width": 6},
        "training": {"frames": 8},
    }
    writer.write_clips(path, CLIPS)
    if finished:
        best = {"epoch": 1, "val_loss": 1.0, "val_accuracy": 0.5}
        config |= {"model_sha256": writer.save_model(head, path), "best": best}
    (path / "config.json").write_text(json.dumps(config))
    return head


def config(**changes: Any) -> RunConfig:
    fields = {"stage": "head", "split": 1, "cache": "c", "fingerprint": "f", "recipe": make_recipe(), "classes": ("a",)}
    return RunConfig(**{**fields, "head": SETTINGS, "training": TrainSettings(), **changes})


def read_clips(path: Path) -> dict[str, str]:
    found = read_config(path)
    assert found is not None
    return run.read_clips(path, found)


def change(path: Path, **fields: object) -> None:
    file = path / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))


def test_a_run_comes_back_as_it_was_written(tmp_path: Path) -> None:
    head = write_run(tmp_path / "run")
    found = Run.open(tmp_path / "run")
    assert found.config.classes == ("a", "b", "c")
    assert found.config.fold is None  # written before there were folds
    assert found.clips == CLIPS
    loaded = found.load_head()
    assert not loaded.training
    assert all(torch.equal(v, head.state_dict()[k]) for k, v in loaded.state_dict().items())


def test_what_is_no_finished_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HarCacheError, match="no such directory"):
        Run.open(tmp_path / "none")
    with pytest.raises(HarCacheError, match="is no run"):
        Run.open(tmp_path)
    write_run(tmp_path / "run", finished=False)
    with pytest.raises(HarCacheError, match=r"not finished.*--resume"):
        Run.open(tmp_path / "run")


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("config.json", b"{", "no JSON object"),
        ("config.json", b"[]", "no JSON object"),
        ("config.json", b'{"schema": "har-run/2"}', "damaged or edited"),
        ("config.json", seal({"schema": "har-run/3"}), "har-run/2"),
        ("config.json", b'{"schema": "har-run/1", "split": "1"}', "stage is missing"),
        ("clips.csv", b"key,subset\na,b,c\n", "expected rows of key,train"),
        ("clips.csv", b"key,subset\na,test\n", "expected rows of key,train"),
        ("clips.csv", b"\xff\xfe", "no CSV in UTF-8"),
        ("clips.csv", b"", "expected rows"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, file: str, content: bytes, message: str) -> None:
    write_run(tmp_path / "run")
    (tmp_path / "run" / file).write_bytes(content)
    with pytest.raises(HarCacheError, match=message):
        Run.open(tmp_path / "run")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    write_run(tmp_path / "run")
    (tmp_path / "run" / "model.safetensors").unlink()
    with pytest.raises(HarCacheError, match=r"model\.safetensors: cannot be read"):
        Run.open(tmp_path / "run").load_head()


def test_weights_with_a_flipped_bit_are_refused(tmp_path: Path) -> None:
    write_run(tmp_path / "run")
    file = tmp_path / "run" / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(HarCacheError, match="damaged or replaced"):
        Run.open(tmp_path / "run").load_head()


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    write_run(tmp_path / "run")
    change(tmp_path / "run", classes=["a", "b"])
    with pytest.raises(HarCacheError, match=r"does not fit.*appearance"):
        Run.open(tmp_path / "run").load_head()
    change(tmp_path / "run", head={"cells": 3})
    with pytest.raises(HarCacheError, match=r"does not know: cells"):
        Run.open(tmp_path / "run").load_head()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [("Missing", "mean is missing in the one"), ("Unexpected", r"more is \(1,\) in the one, missing in the other")],
)
def test_weights_with_a_tensor_too_few_or_too_many_are_refused(tmp_path: Path, wrong: str, said: str) -> None:
    state = write_run(tmp_path / "run").state_dict()
    weights = {**state, "more": torch.zeros(1)} if wrong == "Unexpected" else dict(list(state.items())[1:])
    saved = safetensors.torch.save(weights)
    (tmp_path / "run" / "model.safetensors").write_bytes(saved)
    change(tmp_path / "run", model_sha256=sha256(saved))
    with pytest.raises(HarCacheError, match=f"does not fit the head .*: {said}"):
        Run.open(tmp_path / "run").load_head()


def test_the_runs_of_splits_and_seeds_or_one(tmp_path: Path) -> None:
    for split in (1, 3):
        write_run(tmp_path / "all" / f"split{split}", split)
    write_run(tmp_path / "one", 2)
    for seed in (2, 10):
        write_run(tmp_path / "all" / "split2" / f"seed{seed}", 2)
    (tmp_path / "all" / "split4").mkdir()
    expected = ["split1", "split2/seed2", "split2/seed10", "split3"]
    assert find_runs(tmp_path / "all") == [tmp_path / "all" / name for name in expected]
    assert find_runs(tmp_path / "one") == [tmp_path / "one"]
    assert find_runs(tmp_path / "nowhere") == [tmp_path / "nowhere"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"split": "1"}, "split: expected a whole number, found '1'"),
        ({"split": True}, "split: expected a whole number, found True"),
        ({"classes": [1]}, "classes: expected a text, found 1"),
        ({"classes": None}, "classes: expected a list"),
        ({"head": {"hidden": "x"}}, "hidden: expected a whole number, found 'x'"),
        ({"head": {"hidden": 0}}, "--hidden 0: expected at least 1"),
        ({"head": []}, "expected an object"),
        ({"training": {"frames": 1e12}}, "frames: expected a whole number"),
        ({"training": {"unfreeze": 3}}, "does not know: unfreeze"),
        ({"recipe": {}}, "recipe of schema None"),
        ({"stage": "third"}, "expected head or finetune"),
        ({"split": 0}, "split is 0, expected 1 or more"),
        ({"validate_on": 0}, "validate_on is 0, expected 1 or more"),
        ({"folds": 10**6}, "folds is 1000000, expected 2 to 1000"),
        ({"stage": "finetune"}, "does not say what it was fine-tuned on"),
        ({"best": {"epoch": 1}}, "best: val_loss is missing"),
        ({"best": 3}, "best: expected an object"),
        ({"model_sha256": None}, "model_sha256 is missing"),
    ],
)
def test_a_config_that_was_edited_is_one_clear_error(tmp_path: Path, values: dict[str, Any], message: str) -> None:
    write_run(tmp_path / "run")
    change(tmp_path / "run", **values)
    with pytest.raises(HarCacheError, match=message) as caught:
        Run.open(tmp_path / "run")
    assert str(caught.value).startswith(f"{tmp_path / 'run' / 'config.json'}: ")


@pytest.mark.parametrize("name", ["stage", "split", "cache", "fingerprint", "classes", "head", "training"])
def test_what_a_config_lacks_is_named(tmp_path: Path, name: str) -> None:
    write_run(tmp_path / "run")
    file = tmp_path / "run" / "config.json"
    file.write_text(json.dumps({k: v for k, v in json.loads(file.read_text()).items() if k != name}))
    with pytest.raises(HarCacheError, match=f"{name} is missing"):
        Run.open(tmp_path / "run")


def choice(error: float | None) -> Choice:
    each = tuple(Candidate(blend, 1.0, 0.9, 0.5, 0.7) for blend in (0.0, 0.5, 1.0))
    return Choice(each, 54, 20, 0.2, error, error, 0.5 if error else 0.0, "why")


def test_a_config_comes_back_as_it_was_written(tmp_path: Path) -> None:
    tuned = {
        "stage": "finetune",
        "training": TuneSettings(unfreeze=3, frames=4),
        "data": "d",
        "started_from": Start("r", "0"),
    }
    for written in (
        config(),
        config(fold=2),
        config(**tuned, skipped={"a/b": "gone"}, model_sha256="0", best=BestEpoch(0, 1.0, 0.5)),
        config(**tuned, model_sha256="0", best=BestEpoch(3, 1.0, 0.5), choice=choice(0.1)),
        config(**tuned, model_sha256="0", best=BestEpoch(0, 1.0, 0.5), choice=choice(None)),
    ):
        write_config(tmp_path, written)
        assert read_config(tmp_path) == written
