import csv
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from har_cache.cache.reader import FeatureCache
from har_cache.data.splits import TEST, TRAIN, VALIDATE
from har_cache.errors import CacheError, HarCacheError, RunError, SettingError
from har_cache.model.run import Run, find_runs
from har_cache.model.writer import writing
from har_cache.progress import Progress
from har_cache.settings.training import HeadSettings, TrainSettings
from har_cache.settings.training import TrainHeadSettings as Settings
from har_cache.training import heads
from har_cache.training import train_head as stage
from har_cache.training.batches import Sequences
from har_cache.training.inference import probabilities
from har_cache.training.train_head import train_head

from ..helpers.caches import action_embeddings, subsets_by_source, write_cache
from ..helpers.moves import JUDGING, LEARNING, cuda_in_name
from ..helpers.tapes import taped


def quick(settings: Settings, **changes: object) -> Settings:
    return replace(settings, training=replace(settings.training, epochs=2), **changes)  # type: ignore[arg-type]


class StopAt(Progress):
    """Interrupts once an epoch is done."""

    def __init__(self, epoch: int) -> None:
        self.last = epoch

    def advance(self, count: int = 1, note: str = "") -> None:
        if note.startswith(f"epoch {self.last} of "):
            raise KeyboardInterrupt


# ------------------------------------------------------------------------------------------- a whole training


def test_a_run_holds_what_the_contract_says_and_has_learnt(settings: Settings, cache: FeatureCache) -> None:
    (run,) = train_head(settings)
    names = {"best.ckpt", "clips.csv", "config.json", "curves.png", "last.ckpt", "metrics.csv", "model.safetensors"}
    assert {p.name for p in settings.run.iterdir()} == names | {"encoder.safetensors", "history.json"}
    assert (settings.run / "encoder.safetensors").read_bytes() == (cache.path / "encoder.safetensors").read_bytes()
    config = json.loads((settings.run / "config.json").read_text())
    assert config.pop("sha256")
    assert config == run.config.to_dict() and config["fingerprint"] == cache.fingerprint
    assert (config["stage"], config["split"], config["cache"]) == ("head", 1, str(settings.cache))
    assert config["classes"] == list(cache.classes) and config["projection_fit"] == cache.recipe.projection_fit
    assert config["fold"] == 0 and config["head"]["hidden"] == 16 and config["training"]["frames"] == 8
    metrics = list(csv.DictReader((settings.run / "metrics.csv").open()))
    best = metrics[int(config["best"]["epoch"]) - 1]
    assert float(best["val_accuracy"]) == pytest.approx(config["best"]["val_accuracy"], rel=1e-5)
    # What is recorded of validation is what a test would find.
    val = np.array([cache.clip_keys.index(key) for key, subset in run.clips.items() if subset == "val"])
    found = probabilities(run.load_head(), Sequences.from_cache(cache, "cpu"), val, 8)
    assert run.config.best is not None
    loss = -np.log(found[np.arange(len(val)), cache.labels[val]]).mean()
    accuracy = (found.argmax(1) == cache.labels[val]).mean()
    assert (run.config.best.val_loss, run.config.best.val_accuracy) == pytest.approx((loss, accuracy), rel=1e-4)
    test = np.flatnonzero(cache.subsets[:, 0] == TEST)
    found = probabilities(run.load_head(), Sequences.from_cache(cache, "cpu"), test, 8)
    assert (found.argmax(1) == cache.labels[test]).mean() > 0.9


