import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from har_cache.cache.reader import FeatureCache
from har_cache.comparison.ablate import Ablation, ablate
from har_cache.comparison.summary import ablation_tables
from har_cache.comparison.tables import render
from har_cache.data.splits import TEST
from har_cache.encoder.weights import random_model, save_encoder
from har_cache.errors import CacheError, RunError
from har_cache.evaluation.evaluate import evaluate
from har_cache.model.config import FINETUNED, Start, read_config, write_config
from har_cache.model.network import CNNBidirectionalRNN
from har_cache.model.run import Run
from har_cache.model.writer import save_model, write_clips
from har_cache.settings.evaluation import AblateSettings, EvaluateSettings
from har_cache.settings.training import HeadSettings, TrainHeadSettings, TrainSettings, TuneSettings
from har_cache.storage.parsing import to_json_types
from har_cache.training.train_head import train_head

from ..conftest import contents
from ..helpers import caches
from ..helpers.sealed import change_sealed


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose classes come in pairs that order alone tells apart."""
    folder = tmp_path_factory.mktemp("ablated")
    caches.write_cache(folder / "cache", caches.action_embeddings(sources=9), shard_clips=24)
    training = TrainSettings(epochs=10, frames=8, batch_size=8)
    train_head(
        TrainHeadSettings(cache=folder / "cache", run=folder / "run", head=HeadSettings(hidden=16), training=training)
    )
    return folder / "run"


@pytest.fixture(scope="module")
def ablation(trained: Path) -> Ablation:
    (found,) = ablate(AblateSettings(run=trained, device="cpu"))
    return found


def top1(ablation: Ablation, name: str) -> float:
    return next(each.top1 for each in ablation.variants if each.name == name)


def test_order_decides_and_the_table_says_so(ablation: Ablation) -> None:
    assert ablation.top1 > 0.9
    assert top1(ablation, "order reversed") <= ablation.chance
    shares = ablation.by_class["order shuffled"]
    assert sum(shares.values()) / len(shares) == pytest.approx(top1(ablation, "order shuffled"))
    assert top1(ablation, "order reversed") < top1(ablation, "order shuffled") < ablation.top1
    assert top1(ablation, "one frame, repeated") <= 0.5
    assert top1(ablation, "appearance alone") < 0.75  # the frames that are taken are not exactly around the middle
    assert top1(ablation, "movement alone") > 0.9
    assert top1(ablation, "1 frame") < 0.75 < top1(ablation, "16 frames")
    assert all(share == 0 for share in ablation.by_class["order reversed"].values())
    assert ablation.by_class["as it is"].keys() == {f"action{i}" for i in range(4)}
    reverse = ablation.variants[0]
    assert reverse.shown and reverse.level == pytest.approx(1 - 0.05 / len(ablation.variants))
    text = render(ablation_tables(ablation), "text")
    assert "24 clips of 4 classes and 12 films; 8 frames, mean over 3 ways; chance 25.0%" in text
    line = next(line for line in text.splitlines() if line.startswith("order reversed"))
    assert line.endswith("more than chance explains")
    assert "WARNING" not in text


def test_it_starts_from_the_figure_that_evaluation_gives(trained: Path, ablation: Ablation) -> None:
    (evaluation,) = evaluate(EvaluateSettings(run=trained, device="cpu"))
    assert ablation.top1 == evaluation.metrics.top1
    assert ablation.interval == pytest.approx(evaluation.metrics.interval)
    assert ablation.calibration is not None
    assert ablation.calibration.loss == pytest.approx(evaluation.metrics.loss)


def test_the_temperature_is_fitted_on_validation_clips(trained: Path, ablation: Ablation) -> None:
    calibration = ablation.calibration
    assert calibration is not None
    assert calibration.val_clips == sum(line.endswith(",val") for line in (trained / "clips.csv").read_text().split())
    # Trained with label smoothing, on so easy a task, it is right and not sure of it.
    assert calibration.temperature < 1
    assert calibration.error_at_temperature < calibration.error
    assert "fitted on" in render(ablation_tables(ablation), "text")


def test_it_writes_one_file_and_changes_nothing_else(trained: Path, ablation: Ablation) -> None:
    file = trained / "evaluate" / "split1" / "ablation.json"
    assert json.loads(file.read_text()) == json.loads(json.dumps(to_json_types(ablation)))
    before = contents(trained)
    assert [to_json_types(each) for each in ablate(AblateSettings(run=trained, device="cpu"))] == [
        to_json_types(ablation)
    ]
    assert contents(trained) == before
    ablate(AblateSettings(run=trained, device="cpu", split=2))
    assert {*contents(trained)} - {*before} == {"evaluate/split2/ablation.json"}


def test_clips_that_the_run_knows_are_warned_of(trained: Path) -> None:
    (other,) = ablate(AblateSettings(run=trained, device="cpu", split=2))
    assert other.known == other.clips == 24
    assert "WARNING: the model was trained or validated on 24" in render(ablation_tables(other), "text")


def test_without_validation_clips_there_is_no_temperature(trained: Path, tmp_path: Path) -> None:
    run = copied(trained, tmp_path)
    digest = write_clips(run, {})
    change_sealed(run / "config.json", lambda config: config["files"].update({"clips.csv": digest}))
    (found,) = ablate(AblateSettings(run=run, device="cpu"))
    assert found.calibration is None
    assert len(ablation_tables(found)) == 1


def test_several_heads_are_ablated_as_one(trained: Path, tmp_path: Path) -> None:
    """Their temperature is the run's own, and no second one is fitted."""
    training = TrainSettings(epochs=4, frames=8, batch_size=8)
    settings = TrainHeadSettings(
        cache=trained.parent / "cache", run=tmp_path, folds=2, head=HeadSettings(hidden=16), training=training
    )
    train_head(settings)
    (found,) = ablate(AblateSettings(run=tmp_path, device="cpu"))
    (evaluation,) = evaluate(EvaluateSettings(run=tmp_path, device="cpu"))
    run = Run.open(tmp_path)
    assert found.top1 == evaluation.metrics.top1
    assert top1(found, "order reversed") < found.top1
    assert top1(found, "appearance alone") < top1(found, "movement alone")
    assert found.calibration is not None and run.config.out_of_fold is not None
    assert found.calibration.temperature == pytest.approx(run.config.out_of_fold.temperature)
    assert found.calibration.val_clips == run.config.out_of_fold.clips
    assert found.calibration.loss_at_temperature == pytest.approx(evaluation.metrics.loss)
    assert found.calibration.loss != found.calibration.loss_at_temperature


