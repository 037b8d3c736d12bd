import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from har_cache.cache.reader import FeatureCache
from har_cache.data.splits import TEST, TRAIN
from har_cache.errors import CacheError, HarCacheError, RunError, SettingError
from har_cache.evaluation import evaluate as module
from har_cache.evaluation.averages import summarise
from har_cache.evaluation.evaluate import compare_with_start
from har_cache.evaluation.metrics import Answers, ScoredClips
from har_cache.evaluation.results import Evaluation, NotCompared, StartComparison, read_evaluation
from har_cache.evaluation.summary import CONFOUNDED, lines, text
from har_cache.evaluation.tables import PREDICTIONS_HEADER, read_linear
from har_cache.model.config import Start
from har_cache.model.run import Run
from har_cache.model.writer import writing
from har_cache.scoring.score import score
from har_cache.settings.evaluation import EvaluateSettings, ScoreSettings
from har_cache.statistics.intervals import accuracy_interval, difference_interval, mcnemar, mean_accuracy_interval

from ..helpers import caches
from ..helpers.synthetic import OFFICIAL_LISTS, official_subsets, small_subsets, write_cache, write_run


class NearestMean:
    """Stands for a trained model: the nearest of its training clips' class means, and their own class for those."""

    def __init__(self, cache: FeatureCache, split: int):
        self.means = np.stack([cache[key].mean((0, 1), np.float32) for key in cache.clip_keys])
        self.train = np.flatnonzero(cache.subsets[:, split - 1] == TRAIN)
        self.centres = np.stack(
            [
                self.means[[i for i in self.train if cache.labels[i] == label]].mean(0)
                for label in range(len(cache.classes))
            ]
        )
        self.known = {int(i): int(cache.labels[i]) for i in self.train}

    def __call__(self, clips: np.ndarray) -> np.ndarray:
        distances = ((self.means[clips][:, None] - self.centres) ** 2).mean(2)
        for row, clip in enumerate(clips):
            if clip in self.known:
                distances[row, self.known[clip]] = -5
        exact = np.exp(-distances)
        return (exact / exact.sum(1, keepdims=True)).astype(np.float32)


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """The head is a NearestMean; what it is asked for is what evaluation asks of a real one."""
    opened = {}
    from_cache = module.Sequences.from_cache

    def remember(cache: FeatureCache, device: str) -> module.Sequences:
        opened["cache"] = cache
        return from_cache(cache, device)

    monkeypatch.setattr(module.Sequences, "from_cache", remember)
    monkeypatch.setattr(module.Run, "load_head", lambda run: NearestMean(opened["cache"], run.config.split))
    monkeypatch.setattr(module, "probabilities", lambda head, sequences, clips, frames: head(clips))


def evaluate(run: Path, **settings: Any) -> list[Evaluation]:
    return module.evaluate(EvaluateSettings(run=run, **settings))


@pytest.fixture
def cache(tmp_path) -> FeatureCache:
    return write_cache(tmp_path / "cache", small_subsets(), class_signal=0.3)


@pytest.fixture
def run(tmp_path, cache) -> Path:
    return write_run(tmp_path / "run", cache)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_second_evaluation_of_a_run_is_refused(run):
    with writing(run, print), pytest.raises(RunError, match="another training or evaluation is at work here"):
        evaluate(run)


def test_writes_its_files_and_they_agree(run):
    (evaluation,) = evaluate(run)
    assert evaluation.folder == run / "evaluate" / "split1"
    metrics = json.loads((evaluation.folder / "metrics.json").read_text())
    assert len(metrics.pop("files")) == 3 and metrics.pop("sha256")
    assert metrics == json.loads(json.dumps(evaluation.metrics.to_dict()))
    predictions = rows(evaluation.folder / "predictions.csv")
    assert len(predictions) == metrics["clips"] == 24
    right = [row["true"] == row["predicted"] for row in predictions]
    assert metrics["top1"] == pytest.approx(np.mean(right))
    assert all(row["predicted"] == row["top5"].split("|")[0] for row in predictions)
    assert all(row["key"].startswith(row["true"] + "/") for row in predictions)
    assert sum(int(row["support"]) for row in rows(evaluation.folder / "per_class.csv")) == 24
    assert (evaluation.folder / "confusion.png").read_bytes().startswith(b"\x89PNG")


