import csv
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from har_cache.cache.reader import FeatureCache
from har_cache.data.keys import film_of, source_of
from har_cache.encoder.transform import Transform, crop, normalise
from har_cache.errors import HarCacheError
from har_cache.evaluation import evaluate as evaluation
from har_cache.evaluation.evaluate import evaluate
from har_cache.evaluation.results import StartComparison
from har_cache.evaluation.summary import lines
from har_cache.extraction.extract import extract
from har_cache.finetuning import choice, raw_batches, raw_inference
from har_cache.finetuning import finetune as module
from har_cache.finetuning.augment import Augmentation, centred
from har_cache.finetuning.blend import blend_weights
from har_cache.finetuning.choice import GAINED, NOT_SHOWN, ONE_FILM
from har_cache.finetuning.finetune import finetune, network_trainer
from har_cache.finetuning.parity import check_parity
from har_cache.finetuning.raw_batches import RawClips, RawEvalBatches, RawTrainBatches
from har_cache.model.config import Start, read_config, write_config
from har_cache.model.head import Head
from har_cache.model.load import labels_for, load_network
from har_cache.model.network import Backbone, CNNBidirectionalRNN
from har_cache.model.run import Run
from har_cache.progress import Progress
from har_cache.settings.evaluation import EvaluateSettings
from har_cache.settings.extraction import ExtractSettings
from har_cache.settings.training import FinetuneSettings as Settings
from har_cache.settings.training import HeadSettings, TrainSettings, TuneSettings
from har_cache.settings.training import TrainHeadSettings as HeadTraining
from har_cache.statistics.jackknife import Mean
from har_cache.training.batches import Batch, Sequences
from har_cache.training.checkpoints import load_checkpoint
from har_cache.training.inference import probabilities
from har_cache.training.train_head import train_head
from har_cache.workers.prefetch import FramePrefetcher

from ..helpers.caches import random_embeddings, write_cache
from ..helpers.moves import FROZEN, JUDGING, LEARNING, cuda_in_name
from ..helpers.networks import calibrated_model, pictures

QUICK = TuneSettings(epochs=2, frames=3, batch_size=3, head_epochs=1, unfreeze=2, ema=0.5)


@dataclass(frozen=True)
class Before:
    """A data set, its fp32 cache, and a run of stage two on it."""

    data: Path
    cache: Path
    run: Path