def test_clips_that_are_tested_fit_no_temperature(trained: Path) -> None:
    (own,) = ablate(AblateSettings(run=trained, device="cpu"))
    (other,) = ablate(AblateSettings(run=trained, device="cpu", split=2))
    assert own.calibration is not None
    validated = {key for key, subset in Run.open(trained).clips.items() if subset == "val"}
    cache = FeatureCache(trained.parent / "cache")
    tested = {key for key, parts in zip(cache.clip_keys, cache.subsets, strict=True) if parts[1] == TEST}
    assert validated & tested
    left = len(validated - tested)
    assert (other.calibration.val_clips if other.calibration else 0) == left < own.calibration.val_clips


def test_a_fine_tuned_run_wants_a_cache_of_its_own_encoder(trained: Path, tmp_path: Path) -> None:
    run = copied(trained, tmp_path)
    config, encoder = read_config(run), random_model(seed=1)
    assert config is not None
    network = CNNBidirectionalRNN(encoder, Run.open(run).load_head())
    training = TuneSettings(frames=8)
    tuned = replace(config, stage=FINETUNED, data="data", started_from=Start("before", "0" * 64), training=training)
    write_config(run, replace(tuned, model_sha256=save_model(network, run)))
    with pytest.raises(RunError, match=r"is fine-tuned, .*`har-cache extract --weights \S+/run`, .* with --cache"):
        ablate(AblateSettings(run=run, device="cpu"))
    caches.write_cache(tmp_path / "own", caches.action_embeddings(sources=9), encoder=save_encoder(encoder))
    (found,) = ablate(AblateSettings(run=run, cache=tmp_path / "own", device="cpu"))
    assert found.top1 > 0.9 and found.frames == 8


def copied(run: Path, folder: Path) -> Path:
    return Path(shutil.copytree(run, folder / "run"))


def test_another_cache_than_the_run_was_trained_on_is_refused(trained: Path, tmp_path: Path) -> None:
    caches.write_cache(tmp_path / "cache", caches.action_embeddings(), encoder=b"another")
    with pytest.raises(CacheError, match="was trained on"):
        ablate(AblateSettings(run=trained, cache=tmp_path / "cache", device="cpu"))
