import csv
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from har_cache.cache.reader import FeatureCache
from har_cache.data.splits import TEST, TRAIN
from har_cache.errors import HarCacheError, SettingError
from har_cache.model.ensemble import HeadEnsemble
from har_cache.model.run import Run, find_runs
from har_cache.progress import Progress
from har_cache.settings.training import TrainHeadSettings
from har_cache.training.batches import Sequences
from har_cache.training.inference import probabilities
from har_cache.training.train_head import train_head


def in_folds(settings: TrainHeadSettings, **changes: object) -> TrainHeadSettings:
    training = dataclasses.replace(settings.training, epochs=8)
    return dataclasses.replace(settings, **{"folds": 3, "training": training, **changes})  # type: ignore[arg-type]


class StopInFold(Progress):
    """Interrupts after an epoch of a later fold."""

    def __init__(self) -> None:
        self.folds = 0

    def say(self, text: str) -> None:
        self.folds += "fold" in text

    def advance(self, count: int = 1, note: str = "") -> None:
        if self.folds == 2 and note.startswith("epoch 3 of "):
            raise KeyboardInterrupt


def test_each_clip_is_predicted_by_the_head_that_has_not_seen_its_film(
    settings: TrainHeadSettings, cache: FeatureCache
) -> None:
    (run,) = train_head(in_folds(settings))
    source = dict(zip(cache.clip_keys, cache.sources, strict=True))
    listed = {key for key, part in zip(cache.clip_keys, cache.subsets[:, 0], strict=True) if part == TRAIN}
    assert run.clips.keys() == listed and set(run.clips.values()) == {"fold0", "fold1", "fold2"}
    rows = list(csv.DictReader((run.path / "out_of_fold.csv").open()))
    assert {row["key"] for row in rows} == listed and len(rows) == len(listed)
    sequences, found = Sequences.from_cache(cache, "cpu"), {}
    for k in range(3):
        head = Run.open(run.path / "folds" / str(k))
        held = [key for key, subset in run.clips.items() if subset == f"fold{k}"]
        assert {key for key, subset in head.clips.items() if subset == "val"} == set(held)
        assert not {source[key] for key in held} & {source[key] for key, s in head.clips.items() if s == "train"}
        clips = np.array([cache.clip_keys.index(key) for key in held])
        found |= dict(zip(held, probabilities(head.load_head(), sequences, clips, 8), strict=True))
    for row in rows:
        expected = found[row["key"]]
        assert float(row["probability"]) == pytest.approx(expected.max(), abs=1e-5)
        assert float(row["probability_of_true"]) == pytest.approx(expected[cache.classes.index(row["true"])], abs=1e-5)
        assert row["predicted"] == cache.classes[expected.argmax()] and row["fold"] == run.clips[row["key"]][4:]
    outcome = run.config.out_of_fold
    assert outcome is not None and outcome.clips == len(rows)
    assert outcome.accuracy == pytest.approx(np.mean([row["true"] == row["predicted"] for row in rows]))
    assert outcome.loss_scaled <= outcome.loss


def test_the_model_is_the_mean_of_the_heads_at_the_temperature(
    settings: TrainHeadSettings, cache: FeatureCache
) -> None:
    (run,) = train_head(in_folds(settings))
    assert run.config.heads == 3 and run.config.out_of_fold is not None
    whole = run.load_head()
    assert isinstance(whole, HeadEnsemble) and float(whole.temperature) == np.float32(
        run.config.out_of_fold.temperature
    )
    batch = Sequences.from_cache(cache, "cpu").eval_batch(torch.arange(6), 8)
    with torch.no_grad():
        heads = [Run.open(run.path / "folds" / str(k)).load_head() for k in range(3)]
        each = [(head(batch.inputs, batch.mask) / whole.temperature).softmax(1) for head in heads]
        torch.testing.assert_close(whole(batch.inputs, batch.mask).softmax(1), torch.stack(each).mean(0))
    test = np.flatnonzero(cache.subsets[:, 0] == TEST)
    found = probabilities(whole, Sequences.from_cache(cache, "cpu"), test, 8)
    assert (found.argmax(1) == cache.labels[test]).mean() > 0.9
    assert (run.path / "curves.png").stat().st_size and len((run.path / "metrics.csv").read_text().splitlines()) == 9


def test_interrupted_in_a_fold_it_goes_on_and_ends_alike(settings: TrainHeadSettings, tmp_path: Path) -> None:
    (whole,) = train_head(in_folds(settings))
    broken = in_folds(settings, run=tmp_path / "broken")
    with pytest.raises(KeyboardInterrupt):
        train_head(broken, StopInFold())
    with pytest.raises(HarCacheError, match="unfinished run; go on with --resume"):
        train_head(broken)
    finished = (broken.run / "folds" / "0" / "config.json").stat().st_mtime_ns
    (resumed,) = train_head(dataclasses.replace(broken, resume=True))
    assert (broken.run / "folds" / "0" / "config.json").stat().st_mtime_ns == finished
    for name in ("model.safetensors", "out_of_fold.csv", "clips.csv"):
        assert (resumed.path / name).read_bytes() == (whole.path / name).read_bytes()
    with pytest.raises(HarCacheError, match="begun with other settings"):
        train_head(dataclasses.replace(broken, resume=True, folds=2))


def test_over_a_run_of_folds_goes_one_without_and_leaves_none_of_its_heads(settings: TrainHeadSettings) -> None:
    train_head(in_folds(settings))
    (run,) = train_head(in_folds(settings, overwrite=True, folds=None))
    assert run.config.heads is None and not (run.path / "folds").exists()
    assert not (run.path / "out_of_fold.csv").exists()


def test_each_seed_is_a_run_of_its_own(settings: TrainHeadSettings) -> None:
    one = dataclasses.replace(settings.training, epochs=1)
    runs = train_head(dataclasses.replace(settings, seeds="1-2", split="all", training=one))
    expected = [settings.run / f"split{split}" / f"seed{seed}" for split in (1, 2, 3) for seed in (1, 2)]
    assert [run.path for run in runs] == expected == find_runs(settings.run)
    assert [run.config.training.seed for run in runs] == [1, 2] * 3
    assert runs[0].clips == runs[1].clips and runs[0].model_sha256 != runs[1].model_sha256


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"folds": 1}, "--folds 1: expected at least 2"),
        ({"folds": 3, "fold": 1}, "give one of them"),
        ({"seeds": "3-1"}, "--seeds 3-1: expected 1 to 100 seeds"),
        ({"seeds": "0-200"}, "--seeds 0-200"),
        ({"seeds": "a"}, "--seeds a: expected 0-2 or 0,1,2"),
    ],
)
def test_settings_that_do_not_go_together_are_named(
    settings: TrainHeadSettings, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(SettingError, match=message):
        train_head(dataclasses.replace(settings, **changes))  # type: ignore[arg-type]


def test_more_folds_than_films_are_refused(settings: TrainHeadSettings) -> None:
    with pytest.raises(HarCacheError, match=r"--folds 50: the sources of this training list make \d+ at most"):
        train_head(dataclasses.replace(settings, folds=50))