@pytest.fixture(scope="module", autouse=True)
def shown() -> Iterator[None]:
    """What is learnt counts as a gain, though one film validates: or nothing that is learnt would be kept."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(choice, "mean_by_film", lambda values, films: Mean(0.2, 0.1, 20))
        yield


def say_of_gains(monkeypatch: pytest.MonkeyPatch, error: float | None) -> None:
    monkeypatch.setattr(choice, "mean_by_film", lambda values, films: Mean(0.2, error, 20))


@pytest.fixture(scope="module")
def before(sample_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Before:
    folder = tmp_path_factory.mktemp("before")
    extract(ExtractSettings(data=sample_data, cache=folder / "cache", weights="random", precision="fp32", workers=1))
    training = TrainSettings(epochs=6, frames=8, batch_size=4)
    train_head(
        HeadTraining(
            cache=folder / "cache", run=folder / "run", head=HeadSettings(hidden=16, width=16), training=training
        )
    )
    return Before(sample_data, folder / "cache", folder / "run")


class Ear(Progress):
    """Keeps what is said, and may do something after a step or an epoch."""

    def __init__(self, step: Callable[[], Any] = lambda: None, stop_after: int = 0) -> None:
        self.said: list[str] = []
        self._step, self._stop_after = step, stop_after

    def say(self, text: str) -> None:
        self.said.append(text)

    def advance(self, count: int = 1, note: str = "") -> None:
        if count:
            self._step()
        elif note.startswith(f"epoch {self._stop_after} of "):
            raise KeyboardInterrupt


Tuned = tuple[Settings, Ear, Run]


@pytest.fixture(scope="module")
def tuned(before: Before, tmp_path_factory: pytest.TempPathFactory) -> Tuned:
    """A finished fine-tuned run, and what was said."""
    ear = Ear()
    run = tmp_path_factory.mktemp("tuned") / "run"
    settings = Settings(start=before.run, data=before.data, run=run, training=QUICK, device="cpu", workers=1)
    return settings, ear, finetune(settings, ear).run


def figures(run: Path) -> list[list[str]]:
    """metrics.csv without its seconds."""
    return [row[:-1] for row in csv.reader((run / "metrics.csv").open())]


# -------------------------------------------------------------------------------------------------- the parity check


def test_before_the_first_step_raw_frames_give_the_logits_of_the_cache(before: Before) -> None:
    run, cache = Run.open(before.run), FeatureCache(before.cache)
    clips = np.array([i for i, key in enumerate(cache.clip_keys) if run.clips.get(key) == "val"])
    with FramePrefetcher(16, 1, 8) as prefetcher:
        raw = RawClips(cache, labels_for(run, cache), cache.files(before.data), prefetcher, "cpu")
        training = replace(QUICK, frames=16)
        found = check_parity(load_network(run), raw, Sequences.from_cache(cache), clips, training)
    assert not raw.failures
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
    assert run.config.stage == "finetune" and run.clips == source.clips
    assert run.config.started_from == Start(str(before.run), source.model_sha256)
    assert run.config.recipe == source.config.recipe and run.config.data == str(before.data)
    assert run.config.training == QUICK and run.config.skipped == {}
    names = {name.partition(".")[0] for name in load_file(run.path / "model.safetensors")}
    assert names == {"encoder", "head"}


def test_sources_that_are_given_go_with_it(before: Before, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, given, begun = Run.open(before.run), {"a/1.avi": "a/park"}, []

    def begin(*_: object, sources: dict[str, str], **__: object) -> bool:
        begun.append(sources)
        raise KeyboardInterrupt

    monkeypatch.setattr(Run, "open", lambda path: replace(source, given_sources=given))
    monkeypatch.setattr(module, "begin", begin)
    with pytest.raises(KeyboardInterrupt):
        finetune(Settings(start=before.run, data=before.data, run=tmp_path / "run", device="cpu", workers=1))
    assert begun == [given]


def test_on_cuda_steps_are_in_tf32_and_what_judges_them_in_fp32(
    tuned: Tuned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the parity check has seen on the device can still be trained there; so it is on the CPU."""
    settings, _, plain = tuned
    with cuda_in_name(monkeypatch, module, evaluation) as cuda:
        run = finetune(replace(settings, run=tmp_path / "run")).run
        assert cuda.products == {LEARNING, FROZEN, JUDGING} and run.config.device == "cuda"
        cuda.products.clear()
        evaluate(EvaluateSettings(run=run.path, workers=1))
        assert cuda.products == {JUDGING}
    assert figures(run.path) == figures(plain.path) and run.model_sha256 == plain.model_sha256


def test_what_is_frozen_stays_and_the_rest_has_learnt(before: Before, tuned: Tuned) -> None:
    old = load_network(Run.open(before.run)).state_dict()
    changed = {
        name for name, tensor in load_network(tuned[2]).state_dict().items() if not torch.equal(tensor, old[name])
    }
    assert tuned[2].config.best is not None and tuned[2].config.best.epoch == QUICK.epochs
    assert any(name.startswith("head.") for name in changed)
    assert not any("running" in name or "num_batches" in name for name in changed)
    backbone = {name.split(".")[2] for name in changed if name.startswith("encoder.layers")}
    assert backbone == {"13", "14", "15"} or backbone == {"13", "14"}


# ----------------------------------------------------------------------------------------------- what is kept


def judged_on_the_cache(before: Before, frames: int) -> float:
    """The loss of the run of stage two on its validation clips, in all ways that a test averages."""
    run, cache = Run.open(before.run), FeatureCache(before.cache)
    clips = np.array([i for i, key in enumerate(cache.clip_keys) if run.clips.get(key) == "val"])
    found = probabilities(run.load_head(), Sequences.from_cache(cache), clips, frames)
    return float(-np.log(found[np.arange(len(clips)), labels_for(run, cache)[clips]]).mean())


