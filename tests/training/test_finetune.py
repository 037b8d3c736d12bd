import csv
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from har_cache.cache.reader import FeatureCache
from har_cache.data.index import read_index
from har_cache.errors import HarCacheError
from har_cache.evaluation.evaluate import evaluate
from har_cache.evaluation.metrics import StartComparison
from har_cache.evaluation.summary import lines
from har_cache.extraction.extract import extract
from har_cache.model.load import labels_for, load_network
from har_cache.model.run import Run
from har_cache.progress import Progress as Silence
from har_cache.settings import EvaluateSettings, ExtractSettings, HeadSettings, TrainSettings, TuneSettings
from har_cache.settings import FinetuneSettings as Settings
from har_cache.settings import TrainHeadSettings as HeadTraining
from har_cache.training.batches import Sequences
from har_cache.training.finetune import finetune, hand_over
from har_cache.training.journal import Row
from har_cache.training.raw_batches import Footage
from har_cache.training.train_head import train_head
from har_cache.workers.prefetch import FramePrefetcher as Picker

from ..helpers.caches import random_embeddings, write_cache

QUICK = TuneSettings(epochs=2, frames=3, batch_size=3, head_epochs=1, unfreeze=2, ema=0.5)


@dataclass(frozen=True)
class Before:
    """A data set, its fp32 cache, and a run of stage two on it."""

    data: Path
    cache: Path
    run: Path