def test_on_cuda_steps_are_in_tf32_and_validation_in_fp32(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the steps are recorded: one of 24 clips, in batches of 8, 8 and 8."""
    recorded = []
    monkeypatch.setattr(heads, "record_cuda_graph", lambda device: recorded.append(device.type) or taped)
    (plain,) = train_head(quick(settings))
    assert not recorded
    with cuda_in_name(monkeypatch, stage, heads) as cuda:
        (run,) = train_head(quick(settings, run=tmp_path / "cuda"))
    assert cuda.products == {LEARNING, JUDGING} and recorded == ["cuda"] and run.config.device == "cuda"
    assert (run.path / "model.safetensors").read_bytes() == (plain.path / "model.safetensors").read_bytes()


def test_no_clip_of_the_test_list_is_used(settings: Settings, cache: FeatureCache) -> None:
    (run,) = train_head(quick(settings, split="2"))
    part = dict(zip(cache.clip_keys, cache.subsets[:, 1], strict=True))
    source = dict(zip(cache.clip_keys, cache.sources, strict=True))
    assert run.clips.keys() == {key for key in cache.clip_keys if part[key] == TRAIN}
    of = {subset: {source[key] for key, s in run.clips.items() if s == subset} for subset in ("train", "val")}
    assert of["train"] and of["val"] and not of["train"] & of["val"]


def test_validated_on_a_test_list_nothing_is_held_out(settings: Settings, tmp_path: Path) -> None:
    """The protocol of headlines: of the clips that validate, those that train too are listed as such. As in HMDB51,
    some that split 2 tests on are not used by split 1.
    """
    embeddings = action_embeddings()
    subsets = subsets_by_source(embeddings)
    for key in list(subsets)[::3]:
        subsets[key] = (0, *subsets[key][1:])
    write_cache(tmp_path / "cache", embeddings, subsets=subsets)
    cache, settings = FeatureCache(tmp_path / "cache"), replace(settings, cache=tmp_path / "cache")
    said: list[str] = []
    listener = Progress()
    listener.say = said.append  # type: ignore[method-assign]
    (run,) = train_head(quick(settings, validate_on=2), listener)
    parts = dict(zip(cache.clip_keys, cache.subsets.tolist(), strict=True))
    trained = {key for key, part in parts.items() if part[0] == TRAIN}
    validated = {key for key, part in parts.items() if part[1] == TEST}
    assert trained & validated and validated - trained
    assert run.clips == dict.fromkeys(trained, "train") | dict.fromkeys(validated - trained, "val")
    assert (run.config.validate_on, run.config.fold) == (2, None)
    assert f"validating on {len(validated)} of the test list of split 2" in said[0]
    assert said[1].startswith(f"WARNING: nothing is held out, and {len(trained & validated)} of the {len(validated)} ")
    val = np.array([i for i, key in enumerate(cache.clip_keys) if key in validated])
    found = probabilities(run.load_head(), Sequences.from_cache(cache, "cpu"), val, 8)
    assert run.config.best is not None
    assert run.config.best.val_accuracy == pytest.approx((found.argmax(1) == cache.labels[val]).mean(), rel=1e-4)


def test_a_run_goes_on_only_with_what_it_was_validated_on(settings: Settings) -> None:
    (run,) = train_head(quick(settings, validate_on=2))
    assert train_head(quick(settings, validate_on=2, resume=True)) == [run]
    for other in (None, 3):
        with pytest.raises(HarCacheError, match="other settings \\(validate_on"):
            train_head(quick(settings, validate_on=other, resume=True))
    with pytest.raises(HarCacheError, match="--fold 1 holds clips out, --validate-on nothing"):
        train_head(quick(settings, validate_on=2, fold=1))


def test_the_mean_and_deviation_are_those_of_training_clips(settings: Settings, cache: FeatureCache) -> None:
    (run,) = train_head(quick(settings))
    means = [cache[key][0].astype(np.float64).mean(0) for key, subset in run.clips.items() if subset == "train"]
    np.testing.assert_allclose(run.load_head().mean, np.mean(means, 0), atol=1e-4)


def test_all_splits_are_trained_each_in_its_own_directory(settings: Settings) -> None:
    everything = quick(settings, split="all")
    runs = train_head(everything)
    assert [run.config.split for run in runs] == [1, 2, 3]
    assert find_runs(settings.run) == [settings.run / f"split{k}" for k in (1, 2, 3)]
    with pytest.raises(HarCacheError, match="split1: holds a finished run"):
        train_head(everything)
    again = train_head(replace(everything, resume=True))
    assert [run.config for run in again] == [run.config for run in runs]


# --------------------------------------------------------------------------------------- directories in use


def test_a_finished_run_is_replaced_only_when_asked(settings: Settings) -> None:
    train_head(quick(settings))
    before = (settings.run / "model.safetensors").read_bytes()
    (settings.run / "report.html").touch()
    with pytest.raises(HarCacheError, match=r"finished run.*--overwrite"):
        train_head(quick(settings))
    assert (settings.run / "model.safetensors").read_bytes() == before
    other = replace(quick(settings), training=replace(settings.training, epochs=1, seed=3), overwrite=True)
    train_head(other)
    assert (settings.run / "model.safetensors").read_bytes() != before
    assert not (settings.run / "report.html").exists()


def test_a_second_training_into_one_run_is_refused(settings: Settings) -> None:
    with writing(settings.run, print):
        for changes in ({}, {"resume": True}, {"overwrite": True}):
            with pytest.raises(RunError, match="another training or evaluation is at work here"):
                train_head(quick(settings, **changes))
    assert not settings.run.exists()


def test_a_run_of_one_split_and_those_of_all_do_not_mix(settings: Settings, tmp_path: Path) -> None:
    train_head(quick(settings))
    with pytest.raises(HarCacheError, match="holds a run; choose another"):
        train_head(quick(settings, split="all", overwrite=True))
    other = quick(settings, run=tmp_path / "other")
    train_head(replace(other, split="all"))
    with pytest.raises(HarCacheError, match=r"other files \(split1"):
        train_head(replace(other, overwrite=True))


def test_an_interrupted_run_goes_on_and_ends_as_if_it_had_not_been(settings: Settings, tmp_path: Path) -> None:
    small = replace(settings, training=replace(settings.training, epochs=4))
    (whole,) = train_head(replace(small, run=tmp_path / "whole"))
    with pytest.raises(KeyboardInterrupt):
        train_head(small, StopAt(2))
    with pytest.raises(HarCacheError, match="not finished"):
        Run.open(small.run)
    with pytest.raises(HarCacheError, match=r"unfinished run.*--resume.*--overwrite"):
        train_head(small)
    (resumed,) = train_head(replace(small, resume=True))
    assert resumed.config == whole.config
    assert (small.run / "model.safetensors").read_bytes() == (whole.path / "model.safetensors").read_bytes()


def test_resuming_with_other_settings_names_them(settings: Settings) -> None:
    with pytest.raises(KeyboardInterrupt):
        train_head(quick(settings), StopAt(1))
    changed = replace(
        settings, head=replace(settings.head, cell="lstm"), training=replace(settings.training, epochs=9), resume=True
    )
    with pytest.raises(HarCacheError, match=r"other settings.*cell gru, now lstm.*epochs 2, now 9"):
        train_head(changed)


def test_resuming_where_nothing_is_starts(settings: Settings) -> None:
    assert train_head(quick(settings, resume=True))[0].config.best


def test_other_files_are_left_alone(settings: Settings) -> None:
    settings.run.mkdir()
    (settings.run / "thesis.tex").touch()
    for overwrite in (False, True):
        with pytest.raises(HarCacheError, match="holds other files"):
            train_head(quick(settings, overwrite=overwrite))


# --------------------------------------------------------------------------------------------------- bad input


def test_caches_that_cannot_be_trained_on_are_refused_and_leave_no_run(settings: Settings, tmp_path: Path) -> None:
    clips = action_embeddings(classes=2, sources=3)
    one = {key: array for key, array in clips.items() if key.startswith("action0")}
    write_cache(tmp_path / "one", one)
    write_cache(tmp_path / "untrained", clips, subsets=dict.fromkeys(clips, (TEST, TEST, TRAIN)))
    write_cache(tmp_path / "half", clips, subsets={key: (TRAIN if key in one else TEST,) * 3 for key in clips})
    write_cache(tmp_path / "unfinished", clips, finish=False)
    bad = {key: array.copy() for key, array in clips.items()}
    bad["action1/film10_action1_f_cm_np1_fr_med_0.avi"][0, 2, 7] = np.nan
    write_cache(tmp_path / "nan", bad)
    single = {key: array for key, array in clips.items() if "film00" in key or "film10" in key}
    write_cache(tmp_path / "single", single, subsets=dict.fromkeys(single, (TRAIN,) * 3))
    for name, message in (
        ("one", r"one class \(action0\)"),
        ("untrained", "of the training list of split 1 it holds no clip"),
        ("half", "one class only"),
        ("unfinished", "not finished"),
        ("nan", "NaN or infinity in the embeddings of action1/film10"),
        ("single", "all that a class has"),
        ("nothing", "no such directory"),
    ):
        with pytest.raises(HarCacheError, match=message):
            train_head(quick(settings, cache=tmp_path / name))
    assert not settings.run.exists()


def test_a_damaged_shard_is_refused(settings: Settings, tmp_path: Path) -> None:
    write_cache(tmp_path / "cache", action_embeddings(classes=2, sources=3))
    shard = tmp_path / "cache" / "shards" / "00001.h5"
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    with pytest.raises(HarCacheError, match=r"00001\.h5: damaged"):
        train_head(quick(settings, cache=tmp_path / "cache"))


def test_a_damaged_encoder_is_refused(settings: Settings, tmp_path: Path) -> None:
    write_cache(tmp_path / "cache", action_embeddings(classes=2, sources=3))
    (tmp_path / "cache" / "encoder.safetensors").write_bytes(b"another")
    with pytest.raises(HarCacheError, match=r"encoder\.safetensors is damaged"):
        train_head(quick(settings, cache=tmp_path / "cache"))
    assert not settings.run.exists()


def test_settings_are_checked_before_anything_is_read(settings: Settings, tmp_path: Path) -> None:
    nowhere = replace(settings, cache=tmp_path / "nowhere")
    for changes, message in (
        ({"training": TrainSettings(frames=0)}, "--frames 0"),
        ({"training": TrainSettings(lr=-1.0)}, "--lr -1.0"),
        ({"head": HeadSettings(cell="cnn")}, "--cell cnn"),
        ({"split": "0"}, "--split 0: expected 1 to 99 or all"),
        ({"resume": True, "overwrite": True}, "--resume .* --overwrite"),
        ({"device": "tpu"}, "--device tpu"),
    ):
        with pytest.raises(HarCacheError, match=message):
            train_head(replace(nowhere, **changes))  # type: ignore[arg-type]


# ------------------------------------------------------------------------- splits, sources and validation clips


def of_people(root: Path, settings: Settings, splits: int = 2, parts: Mapping[int, int] = {}) -> Settings:
    """A cache whose names tell nothing: 20 clips of each of four classes, of five people; split k tests on person k.
    `parts`: which part of split 1 the clips of some people are, in place of that.
    """
    made = enumerate(action_embeddings(4, 5, 4).items())
    clips = {f"{key.partition('/')[0]}/{i}.mp4": array for i, (key, array) in made}
    person = {key: i // 4 % 5 + 1 for i, key in enumerate(clips)}
    subsets = {key: tuple(TEST if person[key] == k else TRAIN for k in range(1, splits + 1)) for key in clips}
    for number, part in parts.items():
        subsets |= {key: (part, *subsets[key][1:]) for key in clips if person[key] == number}
    sources = {key: f"{key.partition('/')[0]}/person{person[key]}" for key in clips}
    write_cache(root / "cache", clips, subsets=subsets, sources=sources)
    return replace(settings, cache=root / "cache")


def test_all_splits_are_those_of_the_cache(settings: Settings, tmp_path: Path) -> None:
    runs = train_head(quick(of_people(tmp_path, settings, 4), split="all"))
    assert [run.config.split for run in runs] == [1, 2, 3, 4] and find_runs(settings.run) == [run.path for run in runs]
    for run in runs:
        source = run.sources
        val = {source[key] for key, subset in run.clips.items() if subset == "val"}
        assert val and not val & {source[key] for key, subset in run.clips.items() if subset == "train"}
        assert not any(source.endswith(f"person{run.config.split}") for source in run.sources.values())
    assert Run.open(runs[0].path).sources == runs[0].sources
    assert (runs[0].path / "clips.csv").read_text().startswith("key,subset,source")


def test_a_split_that_the_cache_has_not_is_a_wrong_value(settings: Settings, tmp_path: Path) -> None:
    for changes, message in (
        ({"split": "4"}, r"^--split 4: .* has splits 1 to 3$"),
        ({"validate_on": 7}, r"^--validate-on 7: .* has splits 1 to 3$"),
    ):
        with pytest.raises(SettingError, match=message):
            train_head(quick(settings, **changes))
    one = of_people(tmp_path, settings, 1)
    with pytest.raises(SettingError, match=r"--split 2: .* has split 1 alone"):
        train_head(replace(one, split="2"))
    assert not settings.run.exists()


def test_a_cache_without_labels_cannot_be_trained_on(settings: Settings, tmp_path: Path) -> None:
    write_cache(tmp_path / "cache", action_embeddings(1), subsets={})
    for split in ("1", "all"):
        with pytest.raises(CacheError, match="its clips have no labels and no splits: there is nothing to train on"):
            train_head(replace(settings, cache=tmp_path / "cache", split=split))


def test_clips_set_apart_are_those_that_validate(settings: Settings, tmp_path: Path) -> None:
    given, said, listener = of_people(tmp_path, settings, parts={3: VALIDATE}), [], Progress()
    listener.say = said.append  # type: ignore[method-assign]
    (run,) = train_head(quick(given), listener)
    subset_of = {run.sources[key][-1]: subset for key, subset in run.clips.items()}
    assert subset_of == {"2": "train", "3": "val", "4": "train", "5": "train"}
    assert (run.config.val_set_apart, run.config.fold) == (True, None)
    assert "validating on 16 that the data set sets apart for it" in said[0] and len(said) == 1
    assert train_head(quick(given, resume=True)) == [run]
    for changes in ({"fold": 1}, {"validate_on": 2}):
        (name,) = changes
        message = f"--{name.replace('_', '-')} .: split 1 of .* sets clips apart to validate on"
        with pytest.raises(SettingError, match=message):
            train_head(quick(given, **changes, overwrite=True))
    (second,) = train_head(quick(given, split="2", fold=1, run=tmp_path / "second"))  # which sets none apart
    assert second.config.val_set_apart is None and second.config.fold == 1


def test_folds_divide_the_clips_that_are_set_apart_as_the_others(settings: Settings, tmp_path: Path) -> None:
    (run,) = train_head(quick(of_people(tmp_path, settings, parts={3: VALIDATE}), folds=2))
    assert set(run.clips.values()) == {"fold0", "fold1"} and len(run.clips) == 64
    by_source = {(source.partition("/")[2], run.clips[key]) for key, source in run.sources.items()}
    assert len(by_source) == 4  # each person in one fold
    assert run.config.val_set_apart is None and run.config.heads == 2


def test_clips_set_apart_that_share_sources_with_training_are_told(settings: Settings, tmp_path: Path) -> None:
    given, said, listener = of_people(tmp_path, settings), [], Progress()
    listener.say = said.append  # type: ignore[method-assign]
    cache = FeatureCache(given.cache)
    subsets = {key: tuple(part) for key, part in zip(cache.clip_keys, cache.subsets.tolist(), strict=True)}
    subsets["action0/4.mp4"] = (VALIDATE, TRAIN)
    embeddings = {key: cache[key] for key in cache.clip_keys}
    sources = dict(zip(cache.clip_keys, cache.sources, strict=True))
    write_cache(tmp_path / "mixed", embeddings, subsets=subsets, sources=sources)
    train_head(quick(settings, cache=tmp_path / "mixed"), listener)
    assert said[1].startswith("WARNING: 1 of the 1 clips to validate on are of sources that are trained on")


# -------------------------------------------------------------------------------------------------- holding out


def test_test_clips_whose_film_trains_under_another_class_are_told(settings: Settings, tmp_path: Path) -> None:
    """Two clips of one source of each class are tested; the film of action1's is one that action0 trains on."""

    def told(other: str) -> list[str]:
        clips = {key.replace("film11", other): array for key, array in action_embeddings(classes=2).items()}
        test = {key for key in clips if "film05" in key or f"action1/{other}" in key}
        path = tmp_path / other
        write_cache(path, clips, subsets={key: (TEST if key in test else TRAIN,) * 3 for key in clips})
        said: list[str] = []
        listener = Progress()
        listener.say = said.append  # type: ignore[method-assign]
        train_head(quick(settings, cache=path, run=tmp_path / f"run {other}"), listener)
        return [line for line in said if "under another class" in line]

    assert told("film11") == told("film05") == []
    [line] = told("film03")
    assert line.startswith("2 of 4 test clips are of films that the training list has under another class, none of ")


def test_the_fold_chooses_the_clips_held_out_and_the_seed_the_weights(settings: Settings, tmp_path: Path) -> None:
    def trained(fold: int, seed: int) -> Run:
        training = replace(settings.training, epochs=1, seed=seed)
        (run,) = train_head(replace(settings, run=tmp_path / f"{fold}{seed}", fold=fold, training=training))
        return run

    first, other_seed, other_fold = trained(0, 0), trained(0, 1), trained(1, 0)
    assert first.clips == other_seed.clips != other_fold.clips
    assert first.model_sha256 != other_seed.model_sha256
    assert [run.config.fold for run in (first, other_seed, other_fold)] == [0, 0, 1]
    with pytest.raises(HarCacheError, match=r"other settings \(fold 0, now 1\)"):
        train_head(replace(settings, run=first.path, fold=1, training=first.config.training, resume=True))


def test_the_users_random_state_decides_nothing(settings: Settings) -> None:
    (first,) = train_head(quick(settings))
    torch.rand(3)
    np.random.rand(3)
    (second,) = train_head(quick(settings, overwrite=True))
    assert first.config == second.config
