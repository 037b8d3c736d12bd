import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix

from har_cache.evaluation import metrics as scores
from har_cache.evaluation.metrics import ClassScores
from har_cache.evaluation.results import ConfusedPair
from har_cache.statistics.intervals import accuracy_interval

CLASSES = ("a", "b", "c")
TRUE = np.array([0, 0, 1, 1, 1, 2])
PROBABILITIES = np.array(
    [[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.8, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8], [0.2, 0.2, 0.6]], np.float32
)
PREDICTED = PROBABILITIES.argmax(1)


def _scores(true, probabilities):
    return scores.scores(true, scores.Answers.of(probabilities), probabilities.shape[1])


def test_scores_of_a_small_case_done_by_hand():
    found = _scores(TRUE, PROBABILITIES)
    assert found["top1"] == pytest.approx(4 / 6)
    assert found["top5"] is None
    assert found["loss"] == pytest.approx(-np.log([0.8, 0.1, 0.8, 0.8, 0.1, 0.6]).mean(), abs=1e-6)
    assert found["macro_f1"] == pytest.approx(np.mean([2 / 3, 2 / 3, 2 / 3]))
    assert found["mean_class_accuracy"] == pytest.approx(np.mean([1 / 2, 2 / 3, 1]))


def test_each_class_counts_the_same_however_many_clips_it_has():
    true, predicted = np.array([0, 0, 0, 0, 1, 2]), np.array([0, 0, 0, 1, 1, 0])
    found = _scores(true, np.eye(3)[predicted] * 0.9 + 0.1)
    assert found["macro_f1"] == pytest.approx(np.mean([2 * 3 / (4 + 4), 2 * 1 / (1 + 2), 0]))
    assert found["mean_class_accuracy"] == pytest.approx(np.mean([3 / 4, 1, 0]))


def test_classes_without_clips_do_not_count():
    found = _scores(np.array([0, 0]), np.array([[0.6, 0.4, 0.0], [0.6, 0.4, 0.0]]))
    assert found["mean_class_accuracy"] == found["macro_f1"] == 1


@pytest.mark.parametrize(("classes", "top5"), [(5, None), (6, 0.5)])
def test_top5_is_of_more_than_five_classes(classes, top5):
    """The true class is the likeliest of one clip, and the last of the other."""
    probabilities = np.stack([np.arange(classes, 0, -1), np.arange(classes, 0, -1)]) / classes
    assert _scores(np.array([0, classes - 1]), probabilities)["top5"] == top5


@given(st.integers(0, 2**32 - 1), st.integers(6, 12))
def test_top5_is_a_hit_among_the_five_likeliest(seed, classes):
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.ones(classes), 20)
    true = rng.integers(0, classes, 20)
    better = (probabilities > probabilities[np.arange(20), true][:, None]).sum(1)
    assert _scores(true, probabilities)["top5"] == (better < 5).mean()


def test_equal_probabilities_are_ranked_in_the_order_of_the_classes():
    assert scores.ranked(np.full((1, 4), 0.25)).tolist() == [[0, 1, 2, 3]]


def test_per_class_and_confused_pairs():
    matrix = confusion_matrix(TRUE, PREDICTED, labels=range(4))
    rows = {row.name: row for row in scores.per_class(matrix, (*CLASSES, "never"))}
    thirds = pytest.approx(2 / 3)
    assert rows["b"] == ClassScores("b", 3, precision=thirds, recall=thirds, f1=thirds, mostly_taken_for="c")
    assert "never" not in rows
    pairs = scores.confused_pairs(matrix, (*CLASSES, "never"))
    assert pairs == (ConfusedPair("a", "b", 1, 1 / 2), ConfusedPair("b", "c", 1, pytest.approx(1 / 3)))


def test_a_class_that_is_predicted_but_has_no_clip_has_no_recall():
    row = scores.per_class(confusion_matrix([0], [1], labels=range(2)), ("a", "b"))[1]
    assert (row.support, row.recall, row.precision) == (0, None, 0)


def test_by_tag_has_each_clip_once_under_each_mark():
    keys = ["run/x_run_f_cm_np1_fr_med_0.avi", "run/x_run_u_nm_np2_fr_bad_1.avi", "run/untagged.avi"]
    rows = scores.by_tag(keys, np.array([True, False, True]), ["x", "x", "y"])
    found = {(row.tag, row.value): (row.clips, row.top1) for row in rows}
    assert found["camera", "camera moves"] == (1, 1.0)
    assert found["viewpoint", "front"] == (2, 0.5)
    assert found["people", "2"] == (1, 0.0)
    assert all(sum(row.clips for row in rows if row.tag == tag) == 2 for tag in {row.tag for row in rows})


def test_by_tag_has_the_intervals_of_its_own_films():
    keys = [f"run/x_run_{'f' if i < 12 else 'h'}_cm_np1_fr_med_{i}.avi" for i in range(36)]
    films = [str(i) for i in range(12)] + [str(i // 2) for i in range(24)]
    correct = np.arange(36) % 8 < 4
    found = {row.value: row.interval for row in scores.by_tag(keys, correct, films) if row.tag == "body"}
    assert found["full body"] == accuracy_interval(correct[:12], films[:12])
    assert found["head"] == accuracy_interval(correct[12:], films[12:])
    fewer = scores.by_tag(keys, correct, ["one" if i < 4 else film for i, film in enumerate(films)])
    assert {row.value: row.interval for row in fewer if row.tag == "body"} == {**found, "full body": None}


def test_by_tag_of_other_data_is_empty():
    assert scores.by_tag(["run/one.avi"], np.array([True]), ["run/one"]) == ()
