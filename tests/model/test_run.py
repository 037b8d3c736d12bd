import json
from pathlib import Path

import pytest
import torch

from har_cache.errors import HarCacheError
from har_cache.model import run
from har_cache.model.head import Head
from har_cache.model.run import Run, split_runs
from har_cache.settings import HeadSettings

SETTINGS = HeadSettings(hidden=4, width=6)


def write_run(path: Path, split: int = 1, finished: bool = True) -> Head:
    path.mkdir(parents=True)
    head = Head(3, SETTINGS)
    config = {
        "schema": "har-run/1",
        "stage": "head",
        "split": split,
        "cache": "somewhere",
        "fingerprint": "f" * 64,
        "classes": ["a", "b", "c"],
        "head": {"cell": "gru", "hidden": 4, "width": 6},
        "training": {"frames": 8},
    }
    run.write_clips(path, {'a/1, or "2".avi': "train", "a/\n.avi": "val"})
    if finished:
        config |= {"model_sha256": run.save_model(head, path), "best": {"epoch": 1}}
    run.write_config(path, config)
    return head


def change(path: Path, **fields: object) -> None:
    config = json.loads((path / run.CONFIG).read_text())
    run.write_config(path, {**config, **fields})


def test_a_run_comes_back_as_it_was_written(tmp_path: Path) -> None:
    head = write_run(tmp_path / "run")
    found = Run.open(tmp_path / "run")
    assert found.config["classes"] == ["a", "b", "c"]
    assert found.clips == {'a/1, or "2".avi': "train", "a/\n.avi": "val"}
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
        ("config.json", b"{", "no JSON"),
        ("config.json", b"[]", "har-run/1"),
        ("config.json", b'{"schema": "har-run/2"}', "har-run/1"),
        ("config.json", b'{"schema": "har-run/1", "split": "1"}', r"damaged \(stage, split, cache"),
        ("clips.csv", b"key,subset\na,b,c\n", "expected rows of key,train"),
        ("clips.csv", b"key,subset\na,test\n", "expected rows of key,train"),
        ("clips.csv", b"\xff\xfe", "not UTF-8"),
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
    with pytest.raises(HarCacheError, match=r"does not fit.*classifier"):
        Run.open(tmp_path / "run").load_head()
    change(tmp_path / "run", head={"cells": 3})
    with pytest.raises(HarCacheError, match="not one of this version"):
        Run.open(tmp_path / "run").load_head()


def test_the_runs_of_all_splits_or_of_one(tmp_path: Path) -> None:
    for split in (1, 3):
        write_run(tmp_path / "all" / f"split{split}", split)
    write_run(tmp_path / "one", 2)
    assert split_runs(tmp_path / "all") == {k: tmp_path / "all" / f"split{k}" for k in (1, 3)}
    assert split_runs(tmp_path / "one") == {2: tmp_path / "one"}
    with pytest.raises(HarCacheError, match="is no run"):
        split_runs(tmp_path)


def test_other_files_are_not_mixed_with_a_run(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(HarCacheError, match=r"holds other files \(thesis\.tex"):
        run.create(tmp_path)


def test_clearing_leaves_what_is_not_a_run_s(tmp_path: Path) -> None:
    write_run(tmp_path / "run")
    (tmp_path / "run" / "notes.txt").touch()
    (tmp_path / "run" / "evaluate" / "split1").mkdir(parents=True)
    (tmp_path / "run" / "evaluate" / "split1" / "metrics.json").touch()
    run.clear(tmp_path / "run")
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["notes.txt"]