@pytest.fixture(scope="module")
def before(sample_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Before:
    folder = tmp_path_factory.mktemp("before")
    extract(ExtractSettings(sample_data, folder / "cache", weights="random", precision="fp32", workers=1))
    training = TrainSettings(epochs=6, frames=8, batch_size=4)
    train_head(
        HeadTraining(folder / "cache", folder / "run", head=HeadSettings(hidden=16, width=16), training=training)
    )
    return Before(sample_data, folder / "cache", folder / "run")


class Ear(Silence):
    """Keeps what is said, and may do something after a step or an epoch."""

    def __init__(self, step: Callable[[], Any] = lambda: None, stop_after: int = 0) -> None:
        self.said: list[str] = []
        self._step, self._stop_after = step, stop_after

    def say(self, text: str) -> None:
        self.said.append(text)

    def step(self) -> None:
        self._step()

    def epoch(self, row: Row, best: bool) -> None:
        if row["epoch"] == self._stop_after:
            raise KeyboardInterrupt


Tuned = tuple[Settings, Ear, Run]


@pytest.fixture(scope="module")
def tuned(before: Before, tmp_path_factory: pytest.TempPathFactory) -> Tuned:
    """A finished fine-tuned run, and what was said."""
    ear = Ear()
    settings = Settings(
        before.run, before.data, tmp_path_factory.mktemp("tuned") / "run", QUICK, device="cpu", workers=1
    )
    return settings, ear, finetune(settings, ear).run


def figures(run: Path) -> list[list[str]]:
    """metrics.csv without its seconds."""
    return [row[:-1] for row in csv.reader((run / "metrics.csv").open())]


# -------------------------------------------------------------------------------------------------- the hand-over


def test_before_the_first_step_raw_frames_give_the_logits_of_the_cache(before: Before) -> None:
    run, cache = Run.open(before.run), FeatureCache(before.cache)
    clips = np.array([i for i, key in enumerate(cache.keys) if run.clips.get(key) == "val"])
    with Picker(16, 1, 8) as picker:
        labels, index = labels_for(run, cache), read_index(before.data)
        footage = Footage.of_cache(cache, labels, index, picker, "cpu", pytest.fail)
        training = replace(QUICK, frames=16)
        found = hand_over(load_network(run), footage, Sequences.from_cache(cache), clips, training)
    assert found.agree == found.clips == len(clips) > 0
    assert found.raw == found.cached
    assert found.difference < 1e-3


def test_it_is_told(tuned: Tuned) -> None:
    said = " ".join(tuned[1].said)
    assert "fine-tuning on " in said and "1 processes decode" in said
    assert "Before the first step: " in said and "predicted alike" in said


# ------------------------------------------------------------------------------------------------------- the run


def test_a_run_says_where_it_came_from_and_is_enough_by_itself(before: Before, tuned: Tuned) -> None:
    run, source = tuned[2], Run.open(before.run)
    assert run.config["stage"] == "finetune" and run.clips == source.clips
    assert run.config["started_from"] == {"run": str(before.run), "model_sha256": source.config["model_sha256"]}
    assert run.config["recipe"] == source.config["recipe"] and run.config["data"] == str(before.data)
    assert run.config["training"]["unfreeze"] == 2 and run.config["skipped"] == {}
    names = {name.partition(".")[0] for name in load_file(run.path / "model.safetensors")}
    assert names == {"encoder", "head"}


def test_what_is_frozen_stays_and_the_rest_has_learnt(before: Before, tuned: Tuned) -> None:
    old = load_network(Run.open(before.run)).state_dict()
    changed = {
        name for name, tensor in load_network(tuned[2]).state_dict().items() if not torch.equal(tensor, old[name])
    }
    assert any(name.startswith("head.") for name in changed) is (tuned[2].config["best"]["epoch"] > 0)
    assert not any("running" in name or "num_batches" in name for name in changed)
    epoch = tuned[2].config["best"]["epoch"]
    backbone = {name.split(".")[2] for name in changed if name.startswith("encoder.layers")}
    assert backbone <= {"13", "14", "15"} and bool(backbone) is (epoch > 1)


def test_what_helps_on_no_validation_clip_is_not_kept(tuned: Tuned, tmp_path: Path) -> None:
    settings, _, _ = tuned
    ear = Ear()
    harmful = replace(settings.training, lr=3.0, epochs=1, head_epochs=1, ema=0.0)
    worse = finetune(replace(settings, run=tmp_path / "run", training=harmful), ear).run
    assert worse.config["best"]["epoch"] == 0
    assert any("No epoch lowered" in line for line in ear.said)
    old = load_network(Run.open(settings.source)).state_dict()
    assert all(torch.equal(tensor, old[name]) for name, tensor in load_network(worse).state_dict().items())


def test_interrupted_it_goes_on_and_ends_as_if_it_had_not_been(tuned: Tuned, tmp_path: Path) -> None:
    settings, _, whole = tuned
    again = replace(settings, run=tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        finetune(again, Ear(stop_after=1))
    assert (again.run / "best.ckpt").exists()
    with pytest.raises(HarCacheError, match="--resume"):
        finetune(again)
    resumed = finetune(replace(again, resume=True))
    assert figures(again.run) == figures(settings.run)
    assert resumed.run.config["model_sha256"] == whole.config["model_sha256"]
    assert finetune(replace(again, resume=True)).pace is None  # nothing left to do
    other = replace(again, training=replace(QUICK, unfreeze=3), resume=True)
    with pytest.raises(HarCacheError, match="unfreeze 2, now 3"):
        finetune(other)


def test_a_clip_that_fails_in_the_middle_is_left_out_named_and_counted(
    before: Before, tuned: Tuned, tmp_path: Path
) -> None:
    data = shutil.copytree(before.data, tmp_path / "data")
    clips = Run.open(before.run).clips
    lost = [next(key for key, subset in clips.items() if subset == part) for part in ("train", "val")]
    files = [next(data.glob(f"**/{key.partition('/')[2]}")) for key in lost]

    def spoil() -> None:
        for file in files:
            file.write_bytes(b"no video")

    ear = Ear(step=spoil)
    settings = replace(tuned[0], data=data, run=tmp_path / "run", training=replace(QUICK, epochs=3))
    finished = finetune(settings, ear)
    assert sorted(finished.failures) == sorted(lost) == sorted(finished.run.config["skipped"])
    assert sorted(text.split(": ")[1] for text in ear.said if text.startswith("Skipped")) == sorted(lost)
    assert finished.pace is not None and 0 < finished.pace.waited < 1


# -------------------------------------------------------------------------------------------------- evaluation


def test_evaluation_from_raw_frames_is_that_of_a_cache_of_its_own(before: Before, tuned: Tuned, tmp_path: Path) -> None:
    run = tuned[2]
    (raw,) = evaluate(EvaluateSettings(run=run.path, device="cpu", workers=1))
    assert raw.metrics.stage == "finetune" and raw.metrics.leakage.clean.clips == raw.metrics.clips
    compared = raw.metrics.stage_two
    assert isinstance(compared, StartComparison) and compared.run == str(before.run)
    gained = (compared.fixed - compared.broken) / raw.metrics.clips
    assert raw.metrics.top1 - compared.top1 == pytest.approx(gained)
    assert any(line.startswith(f"Stage two ({before.run}) on the same clips") for line in lines(raw.metrics))

    settings = ExtractSettings(before.data, tmp_path / "cache", weights=str(run.path), precision="fp32", workers=1)
    extract(settings)
    assert extract(settings).seconds == 0  # the same wish again
    cache = FeatureCache(tmp_path / "cache")
    recipe = cache.recipe
    assert recipe.weights == f"random, fine-tuned ({run.config['model_sha256'][:12]})" and recipe.trained_split == 1
    assert recipe.projection_fit == run.config["projection_fit"]
    probabilities = np.loadtxt(raw.folder / "predictions.csv", str, delimiter=",", skiprows=1)[:, 3].astype(float)
    (cached,) = evaluate(EvaluateSettings(run=run.path, cache=cache.path, device="cpu"))
    again = np.loadtxt(cached.folder / "predictions.csv", str, delimiter=",", skiprows=1)[:, 3].astype(float)
    np.testing.assert_allclose(probabilities, again, atol=2e-4)
    assert cached.metrics.stage_two == compared

    with pytest.raises(HarCacheError, match=r"fine-tuned on the training list of split 1.*--split 1"):
        train_head(HeadTraining(cache.path, tmp_path / "head", split="2"))
    with pytest.raises(HarCacheError, match="other embeddings than the model knows"):
        evaluate(EvaluateSettings(run=before.run, cache=cache.path))
    (head,) = train_head(HeadTraining(cache.path, tmp_path / "head", training=TrainSettings(epochs=1)))
    assert Run.open(tmp_path / "head").config["recipe"]["trained_split"] == 1
    assert not load_network(head).training


# --------------------------------------------------------------------------------------------------- bad input


def test_what_does_not_belong_together_is_refused(before: Before, tuned: Tuned, tmp_path: Path) -> None:
    settings = replace(tuned[0], run=tmp_path / "run")
    write_cache(tmp_path / "cache", random_embeddings(dict.fromkeys(tuned[2].clips, 2)))
    other = shutil.copytree(before.data, tmp_path / "data")
    for file in other.glob("videos/*/*"):
        file.write_bytes(file.read_bytes() + b"\0")
    for changes, message in (
        ({"source": tuned[2].path}, "is fine-tuned already; start from"),
        ({"source": tmp_path / "none"}, "no such directory"),
        ({"data": tmp_path / "none"}, "none"),
        ({"data": other}, "are other files than"),
        ({"cache": tmp_path / "cache"}, "other embeddings than the model knows"),
        ({"run": tuned[0].run}, "finished run"),
        ({"workers": 0}, "--workers 0"),
        ({"stall_s": 0.0}, "--clip-timeout 0"),
        ({"training": replace(QUICK, unfreeze=19)}, "--unfreeze 19: expected 0 to 18"),
        ({"training": replace(QUICK, accumulate=0)}, "--accumulate 0"),
        ({"training": replace(QUICK, head_epochs=3)}, "--head-epochs 3: expected 0 to 2"),
        ({"training": replace(QUICK, backbone_lr=0.0)}, "--backbone-lr 0"),
        ({"training": replace(QUICK, ema=1.0)}, "--ema 1"),
        ({"training": replace(QUICK, train_norms=True, checkpointing=True)}, "--train-norms"),
    ):
        with pytest.raises(HarCacheError, match=message):
            finetune(replace(settings, **changes))  # type: ignore[arg-type]
    assert not settings.run.exists()
