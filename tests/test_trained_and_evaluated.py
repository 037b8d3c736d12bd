"""Stage two from end to end: a cache, a head trained on it, its evaluation and its page."""

import json
import statistics

import numpy as np
import pytest

from har_cache.evaluation import evaluate as evaluating
from har_cache.evaluation.evaluate import evaluate
from har_cache.evaluation.linear_probe import linear_probe
from har_cache.evaluation.results import read_evaluation
from har_cache.evaluation.summary import text
from har_cache.pages.report import report
from har_cache.settings.evaluation import EvaluateSettings
from har_cache.settings.training import HeadSettings, TrainSettings
from har_cache.settings.training import TrainHeadSettings as Settings
from har_cache.training.train_head import train_head

from .helpers import caches


def test_order_is_learnt_and_the_figures_say_so(tmp_path):
    caches.write_cache(tmp_path / "cache", caches.action_embeddings(sources=9), shard_clips=24)
    training = TrainSettings(epochs=8, frames=8, batch_size=8)
    train_head(
        Settings(cache=tmp_path / "cache", run=tmp_path / "run", head=HeadSettings(hidden=16), training=training)
    )

    (evaluation,) = evaluate(EvaluateSettings(run=tmp_path / "run", device="cpu"))
    metrics = evaluation.metrics
    assert (metrics.train_clips, metrics.val_clips) == _counts(tmp_path / "run" / "clips.csv")
    assert metrics.leakage.clean.clips == metrics.clips == 24
    assert metrics.top1 > 0.9
    assert metrics.linear_on_mean.top1 < 0.75  # the classes of a pair differ in order alone
    assert metrics.linear_on_moments.top1 > 0.9

    (other,) = evaluate(EvaluateSettings(run=tmp_path / "run", split=2, device="cpu"))
    assert other.metrics.leakage.seen.clips == 24
    page = report(tmp_path / "run").read_text("utf-8")
    assert "Leakage: 0 seen, 0 siblings" in page
    assert metrics.fingerprint in page


def _counts(path):
    subsets = np.array([line.rsplit(",", 1)[1] for line in path.read_text().splitlines()[1:]])
    return (subsets == "train").sum(), (subsets == "val").sum()


def test_seeds_and_folds_are_evaluated_together_and_say_what_they_are(tmp_path, monkeypatch):
    fitted = []
    monkeypatch.setattr(evaluating, "linear_probe", lambda *given: fitted.append(1) or linear_probe(*given))
    caches.write_cache(tmp_path / "cache", caches.action_embeddings(sources=9), shard_clips=24)
    train_head(
        Settings(
            cache=tmp_path / "cache",
            run=tmp_path / "run",
            seeds="0-1",
            folds=3,
            head=HeadSettings(hidden=16),
            training=TrainSettings(epochs=4, frames=8, batch_size=8),
        )
    )

    evaluations = evaluate(EvaluateSettings(run=tmp_path / "run", device="cpu"))
    assert [evaluation.metrics.seed for evaluation in evaluations] == [0, 1]
    assert len(fitted) == 2  # on the mean, and on both moments: the seeds have the same clips
    for evaluation in evaluations:
        metrics = evaluation.metrics
        assert (metrics.train_clips, metrics.val_clips, metrics.heads) == (48, 0, 3)
        assert metrics.leakage.clean.clips == metrics.clips == 24
        assert metrics.linear_on_moments.top1 > 0.9
        assert read_evaluation(evaluation.folder).metrics == metrics
    said = text(evaluations)
    assert (
        "trained on 48 clips of the training list of split 1 by 3 heads, each of which validates on the films" in said
    )
    assert "Over 2 seeds: standard deviation" in said and "1 on 1, seed 1: " in said
    summary = json.loads((tmp_path / "run" / "evaluate" / "summary.json").read_text())
    tops = [evaluation.metrics.top1 for evaluation in evaluations]
    assert summary["seeds"] == {"each_list": 2, "standard_deviation": pytest.approx(statistics.stdev(tops))}
    page = report(tmp_path / "run").read_text("utf-8")
    assert "Split 1, seed 1" in page and "mean over 3 heads" in page