def test_what_the_linear_probes_predict_is_kept_and_agrees_with_their_figures(run):
    (evaluation,) = evaluate(run)
    kept = read_linear(evaluation.folder)
    assert [*kept] == [prediction.key for prediction in evaluation.predictions]
    for name in ("linear_on_mean", "linear_on_moments"):
        right = [kept[prediction.key][name] == prediction.true for prediction in evaluation.predictions]
        assert getattr(evaluation.metrics, name).top1 == pytest.approx(np.mean(right))
    (evaluation.folder / "linear.csv").unlink()
    assert read_linear(evaluation.folder) is None


def test_linear_probes_learn_from_the_clips_that_the_run_trained_on_and_from_no_other(run, cache, monkeypatch):
    asked = []
    monkeypatch.setattr(module, "linear_probe", lambda features, labels, *clips: asked.append(clips[:3]))
    (evaluation,) = evaluate(run)
    subsets = Run.open(run).clips
    assert sorted(set(subsets.values())) == ["train", "val"]
    expected = [[key for key in cache.clip_keys if subsets.get(key) == subset] for subset in ("train", "val")]
    expected.append([prediction.key for prediction in evaluation.predictions])
    assert [[[cache.clip_keys[i] for i in clips] for clips in probe] for probe in asked] == [expected, expected]


def test_the_same_twice(run):
    (first,), (second,) = evaluate(run), evaluate(run)
    assert first.metrics == second.metrics


def test_own_test_list_is_clean_and_another_is_not(run):
    (own,), (other,) = evaluate(run), evaluate(run, split=2)
    assert _counts(own) == (0, 0, 24, 0)
    assert _counts(other) == (24, 0, 0, 0)
    assert other.metrics.top1 == 1
    assert "WARNING" not in "".join(lines(own.metrics))
    assert lines(other.metrics)[0].startswith(
        "WARNING: the model was trained or validated on 24 of these 24 clips (100.0%)"
    )
    assert "100.0% is not a test accuracy; no clip is clean" in lines(other.metrics)[0]


def test_a_sibling_alone_is_warned_of_too(tmp_path):
    subsets = {key: (1 if key.endswith("0.avi") else 2, 0, 0) for key in small_subsets()}
    cache = write_cache(tmp_path / "cache", subsets)
    (evaluation,) = evaluate(write_run(tmp_path / "run", cache))
    first = lines(evaluation.metrics)[0]
    assert first.startswith("WARNING: the model has seen the source of 48 of these 48 clips (100.0%)")


def test_films_of_other_classes_are_a_note_with_their_accuracy(tmp_path):
    """film0 trains act1 and tests act0; film1 trains nothing, film2 both train."""
    known = {"act0/film0_act0_0.avi": TEST, "act0/film0_act0_1.avi": TEST, "act1/film0_act1_0.avi": TRAIN}
    others = {f"{name}/film2_{name}_0.avi": TRAIN for name in ("act0", "act1")} | {"act0/film1_act0_0.avi": TEST}
    cache = write_cache(tmp_path / "cache", {key: (part, 0, 0) for key, part in {**known, **others}.items()})
    (evaluation,) = evaluate(write_run(tmp_path / "run", cache))
    found = evaluation.metrics.leakage
    assert _counts(evaluation) == (0, 0, 3, 2)
    assert found.other_class.share == pytest.approx(2 / 3)
    hits = {row["key"]: row["true"] == row["predicted"] for row in rows(evaluation.folder / "predictions.csv")}
    assert found.other_class.top1 == np.mean([hits[key] for key in known if key in hits])
    said = "\n".join(lines(evaluation.metrics))
    assert "WARNING" not in said and "never saw" not in said
    assert "Leakage: 0 seen, 0 siblings: no clip shares its class's source with training" in said
    assert "Same film in another class: 2 of the 3 clean clips" in said
    assert (
        f"right {100 * found.other_class.top1:.1f}%; the other 1 right {100 * hits['act0/film1_act0_0.avi']:.1f}%"
        in said
    )


