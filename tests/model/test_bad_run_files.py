"""Every file of a run edited, cut or flipped, its seal right or wrong: what reads it says in one line what is wrong."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from har_cache.cache.reader import FeatureCache
from har_cache.comparison.compare import compare
from har_cache.encoder.weights import save_encoder
from har_cache.errors import HarCacheError
from har_cache.evaluation.evaluate import evaluate
from har_cache.evaluation.results import read_evaluation
from har_cache.evaluation.tables import read_linear
from har_cache.model import writer
from har_cache.model.config import HEAD, BestEpoch, RunConfig, write_config
from har_cache.model.head import Head
from har_cache.model.load import load_network
from har_cache.model.run import Run, find_runs
from har_cache.pages.report import report
from har_cache.settings.evaluation import CompareSettings, EvaluateSettings
from har_cache.settings.training import HeadSettings, TrainSettings
from har_cache.storage.files import seal, sha256, to_csv
from har_cache.training.checkpoints import load_checkpoint, read_metrics, save_checkpoint, write_metrics
from har_cache.training.folds import read_out_of_fold

from ..helpers.bad_files import DEEP, damaged, mutated
from ..helpers.caches import random_embeddings, write_cache
from ..helpers.networks import calibrated_model

ROWS = {"epoch": 1, "train_loss": 1.0, "train_accuracy": 0.5, "val_loss": 1.0, "val_accuracy": 0.5, "lr": 0.1}
OUT_OF_FOLD = ("key", "fold", "true", "predicted", "probability", "probability_of_true")
TABLES = ("predictions.csv", "linear.csv", "per_class.csv")
SETTINGS = HeadSettings(hidden=4, width=6)
EVALUATION = "evaluate/split1"
FILES = (
    "config.json",
    "clips.csv",
    "metrics.csv",
    "out_of_fold.csv",
    "model.safetensors",
    "encoder.safetensors",
    "best.ckpt",
    f"{EVALUATION}/metrics.json",
    f"{EVALUATION}/predictions.csv",
    f"{EVALUATION}/linear.csv",
    f"{EVALUATION}/per_class.csv",
)
MANY = int(os.environ.get("HAR_CACHE_BAD_FILES", 0))
FEW = settings(max_examples=MANY or 5, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of stage two, finished and evaluated, and its cache."""
    root = tmp_path_factory.mktemp("bad_files")
    keys = [f"{name}/film{i}_{name}_f_cm_np1_fr_med_{k}.avi" for name in "ab" for i in range(6) for k in range(1)]
    encoder = save_encoder(calibrated_model())
    write_cache(root / "cache", random_embeddings(dict.fromkeys(keys, 3)), shard_clips=20, encoder=encoder)
    cache, path = FeatureCache(root / "cache"), root / "run"
    path.mkdir()
    torch.manual_seed(0)
    train = {key: "train" for key, subsets in zip(cache.clip_keys, cache.subsets, strict=True) if subsets[0] == 1}
    writer.write_clips(path, train)
    write_metrics(path, [{**ROWS, "seconds": 1.0}])
    save_checkpoint(path / "best.ckpt", {"state_dict": {}})
    (path / "encoder.safetensors").write_bytes(encoder)
    (path / "out_of_fold.csv").write_bytes(to_csv(OUT_OF_FOLD, [(key, 0, "a", "b", "0.5", "0.5") for key in train]))
    config = RunConfig(
        stage=HEAD,
        split=1,
        cache=str(cache.path),
        fingerprint=cache.fingerprint,
        recipe=cache.recipe,
        classes=cache.classes,
        head=SETTINGS,
        training=TrainSettings(frames=2, epochs=1),
        best=BestEpoch(1, 1.0, 0.5),
        model_sha256=writer.save_model(Head(2, SETTINGS), path),
    )
    write_config(path, config)
    with quick():
        evaluate(EvaluateSettings(run=path, device="cpu"))
    return path


@contextmanager
def quick() -> Iterator[None]:
    """Without pictures."""

    def draw(*arguments: Any) -> None:
        next(each for each in arguments if isinstance(each, Path) and each.suffix == ".png").write_bytes(b"")

    with mock.patch("har_cache.evaluation.metrics.plot_confusion", draw):
        yield


@contextmanager
def replaced(run: Path, name: str, data: bytes) -> Iterator[None]:
    """For the time being."""
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    (run / name).write_bytes(data)
    try:
        yield
    finally:
        for path, content in before.items():
            path.write_bytes(content)


def tried(call: Callable[..., Any], *arguments: Any) -> None:
    """Only an error of ours may come of it, on one line."""
    try:
        call(*arguments)
    except HarCacheError as error:
        assert str(error).strip() and len(str(error)) < 2000, error


@pytest.mark.parametrize("name", TABLES)
@given(data=st.data())
@FEW
def test_tables_that_were_damaged_and_are_vouched_for_are_refused_in_one_line(
    run: Path, name: str, data: st.DataObject
) -> None:
    folder = run / EVALUATION
    table, metrics = (
        data.draw(damaged((folder / name).read_bytes())),
        json.loads((folder / "metrics.json").read_bytes()),
    )
    vouched = seal({**metrics, "files": {**metrics["files"], name: sha256(table)}}, in_order=True)
    with replaced(run, f"{EVALUATION}/metrics.json", vouched):
        (folder / name).write_bytes(table)
        read_all(run)
        tried(report, run, None)
        tried(compare, CompareSettings(runs=(run,)))


def read_all(run: Path) -> None:
    tried(lambda: Run.open(run).load_head())
    tried(lambda: read_out_of_fold(Run.open(run)))
    for call in (find_runs, read_metrics):
        tried(call, run)
    tried(load_checkpoint, run / "best.ckpt")
    tried(read_evaluation, run / EVALUATION)
    tried(read_linear, run / EVALUATION)


def use_all(run: Path) -> None:
    tried(lambda: load_network(Run.open(run)))
    tried(report, run, None)
    with quick():
        tried(evaluate, EvaluateSettings(run=run, device="cpu"))


@pytest.mark.parametrize("name", ["config.json", f"{EVALUATION}/metrics.json"])
@given(data=st.data())
@FEW
def test_what_was_edited_and_sealed_anew_is_refused_in_one_line(run: Path, name: str, data: st.DataObject) -> None:
    changed = data.draw(mutated(json.loads((run / name).read_bytes())))
    with replaced(run, name, seal(changed, in_order=True)):
        read_all(run)
        use_all(run)


@pytest.mark.parametrize("name", FILES)
@given(data=st.data())
@FEW
def test_what_was_damaged_is_refused_in_one_line(run: Path, name: str, data: st.DataObject) -> None:
    with replaced(run, name, data.draw(damaged((run / name).read_bytes()))):
        read_all(run)


@pytest.mark.parametrize("name", FILES)
@given(data=st.data())
@settings(FEW, max_examples=MANY // 4 or 1)
def test_what_was_damaged_ends_no_command_with_a_traceback(run: Path, name: str, data: st.DataObject) -> None:
    with replaced(run, name, data.draw(damaged((run / name).read_bytes()))):
        use_all(run)


def test_a_file_nested_without_end_is_refused(run: Path) -> None:
    for name in ("config.json", f"{EVALUATION}/metrics.json"):
        with replaced(run, name, DEEP):
            read_all(run)
            with pytest.raises(HarCacheError, match="damaged"):
                Run.open(run) if name == "config.json" else read_evaluation(run / EVALUATION)
