from pathlib import Path

import numpy as np

from har_cache.evaluation.averages import summarise
from har_cache.evaluation.results import Evaluation
from har_cache.evaluation.tables import ClipPrediction
from har_cache.statistics.intervals import mean_accuracy_interval

from .test_results import METRICS


def test_the_mean_of_clean_clips_has_the_interval_of_their_films(tmp_path: Path) -> None:
    """Two test lists of 12 films each, and of 12 seen ones, all of them right."""
    clean = [ClipPrediction(f"a/{i}_a_0.avi", "a", "ab"[i % 2], 0.5, "", "clean", 30) for i in range(24)]
    seen = [ClipPrediction(f"a/{i}_a_0.avi", "a", "a", 0.5, "", "seen", 30) for i in range(24, 48)]
    lists = [[*clean[part], *seen[part]] for part in (slice(12), slice(12, None))]
    summary = summarise([Evaluation(tmp_path, METRICS, predictions) for predictions in lists])
    expected = [(np.arange(12) % 2 == 0, [p.film for p in clean[part]]) for part in (slice(12), slice(12, None))]
    assert summary["clean_top1"]["interval"] == mean_accuracy_interval(expected)
    assert summary["top1"]["interval"] != summary["clean_top1"]["interval"]
    assert summary["top1"]["each"] == [METRICS.top1] * 2