def test_chance_and_the_linear_baseline_stand_beside_the_figure(run):
    (evaluation,) = evaluate(run)
    assert evaluation.metrics.chance == 1 / 4
    assert 0 <= evaluation.metrics.linear_on_mean.top1 <= 1
    shares = [100 * evaluation.metrics.linear_on_mean.top1, 100 * evaluation.metrics.linear_on_moments.top1]
    assert (
        "Beside it: chance 25.0%; linear probe on each clip's mean embedding {:.1f}%, on its mean and first moment in "
        "time {:.1f}%".format(*shares)
    ) in lines(evaluation.metrics)


def test_a_cache_with_another_fingerprint_is_refused(tmp_path, run):
    write_cache(tmp_path / "other", small_subsets(), encoder=b"another")
    with pytest.raises(CacheError, match="was trained on"):
        evaluate(run, cache=tmp_path / "other")


def test_a_cache_that_has_moved_is_found_with_cache(tmp_path, run, cache):
    cache.path.rename(tmp_path / "moved")
    with pytest.raises(CacheError, match="say with --cache where it is"):
        evaluate(run)
    assert evaluate(run, cache=tmp_path / "moved")


def test_clips_of_the_list_that_are_missing_are_named_with_the_reason(tmp_path):
    subsets = small_subsets()
    failed, absent = sorted(key for key in subsets if subsets[key][0] == TEST)[:2]
    elsewhere = next(key for key in subsets if subsets[key][1] == TEST)
    cache = write_cache(tmp_path / "cache", subsets, failed={failed: "no frame decodes"}, absent=[absent, elsewhere])
    (evaluation,) = evaluate(write_run(tmp_path / "run", cache))
    assert evaluation.metrics.missing == {
        failed: "failed: no frame decodes",
        absent: "not on disk when the cache was made",
    }
    note = next(line for line in lines(evaluation.metrics) if line.startswith("Missing"))
    assert "2 of the 24 clips" in note
    assert "(1 failed, 1 not on disk)" in note
    assert failed in note


def test_a_projection_fitted_on_test_clips_is_warned_of(tmp_path, monkeypatch):
    recipe = caches.make_recipe(projection_fit="96 frames of 48 clips test clips included")
    monkeypatch.setattr(caches, "make_recipe", lambda **changes: recipe)
    cache = write_cache(tmp_path / "cache", small_subsets())
    (evaluation,) = evaluate(write_run(tmp_path / "run", cache))
    assert any(line.startswith("WARNING: the cache's projection") for line in lines(evaluation.metrics))


def test_classes_are_matched_by_name_not_by_number(tmp_path, run, cache):
    turned = write_run(tmp_path / "turned", cache, classes=cache.classes[::-1])

    (expected,) = evaluate(run)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "probabilities", lambda head, sequences, clips, frames: head(clips)[:, ::-1])
        (found,) = evaluate(turned)
    assert found.metrics.top1 == expected.metrics.top1
    assert found.metrics.linear_on_mean.top1 == expected.metrics.linear_on_mean.top1
    assert found.metrics.linear_on_moments.top1 == expected.metrics.linear_on_moments.top1


def test_a_film_of_several_classes_counts_once_and_few_films_have_no_interval(run):
    (evaluation,) = evaluate(run)
    metrics = evaluation.metrics  # film0 and film3, each of four classes
    assert (metrics.films, metrics.interval, metrics.leakage.clean.interval) == (2, None, None)
    assert metrics.linear_on_mean.interval is None
    assert {tag.interval for tag in metrics.tags} == {None}
    assert (
        "(no interval: fewer than 10 films) on the test list of split 1: 24 clips of 4 classes and 2 films"
        in (lines(metrics)[0])
    )


