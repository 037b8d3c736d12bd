import numpy as np

from har_cache.evaluation.breakdowns import by_length, class_intervals, taken_for
from har_cache.evaluation.tables import ClipPrediction
from har_cache.statistics.intervals import accuracy_interval


def clip(name: str, predicted: str, frames: int | None = 10, film: str = "film") -> ClipPrediction:
    return ClipPrediction(f"{name}/{film}_{name}_0.avi", name, predicted, 0.5, predicted, "clean", frames)


def test_each_quarter_of_the_clips_has_its_accuracy() -> None:
    clips = [clip("a", "a" if frames < 30 else "b", frames) for frames in (80, 10, 20, 30, 40, 50, 60, 70)]
    found = by_length(clips)
    assert [(each.least, each.most, each.clips) for each in found] == [
        (10, 20, 2),
        (30, 40, 2),
        (50, 60, 2),
        (70, 80, 2),
    ]
    assert [each.top1 for each in found] == [1.0, 0.0, 0.0, 0.0]
    assert all(each.interval is None for each in found)  # of one film


def test_clips_that_are_alike_long_stay_together() -> None:
    found = by_length([clip("a", "a", frames) for frames in [5] * 6 + [9] * 2])
    assert [(each.least, each.most, each.clips) for each in found] == [(5, 5, 6), (9, 9, 2)]
    assert by_length([clip("a", "a", 5)] * 8) == ()


def test_lengths_that_are_not_known_are_left_out() -> None:
    assert by_length([clip("a", "a", None)] * 4) == () == by_length([])
    found = by_length([clip("a", "a", None), *(clip("a", "b", frames) for frames in (1, 2))])
    assert sum(each.clips for each in found) == 2


def test_a_class_has_an_interval_by_films() -> None:
    clips = [clip("a", "a" if i % 3 else "b", film=f"film{i}") for i in range(12)]
    correct = np.array([each.correct for each in clips])
    found = class_intervals([*clips, clip("b", "b")])
    assert found == {"a": accuracy_interval(correct, [f"film{i}" for i in range(12)]), "b": None}
    assert found["a"] is not None


def test_what_classes_are_taken_for_is_counted() -> None:
    assert taken_for([clip("a", "a"), clip("a", "b"), clip("a", "b")]) == {"a": {"a": 1, "b": 2}}
