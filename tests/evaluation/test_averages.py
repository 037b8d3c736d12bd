import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

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


def of_seeds(*lists: Sequence[float]) -> object:
    """What is said of seeds, where the models of each list have these accuracies."""
    clip = ClipPrediction("a/x_a_0.avi", "a", "a", 0.5, "", "clean", 30)
    return summarise(
        [
            Evaluation(Path(), replace(METRICS, split=split, trained_on=split, top1=top1), [clip])
            for split, each in enumerate(lists, start=1)
            for top1 in each
        ]
    )["seeds"]


def test_the_deviation_over_seeds_is_pooled_over_lists_by_their_degrees_of_freedom() -> None:
    """Sums of squares about the means are 0.02 and 0.005, with 2 and 1 degrees of freedom."""
    assert of_seeds([0.7, 0.8, 0.9], [0.5, 0.6], [0.4]) == {
        "each_list": 2,
        "standard_deviation": pytest.approx(math.sqrt(0.025 / 3)),
    }
    assert of_seeds([0.7], [0.8]) is None