def test_ten_films_have_an_interval(tmp_path):
    cache = write_cache(tmp_path / "cache", small_subsets(sources=30), class_signal=0.3)
    (evaluation,) = evaluate(write_run(tmp_path / "run", cache))
    metrics = evaluation.metrics
    films = [row["key"].split("/")[1].split("_")[0] for row in rows(evaluation.folder / "predictions.csv")]
    hits = np.array([row["true"] == row["predicted"] for row in rows(evaluation.folder / "predictions.csv")])
    assert (metrics.films, metrics.interval) == (10, accuracy_interval(hits, films))
    low, high = (100 * end for end in metrics.interval)
    assert f"(95% interval {low:.1f} to {high:.1f})" in lines(metrics)[0]


def test_top5_of_four_classes_says_nothing_and_is_null(run):
    (evaluation,) = evaluate(run)
    assert json.loads((evaluation.folder / "metrics.json").read_text())["top5"] is None
    assert "top-5" not in text([evaluation])


def test_figures_by_tag_are_said_to_go_with_the_class(tmp_path, run):
    said = text(evaluate(run)).splitlines()
    assert said[said.index(CONFOUNDED) - 1].startswith("By people: ")
    untagged = {f"{name}/{i}.avi": (1 + (i < 3), 0, 0) for name in "ab" for i in range(6)}
    run = write_run(tmp_path / "untagged", write_cache(tmp_path / "plain", untagged))
    assert CONFOUNDED not in text(evaluate(run))


def test_a_class_that_the_run_does_not_know_is_refused(tmp_path, cache):
    run = write_run(tmp_path / "run", cache, classes=cache.classes[:-1])
    with pytest.raises(HarCacheError, match=r"knows nothing of 1 classes .*act3"):
        evaluate(run)


def test_sources_are_those_of_the_cache_as_it_is_now(tmp_path):
    """As when it was brought up to date with a pattern: the run was trained before, and knows none."""
    subsets = {f"{name}/{i}.mp4": (TEST if i < 4 else TRAIN,) for name in ("act0", "act1") for i in range(12)}
    embeddings = caches.random_embeddings(dict.fromkeys(subsets, 2))
    caches.write_cache(tmp_path / "cache", embeddings, subsets=subsets)
    run = write_run(tmp_path / "run", FeatureCache(tmp_path / "cache"))
    (before,) = evaluate(run)
    assert (before.metrics.leakage.clean.clips, before.metrics.films) == (8, 4)
    assert rows(before.folder / "predictions.csv")[0].keys() == {*PREDICTIONS_HEADER}
    shutil.rmtree(tmp_path / "cache")
    people = {key: f"{key[:4]}/person{int(key[5:-4]) % 6}" for key in subsets}
    caches.write_cache(tmp_path / "cache", embeddings, subsets=subsets, sources=people)
    (after,) = evaluate(run)
    assert (after.metrics.leakage.sibling.clips, after.metrics.films) == (8, 4)
    assert {p.key: p.source for p in after.predictions}["act0/3.mp4"] == "act0/person3"
    assert read_evaluation(after.folder).predictions[0].film == "person0"


def test_files_that_are_each_a_source_of_their_own_are_told_of(tmp_path, monkeypatch):
    cache = write_cache(tmp_path / "cache", small_subsets())
    run = write_run(tmp_path / "run", cache)
    monkeypatch.setattr(module, "open_cache", lambda *_: cache)
    cache.manifest = replace(cache.manifest, sources_from="files")
    (found,) = evaluate(run)
    assert read_evaluation(found.folder).metrics.sources_from == "files"
    assert any(line.startswith("WARNING: each file is taken for a source of its own") for line in lines(found.metrics))


@pytest.mark.parametrize("split", [0, 100, -1])
def test_splits_are_counted_from_one(run, split):
    with pytest.raises(SettingError, match=rf"--split {split}: expected at least 1 and at most 99"):
        evaluate(run, split=split)


def test_a_split_that_the_cache_has_not_is_refused_with_those_that_it_has(run, cache):
    with pytest.raises(SettingError, match=rf"--split 4: {cache.path} has splits 1 to 3"):
        evaluate(run, split=4)


