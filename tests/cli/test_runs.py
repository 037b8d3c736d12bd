"""What is told of runs: by `info`, and by the commands that make them."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from har_cache_cli.main import app
from typer.testing import CliRunner, Result

from har_cache.model.config import FINETUNED, HEAD, read_config, write_config

from ..helpers.evaluations import write_evaluation
from ..model.test_load import write_run


def call(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "run"
    write_run(path, HEAD)
    return path


def test_info_says_what_a_run_was_trained_on_how_and_what_came_of_it(made: Path, tmp_path: Path) -> None:
    lines = call("info", made).stdout.splitlines()
    assert lines[0] == f"{made}: a head trained on split 1, seed 0"
    rows = {line[2:16].strip(): line[17:] for line in lines[1:]}
    assert rows["cache"] == "somewhere (fingerprint ffffffffffff)"
    assert (rows["clips"], rows["classes"]) == ("1 train", "2")
    assert "8 frames per clip" in rows["training"] and rows["head"].startswith("gru, hidden ")
    assert rows["outcome"] == "best epoch 1 of 64, validation accuracy 50.0%"
    assert rows["evaluated"].startswith("not yet")


def test_info_of_a_run_as_json_is_one_object(made: Path) -> None:
    content = json.loads(call("info", "--run", made, "--json").stdout)
    assert (content["run"], content["stage"], content["finished"]) == (str(made), HEAD, True)
    assert content["clips"] == {"train": 1} and content["evaluations"] == []
    assert content["best"]["val_accuracy"] == 0.5 and content["training"]["frames"] == 8


def test_info_says_on_which_lists_a_run_was_tested(tmp_path: Path) -> None:
    write_run(tmp_path / "run", HEAD)
    folder = write_evaluation(tmp_path / "run", ["a/1.avi", "b/2.avi"])
    top1 = json.loads((folder / "metrics.json").read_text())["top1"]
    assert f"evaluated      split 1: top-1 {top1:.1%} of " in call("info", tmp_path / "run").stdout
    [found] = json.loads(call("info", tmp_path / "run", "--json").stdout)["evaluations"]
    assert (found["split"], found["top1"]) == (1, top1)
    (folder / "metrics.json").write_text("{}")
    result = call("info", tmp_path / "run")
    assert result.exit_code == 0 and f"evaluated      {folder / 'metrics.json'}: " in result.stdout


def test_info_tells_a_run_that_is_not_finished_and_runs_of_several_splits(made: Path, tmp_path: Path) -> None:
    for split in (1, 2):
        write_run(tmp_path / f"split{split}", HEAD)
    config = read_config(tmp_path / "split2")
    assert config
    write_config(tmp_path / "split2", replace(config, best=None, model_sha256=None))
    (tmp_path / "split2" / "metrics.csv").write_text("epoch,train_loss\n1,2.0\n2,1.0\n")
    one, two = call("info", tmp_path).stdout.split("\n\n")
    assert "outcome        best epoch 1" in one and "outcome        2 epochs done; not finished" in two
    runs = json.loads(call("info", tmp_path, "--json").stdout)["runs"]
    assert [(run["finished"], run["epochs_done"]) for run in runs] == [(True, 0), (False, 2)]


def test_info_of_a_folder_that_is_neither_is_an_error(tmp_path: Path) -> None:
    result = call("info", tmp_path)
    assert (result.exit_code, result.stderr) == (1, f"Error: {tmp_path}: is neither a cache nor a run\n")


def test_trainings_give_their_runs_as_json(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from har_cache.finetuning import finetune
    from har_cache.finetuning.throughput import Throughput
    from har_cache.model.run import Run
    from har_cache.training import train_head

    head = Run.open(made)
    monkeypatch.setattr(train_head, "train_head", lambda *_: [head])
    result = call("train-head", "--cache", "c", "--run", made, "--json")
    assert json.loads(result.stdout)["best"]["epoch"] == 1 and "best epoch 1" in result.stderr
    monkeypatch.setattr(train_head, "train_head", lambda *_: [head, head])
    assert len(json.loads(call("train-head", "--cache", "c", "--run", made, "--json").stdout)["runs"]) == 2

    write_run(tmp_path / "tuned", FINETUNED)
    done = finetune.Finetuned(Run.open(tmp_path / "tuned"), Throughput(4.0, 5.0, 6.0, 0.1), {"a/1.avi": "empty file"})
    monkeypatch.setattr(finetune, "finetune", lambda *_: done)
    result = call("finetune", "--from", made, "--data", "d", "--run", tmp_path / "tuned", "--json")
    content = json.loads(result.stdout)
    assert result.exit_code == 3 and content["started_from"]["run"] == "run"
    assert content["throughput"] == {"achieved": 4.0, "decode": 5.0, "compute": 6.0, "waited": 0.1}