def test_the_last_epoch_s_averages_are_blended_half_way_with_the_start(before: Before, tuned: Tuned) -> None:
    run = tuned[2]
    assert run.config.training.blend == 0.5  # by default
    kept, start = load_network(run).state_dict(), load_network(Run.open(before.run)).state_dict()
    end = load_checkpoint(run.path / "last.ckpt")["state_dict"]
    assert all(torch.equal(kept[name], value) for name, value in blend_weights(start, end, 0.5).items())
    assert not torch.equal(kept["encoder.classifier.weight"], end["encoder.classifier.weight"])
    assert not torch.equal(kept["encoder.classifier.weight"], start["encoder.classifier.weight"])


def test_start_blend_and_tuned_weights_are_judged_as_a_test_judges(
    before: Before, tuned: Tuned, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, found = tuned[2], tuned[2].config.choice
    assert found is not None and run.config.best is not None
    assert [candidate.blend for candidate in found.candidates] == [0.0, 0.5, 1.0]
    assert (found.kept, found.reason, found.gain, found.error) == (0.5, GAINED, 0.2, 0.1)
    assert found.start.loss == pytest.approx(judged_on_the_cache(before, 8), rel=1e-3)
    assert found.clips == list(run.clips.values()).count("val")
    assert all(candidate.scaled_loss <= candidate.loss for candidate in found.candidates)
    assert (run.config.best.val_loss, run.config.best.val_accuracy) == (found.blend.loss, found.blend.accuracy)
    # A list of the validation clips would give the blend the same.
    cache = FeatureCache(before.cache)
    clips = np.array([i for i, key in enumerate(cache.clip_keys) if run.clips.get(key) == "val"])
    with FramePrefetcher(9, 1, 2) as prefetcher:
        raw = RawClips(cache, labels_for(run, cache), cache.files(before.data), prefetcher, "cpu")
        by_clip = raw_inference.raw_probabilities(load_network(run), raw, clips, 3, cache.views)
    true = [by_clip[i][raw.labels[i]] for i in clips]
    assert found.blend.loss == pytest.approx(-np.log(true).mean(), rel=1e-5)


def test_a_validation_clip_is_decoded_once_for_all_of_them(
    tuned: Tuned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    reading = FramePrefetcher.read

    def read(prefetcher: FramePrefetcher, requests: Any, stats: Any) -> Any:
        wanted = list(requests)
        asked.append(len(wanted))
        return reading(prefetcher, wanted, stats)

    monkeypatch.setattr(FramePrefetcher, "read", read)
    settings = replace(tuned[0], run=shutil.copytree(tuned[2].path, tmp_path / "run"), resume=True)
    unfinish(settings.run)
    finetune(settings)
    val = list(tuned[2].clips.values()).count("val")
    assert asked == [val, val]  # for the parity check, and for the choice


def unfinish(run: Path) -> None:
    """As if it had been interrupted after the last epoch."""
    config = read_config(run)
    assert config is not None
    write_config(run, replace(config, best=None, choice=None, model_sha256=None, skipped=None))
    (run / "model.safetensors").unlink()


@pytest.mark.parametrize(("error", "reason"), [(0.3, NOT_SHOWN), (None, ONE_FILM)])
def test_without_a_shown_gain_the_start_is_kept(
    tuned: Tuned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: float | None, reason: str
) -> None:
    say_of_gains(monkeypatch, error)
    settings = replace(tuned[0], run=shutil.copytree(tuned[2].path, tmp_path / "run"), resume=True)
    unfinish(settings.run)
    kept = finetune(settings).run
    found, best = kept.config.choice, kept.config.best
    assert found is not None and (found.kept, found.reason) == (0.0, reason)
    assert best is not None and best.epoch == 0
    old = load_network(Run.open(settings.start)).state_dict()
    assert all(torch.equal(tensor, old[name]) for name, tensor in load_network(kept).state_dict().items())


def test_the_tuned_weights_alone_are_kept_where_their_loss_is_the_lower(
    tuned: Tuned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged_by: list[str] = []

    def mean_by_film(values: np.ndarray, films: list[str]) -> Mean:
        judged_by.extend(films)
        return Mean(float(values.mean()), 0.0, 20)

    monkeypatch.setattr(choice, "mean_by_film", mean_by_film)
    alone = replace(QUICK, epochs=1, blend=1.0)
    run = finetune(replace(tuned[0], run=tmp_path / "run", training=alone)).run
    found = run.config.choice
    assert found is not None and [candidate.blend for candidate in found.candidates] == [0.0, 1.0]
    assert found.gain == pytest.approx(found.start.scaled_loss - found.blend.scaled_loss)
    assert found.kept == float(found.gain > 0)
    assert judged_by == [film_of(source_of(key)) for key, subset in run.clips.items() if subset == "val"]
    ends = load_network(Run.open(tuned[0].start)).state_dict(), load_checkpoint(run.path / "last.ckpt")["state_dict"]
    kept = load_network(run).state_dict()
    assert all(torch.equal(kept[name], value) for name, value in ends[found.gain > 0].items())


def test_that_one_film_validates_is_told_before_anything_is_learnt(tuned: Tuned) -> None:
    (warning,) = [line for line in tuned[1].said if line.startswith("WARNING: the validation clips are of one film")]
    assert tuned[1].said.index(warning) < len(tuned[1].said) - 1


def test_a_run_that_an_earlier_version_began_is_not_gone_on_with(tuned: Tuned, tmp_path: Path) -> None:
    """It would have kept another epoch, and the tuned weights as they were."""
    settings = replace(tuned[0], run=shutil.copytree(tuned[2].path, tmp_path / "run"), resume=True)
    without_blend(settings.run)
    finished = Run.open(settings.run).config
    assert isinstance(finished.training, TuneSettings) and finished.training.blend == 1 and finished.choice is None
    with pytest.raises(HarCacheError, match=r"blend 1\.0, now 0\.5"):
        finetune(settings)
    unfinish(settings.run)
    without_blend(settings.run)
    for changes in ({}, {"resume": False}):
        with pytest.raises(HarCacheError, match="begun by an earlier har-cache, without --blend; start over with --ov"):
            finetune(replace(settings, **changes))


def without_blend(run: Path) -> None:
    """As an earlier version wrote config.json."""
    file = run / "config.json"
    values = json.loads(file.read_text())
    for name in ("choice", "files", "sha256"):
        values.pop(name, None)
    del values["training"]["blend"]
    file.write_text(json.dumps({**values, "schema": "har-run/1"}))


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
    assert resumed.run.model_sha256 == whole.model_sha256 and resumed.run.config.choice == whole.config.choice
    assert finetune(replace(again, resume=True)).throughput is None  # nothing left to do
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
    assert sorted(finished.failures) == sorted(lost) == sorted(finished.run.config.skipped or ())
    assert sorted(text.split(": ")[1] for text in ear.said if text.startswith("Skipped")) == sorted(lost)
    assert finished.throughput is not None and 0 < finished.throughput.waited < 1


class BegunError(Exception):
    """Training is about to begin."""


def test_the_recipe_of_the_run_says_how_clips_are_changed(
    tuned: Tuned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    how = Augmentation(flip=0.25)

    def stop(raw: RawClips, clips: np.ndarray, settings: TuneSettings, how: Augmentation) -> None:
        raise BegunError(how)

    asked = []
    monkeypatch.setattr(module, "augmentation_for", lambda recipe: asked.append(recipe) or how)
    monkeypatch.setattr(module, "RawTrainBatches", stop)
    with pytest.raises(BegunError) as begun:
        finetune(replace(tuned[0], run=tmp_path / "run"))
    assert begun.value.args == (how,) and asked == [tuned[2].config.recipe]


# --------------------------------------------------------------------------------------------------- frames a clip


@pytest.mark.parametrize(("asked", "frames", "warned"), [(None, 8, False), (8, 8, False), (3, 3, True), (12, 12, True)])
def test_frames_are_the_run_s_unless_others_are_asked_for_and_stage_two_is_judged_at_its_own(
    tuned: Tuned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: int, frames: int, warned: bool
) -> None:
    """Stage two had 8."""
    judged = []

    def check(*arguments: Any) -> Any:
        judged.append(arguments[-1].frames)
        return check_parity(*arguments)

    def stop(trainer: Any, train: RawTrainBatches, *_: Any) -> None:
        raise BegunError(next(iter(train)).inputs.shape[1])

    monkeypatch.setattr(module, "check_parity", check)
    monkeypatch.setattr(module.Trainer, "fit", stop)
    ear, settings = Ear(), replace(tuned[0], run=tmp_path / "run", training=replace(QUICK, frames=asked))
    with pytest.raises(BegunError) as begun:
        finetune(settings, ear)
    assert begun.value.args == (frames,) and judged == [8]
    written = read_config(settings.run)
    assert written is not None and written.training.frames == frames
    warnings = [line for line in ear.said if line.startswith("WARNING: --frames")]
    assert len(warnings) == warned and all(f"--frames {asked}: the head of " in line for line in warnings)


def test_a_start_that_is_kept_competed_with_its_own_frames_and_is_recorded_with_those_of_the_run(
    before: Before, tuned: Tuned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    say_of_gains(monkeypatch, 0.3)
    run = finetune(replace(tuned[0], run=tmp_path / "run", training=replace(QUICK, epochs=1))).run
    best, found = run.config.best, run.config.choice
    assert best is not None and found is not None
    assert best.epoch == 0 and run.config.training.frames == 3
    at_8, at_3 = (judged_on_the_cache(before, frames) for frames in (8, 3))
    assert found.start.loss == pytest.approx(at_8, rel=1e-3) and best.val_loss == pytest.approx(at_3, rel=1e-3)
    assert at_8 != pytest.approx(at_3, rel=5e-3)


# ------------------------------------------------------------------------------------------ what the trainer is given

SCHEDULED = TuneSettings(epochs=4, frames=2, batch_size=2, lr=1e-2, backbone_lr=0.1, head_epochs=2, warmup=0.25)


def network(unfreeze: int | None = 2) -> CNNBidirectionalRNN:
    torch.manual_seed(0)
    return CNNBidirectionalRNN(Backbone(calibrated_model(), unfreeze), Head(3, HeadSettings(hidden=4, width=4)))


class Frames:
    """Two batches of two clips of normalised frames, and an empty one."""

    epoch = 0

    def __init__(self) -> None:
        images = normalise(crop(pictures(4))).unflatten(0, (2, 2))
        full = Batch(images, torch.ones(2, 2, dtype=torch.bool), torch.tensor([0, 1]))
        self.batches = [
            full,
            Batch(*(part[:0] for part in full)),
            Batch(images.flip(0), full.mask, torch.tensor([1, 2])),
        ]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        return iter(self.batches)


class Epochs(Progress):
    """After each epoch calls `what`."""

    def __init__(self, what: Callable[[], object]) -> None:
        self._what = what

    def advance(self, count: int = 1, note: str = "") -> None:
        if note:
            self._what()


def test_the_backbone_learns_later_and_more_slowly() -> None:
    trainer = network_trainer(network(), SCHEDULED, batches=6)
    (optimizer,) = [part for part in vars(trainer).values() if isinstance(part, torch.optim.AdamW)]
    rates = []
    for step in range(24):
        trainer._step.prepare((rate(step) for rate in trainer._rates), 0.0)
        rates.append([float(group["lr"]) for group in optimizer.param_groups])
    head, backbone = [row[0] for row in rates], [row[2] for row in rates]
    assert max(head) == pytest.approx(SCHEDULED.lr) and all(row[0] == row[1] and row[2] == row[3] for row in rates)
    assert backbone[:12] == [0.0] * 12 and 0 < backbone[12] < backbone[14]
    assert all(b == pytest.approx(0.1 * h) for h, b in zip(head[18:], backbone[18:], strict=True))


@pytest.mark.parametrize("unfreeze", [0, 2])
def test_the_backbone_sleeps_while_the_head_alone_learns(tmp_path: Path, unfreeze: int) -> None:
    """An empty batch teaches nothing, and does no harm."""
    trained = network(unfreeze)
    encoder = trained.encoder
    assert isinstance(encoder, Backbone)
    states = [{name: value.clone() for name, value in encoder.state_dict().items()}]
    asleep = []

    def note() -> None:
        states.append({name: value.clone() for name, value in encoder.state_dict().items()})
        asleep.append(encoder.asleep)

    batches = Frames()
    trainer = network_trainer(trained, replace(SCHEDULED, accumulate=2), batches=3)
    trainer.fit(batches, batches, tmp_path, Epochs(note), resume=False)
    assert asleep == [True, True, False, False]
    changed = [
        any(not torch.equal(value, after[name]) for name, value in before.items()) for before, after in pairwise(states)
    ]
    # The last step of all has a learning rate near zero, not zero.
    assert changed == [False, False, unfreeze > 0, unfreeze > 0]


def test_every_tensor_is_saved_once_under_the_network_s_names() -> None:
    trainer = network_trainer(network(), SCHEDULED, batches=6)
    assert set(trainer.averaged.state_dict()) == set(network().state_dict())


@pytest.mark.parametrize("augment", [True, False])
def test_only_training_changes_the_frames(before: Before, augment: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    cache, clips = FeatureCache(before.cache), np.arange(3)
    settings = replace(QUICK, frames=4, batch_size=2, augment=augment)
    with FramePrefetcher(4, 1, 4) as prefetcher:
        files = RawClips(cache, cache.labels, cache.files(before.data), prefetcher, "cpu")
        seen = [batch.inputs for batch in RawEvalBatches(files, clips, settings)]
        torch.manual_seed(0)
        changed = [batch.inputs for batch in RawTrainBatches(files, clips, settings)]
        monkeypatch.setattr(raw_batches, "centred", lambda frames: frames)
        raw = [batch.inputs for batch in RawEvalBatches(files, clips, settings)]
        drawn = [batch.inputs for batch in RawTrainBatches(files, clips, replace(settings, augment=False))]
    assert not files.failures
    assert [len(batch) for batch in seen] == [len(batch) for batch in changed] == [2, 1]
    assert all(torch.equal(centred(frames), images) for frames, images in zip(raw, seen, strict=True))
    pairs = list(zip(drawn, changed, strict=True))
    assert all(torch.equal(centred(frames), images) is not augment for frames, images in pairs)


@pytest.mark.parametrize(
    ("share", "augment", "least", "most"), [(0.0, True, 0, 0), (0.5, True, 8, 24), (0.5, False, 0, 0)]
)
def test_some_clips_of_every_epoch_are_shown_whole(share: float, augment: bool, least: int, most: int) -> None:
    """As many as the augmentation says; the order of clips and their frames are the same as without."""
    asked: list[tuple[list[int], np.ndarray, list[bool]]] = []

    def batches(clips: Any, frames: int, places: Any, size: int, stats: Any, whole: list[bool]) -> Iterator[Batch]:
        asked.append((clips.tolist(), places.numpy(), whole))
        return iter(())

    raw: Any = SimpleNamespace(
        prefetcher=SimpleNamespace(workers=1), device=torch.device("cpu"), batches=batches, transform=Transform()
    )
    settings = replace(QUICK, augment=augment)
    for how in (Augmentation(), Augmentation(whole=share)):
        drawn = RawTrainBatches(raw, np.arange(32), settings, how)
        for drawn.epoch in (0, 1):
            assert not list(drawn)
    plain, again = asked[:2], asked[2:]
    assert not any(any(whole) for *_, whole in plain)
    assert all(least <= sum(whole) <= most and len(whole) == 32 for *_, whole in again)
    assert (again[0][2] != again[1][2]) is (most > 0)
    for (order, places, _), (same, equal, _) in zip(plain, again, strict=True):
        assert order == same and np.array_equal(places, equal)


# -------------------------------------------------------------------------------------------------- evaluation


def test_an_evaluation_says_which_clips_do_not_decode(
    tuned: Tuned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = shutil.copytree(tuned[2].path, tmp_path / "run")

    def all_but_the_first(_: object, raw: RawClips, clips: np.ndarray, *__: object) -> dict[int, np.ndarray]:
        raw.failures[raw.keys[clips[0]]] = "empty file"
        return {int(clip): np.array([0.5, 0.5], np.float32) for clip in clips[1:]}

    asked = []
    monkeypatch.setattr(evaluation, "raw_probabilities", all_but_the_first)
    monkeypatch.setattr(evaluation, "FramePrefetcher", lambda *options, **_: nullcontext(asked.append(options)))
    (found,) = evaluate(EvaluateSettings(run=run, device="cpu", workers=1, stall_s=7))
    [(key, reason)] = found.failures.items()
    assert reason == "empty file" and found.metrics.missing[key] == "failed: empty file" and 7 in asked[0]


def test_evaluation_from_raw_frames_is_that_of_a_cache_of_its_own(before: Before, tuned: Tuned, tmp_path: Path) -> None:
    run = tuned[2]
    (raw,) = evaluate(EvaluateSettings(run=run.path, device="cpu", workers=1))
    assert raw.metrics.stage == "finetune" and raw.metrics.leakage.clean.clips == raw.metrics.clips
    compared = raw.metrics.stage_two
    assert isinstance(compared, StartComparison) and compared.run == str(before.run)
    gained = (compared.fixed - compared.broken) / raw.metrics.clips
    assert raw.metrics.top1 - compared.top1 == pytest.approx(gained)
    assert any(line.startswith(f"Stage two ({before.run}) on the same clips") for line in lines(raw.metrics))

    settings = ExtractSettings(
        data=before.data, cache=tmp_path / "cache", weights=str(run.path), precision="fp32", workers=1
    )
    extract(settings)
    assert extract(settings).seconds == 0  # the same wish again
    cache = FeatureCache(tmp_path / "cache")
    recipe = cache.recipe
    assert recipe.weights == f"random, fine-tuned ({run.model_sha256[:12]})" and recipe.trained_split == 1
    assert recipe.projection_fit == run.config.projection_fit
    probabilities = np.loadtxt(raw.folder / "predictions.csv", str, delimiter=",", skiprows=1)[:, 3].astype(float)
    (cached,) = evaluate(EvaluateSettings(run=run.path, cache=cache.path, device="cpu"))
    again = np.loadtxt(cached.folder / "predictions.csv", str, delimiter=",", skiprows=1)[:, 3].astype(float)
    np.testing.assert_allclose(probabilities, again, atol=2e-4)
    assert cached.metrics.stage_two == compared

    with pytest.raises(HarCacheError, match=r"fine-tuned on the training list of split 1.*--split 1"):
        train_head(HeadTraining(cache=cache.path, run=tmp_path / "head", split="2"))
    with pytest.raises(HarCacheError, match="other embeddings than the model knows"):
        evaluate(EvaluateSettings(run=before.run, cache=cache.path))
    (head,) = train_head(HeadTraining(cache=cache.path, run=tmp_path / "head", training=TrainSettings(epochs=1)))
    assert Run.open(tmp_path / "head").config.recipe.trained_split == 1
    assert not load_network(head).training


# --------------------------------------------------------------------------------------------------- bad input


def test_what_does_not_belong_together_is_refused(before: Before, tuned: Tuned, tmp_path: Path) -> None:
    settings = replace(tuned[0], run=tmp_path / "run")
    write_cache(tmp_path / "cache", random_embeddings(dict.fromkeys(tuned[2].clips, 2)))
    other = shutil.copytree(before.data, tmp_path / "data")
    for file in other.glob("videos/*/*"):
        file.write_bytes(file.read_bytes() + b"\0")
    leaking = shutil.copytree(before.run, tmp_path / "leaking")
    write_config(leaking, replace(Run.open(leaking).config, validate_on=2))
    for changes, message in (
        ({"start": tuned[2].path}, "is fine-tuned already; start from"),
        ({"start": leaking}, "validated on the test list of split 2, nothing is held out"),
        ({"start": tmp_path / "none"}, "no such directory"),
        ({"data": tmp_path / "none"}, "none"),
        ({"data": other}, "are other files than"),
        ({"cache": tmp_path / "cache"}, "other embeddings than the model knows"),
        ({"run": tuned[0].run}, "finished run"),
        ({"workers": 0}, "--workers 0"),
        ({"stall_s": 0.0}, "--stall-timeout 0"),
        ({"training": replace(QUICK, unfreeze=19)}, "--unfreeze 19: expected at least 0 and at most 18"),
        ({"training": replace(QUICK, accumulate=0)}, "--accumulate 0"),
        ({"training": replace(QUICK, head_epochs=3)}, "--head-epochs 3: expected 0 to 2"),
        ({"training": replace(QUICK, backbone_lr=0.0)}, "--backbone-lr 0"),
        ({"training": replace(QUICK, ema=1.0)}, "--ema 1"),
        ({"training": replace(QUICK, blend=0.0)}, "--blend 0"),
        ({"training": replace(QUICK, blend=1.5)}, "--blend 1.5"),
        ({"training": replace(QUICK, train_norms=True, checkpointing=True)}, "--train-norms"),
    ):
        with pytest.raises(HarCacheError, match=message):
            finetune(replace(settings, **changes))  # type: ignore[arg-type]
    assert not settings.run.exists()