def test_a_list_without_a_clip_in_the_cache_is_refused(tmp_path):
    cache = write_cache(tmp_path / "cache", dict.fromkeys(small_subsets(), (1, 0, 0)))
    with pytest.raises(HarCacheError, match="no clip of the test list of split 1"):
        evaluate(write_run(tmp_path / "run", cache))


def test_probabilities_that_are_not_finite_are_refused(run, monkeypatch):
    monkeypatch.setattr(
        module, "probabilities", lambda head, sequences, clips, frames: np.full((len(clips), 4), np.nan)
    )
    with pytest.raises(HarCacheError, match="not finite"):
        evaluate(run)


def test_three_splits_have_a_mean_and_the_figures_of_each(tmp_path, cache):
    for split in (1, 2, 3):
        write_run(tmp_path / "all" / f"split{split}", cache, split)
    evaluations = evaluate(tmp_path / "all")
    top1 = [evaluation.metrics.top1 for evaluation in evaluations]
    summary = json.loads((tmp_path / "all" / "evaluate" / "summary.json").read_text())
    assert [(s["trained_on"], s["tested_on"]) for s in summary["splits"]] == [(1, 1), (2, 2), (3, 3)]
    assert summary["top1"] == {"mean": pytest.approx(np.mean(top1)), "each": top1, "interval": None}  # of 6 films
    assert summary["top5"] is None
    for name in ("linear_on_mean", "linear_on_moments"):
        assert summary[name]["each"] == [getattr(evaluation.metrics, name).top1 for evaluation in evaluations]
    assert summary["leaking"] == 0
    assert summarise(evaluate(tmp_path / "all", split=3))["leaking"] == 2


def test_the_mean_of_three_splits_has_an_interval_in_which_a_film_counts_once(tmp_path):
    cache = write_cache(tmp_path / "cache", small_subsets(sources=12), class_signal=0.3)
    for split in (1, 2, 3):
        write_run(tmp_path / "all" / f"split{split}", cache, split)
    evaluations = evaluate(tmp_path / "all")
    assert {evaluation.metrics.interval for evaluation in evaluations} == {None}  # of 4 films each, 12 in all
    lists = []
    for evaluation in evaluations:
        found = rows(evaluation.folder / "predictions.csv")
        films = [row["key"].split("/")[1].split("_")[0] for row in found]
        lists.append((np.array([row["true"] == row["predicted"] for row in found]), films))
    expected = mean_accuracy_interval(lists)
    assert expected is not None
    summary = summarise(evaluations)
    assert summary["top1"]["interval"] == summary["clean_top1"]["interval"] == expected
    assert summarise([read_evaluation(evaluation.folder) for evaluation in evaluations]) == summary
    first = text(evaluations).splitlines()[0]
    assert f"(95% interval {100 * expected[0]:.1f} to {100 * expected[1]:.1f}); 1 on 1: " in first


def test_one_split_with_clean_clips_makes_no_mean_of_them(tmp_path, cache):
    """Trained on 1, 2 and 3, and all tested on 3."""
    for split in (1, 2, 3):
        write_run(tmp_path / "all" / f"split{split}", cache, split)
    evaluations = evaluate(tmp_path / "all", split=3)
    summary = summarise(evaluations)
    assert summary["top1"]["each"][:2] == [1, 1]
    assert summary["clean_top1"] is None
    assert "Clean clips alone: -;" in text(evaluations)


@pytest.fixture
def tuned(run) -> Run:
    """As if it had been fine-tuned from `run`."""
    start = Run.open(run)
    return replace(start, config=replace(start.config, started_from=Start(str(run), start.model_sha256)))


def test_fine_tuning_put_clips_right_and_wrong(cache, tuned, monkeypatch):
    before, now = np.array([1, 1, 0, 0, 0], bool), np.array([1, 0, 1, 1, 0], bool)
    labels = cache.labels[:5]
    answers = {True: np.eye(4)[labels], False: np.eye(4)[(labels + 1) % 4]}
    found = np.where(before[:, None], answers[True], answers[False])
    monkeypatch.setattr(module, "probabilities", lambda head, sequences, clips, frames: found[clips])
    scored = _scored(cache, np.where(now[:, None], answers[True], answers[False]))
    compared = compare_with_start(tuned, scored, module.Sequences.from_cache(cache, "cpu"), cache)
    assert compared == StartComparison(tuned.config.started_from.run, top1=2 / 5, fixed=2, broken=1, p=1.0)


@pytest.mark.parametrize("put_right", [24, 2])
def test_fine_tuning_is_compared_clip_by_clip_over_films(tmp_path, monkeypatch, put_right):
    cache = write_cache(tmp_path / "cache", small_subsets(classes=1, sources=16, clips=2))
    start = Run.open(write_run(tmp_path / "run", cache))
    tuned = replace(start, config=replace(start.config, started_from=Start(str(start.path), start.model_sha256)))
    now, before = np.arange(32) < 30, np.arange(32) < 30 - put_right
    answers = {which: np.stack([hits, ~hits], 1).astype(np.float32) for which, hits in (("now", now), ("was", before))}
    monkeypatch.setattr(module, "probabilities", lambda head, sequences, clips, frames: answers["was"][clips])
    scored = replace(_scored(cache, answers["now"]), classes=("act0", "other"))
    compared = compare_with_start(tuned, scored, module.Sequences.from_cache(cache, "cpu"), cache)
    assert (compared.fixed, compared.broken, compared.p) == (put_right, 0, mcnemar(put_right, 0))
    assert compared.interval == difference_interval(now, before, scored.films)
    assert compared.shown == (put_right == 24)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda run: (run / "config.json").unlink(), "is no run"),
        (lambda run: _edit(run / "config.json", "0" * 64, "1" * 64), "has been trained again since"),
    ],
)
def test_a_stage_two_run_that_is_gone_is_not_compared_with(cache, run, tuned, change, reason):
    change(run)
    found = compare_with_start(tuned, _scored(cache, np.eye(4)[:2]), module.Sequences.from_cache(cache, "cpu"), cache)
    assert isinstance(found, NotCompared)
    assert (found.run, reason in found.unknown) == (str(run), True)


def _scored(cache: FeatureCache, probabilities: np.ndarray) -> ScoredClips:
    """The first clips of a cache."""
    n = len(probabilities)
    return ScoredClips(
        cache.classes,
        dict(zip(cache.clip_keys[:n], cache.sources[:n], strict=True)),
        cache.frames[:n].tolist(),
        cache.labels[:n],
        Answers.of(probabilities),
        ["clean"] * n,
        [False] * n,
    )


def _edit(path: Path, old: str, new: str) -> None:
    path.write_text(path.read_text().replace(old, new))


@pytest.mark.skipif(not OFFICIAL_LISTS.is_dir(), reason="the official lists are not here")
def test_all_of_hmdb51_on_split_1_and_3(tmp_path):
    cache = write_cache(
        tmp_path / "cache", official_subsets(), frames=1, class_signal=0.2, source_signal=1.0, noise=0.2
    )
    run = write_run(tmp_path / "run", cache)
    (own,), (third,) = evaluate(run, split=1), evaluate(run, split=3)
    assert _counts(own) == (0, 0, 1530, 457)
    assert _counts(third) == (1150, 162, 218, 94)
    assert any("457 of the 1,530 clean clips" in line for line in lines(own.metrics))
    first = lines(third.metrics)[0]
    assert "trained or validated on 1,150 of these 1,530 clips (75.2%)" in first
    assert "162 more (10.6%)" in first
    assert third.metrics.top1 > own.metrics.top1 + 0.25
    assert third.metrics.leakage.clean.top1 == pytest.approx(own.metrics.top1, abs=0.15)
    table = third.folder / "predictions.csv"
    scored = score(ScoreSettings(cache=cache.path, predictions=table, trained_on=run / "clips.csv"))
    assert scored.metrics.split == 3 and scored.metrics.leakage == third.metrics.leakage


def _counts(evaluation: Evaluation) -> tuple[int, ...]:
    return tuple(group.clips for group in vars(evaluation.metrics.leakage).values())
