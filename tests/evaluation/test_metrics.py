import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from har_cache.evaluation import metrics
from har_cache.evaluation.linear_probe import linear_on_mean

CLASSES = ("a", "b", "c")
TRUE = np.array([0, 0, 1, 1, 1, 2])
PROBABILITIES = np.array(
    [[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.8, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8], [0.2, 0.2, 0.6]], np.float32
)
PREDICTED = PROBABILITIES.argmax(1)


def test_scores_of_a_small_case_done_by_hand():
    scores = metrics.scores(TRUE, PROBABILITIES)
    assert scores["top1"] == pytest.approx(4 / 6)
    assert scores["top5"] == 1
    assert scores["loss"] == pytest.approx(-np.log([0.8, 0.1, 0.8, 0.8, 0.1, 0.6]).mean(), abs=1e-6)
    assert scores["macro_f1"] == pytest.approx(np.mean([2 / 3, 2 / 3, 2 / 3]))
    assert scores["mean_class_accuracy"] == pytest.approx(np.mean([1 / 2, 2 / 3, 1]))


def test_classes_without_clips_do_not_count():
    scores = metrics.scores(np.array([0, 0]), np.array([[0.6, 0.4, 0.0], [0.6, 0.4, 0.0]]))
    assert scores["mean_class_accuracy"] == scores["macro_f1"] == 1


@given(st.integers(0, 2**32 - 1), st.integers(6, 12))
def test_top5_is_a_hit_among_the_five_likeliest(seed, classes):
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.ones(classes), 20)
    true = rng.integers(0, classes, 20)
    better = (probabilities > probabilities[np.arange(20), true][:, None]).sum(1)
    assert metrics.scores(true, probabilities)["top5"] == (better < 5).mean()


def test_equal_probabilities_are_ranked_in_the_order_of_the_classes():
    assert metrics.ranked(np.full((1, 4), 0.25)).tolist() == [[0, 1, 2, 3]]


@given(st.lists(st.tuples(st.booleans(), st.sampled_from("abcdef")), min_size=1, max_size=60))
def test_an_interval_is_one_of_shares_and_the_same_every_time(clips):
    correct, sources = np.array([hit for hit, _ in clips]), [source for _, source in clips]
    found = metrics.interval(correct, sources)
    assert found == metrics.interval(correct, sources)
    if len(set(sources)) < 2:
        assert found is None
    else:
        assert 0 <= found[0] <= found[1] <= 1


def test_clips_of_one_source_count_as_one_draw():
    correct = np.repeat([True, False] * 10, 10)
    alone = metrics.interval(correct, [str(i) for i in range(200)])
    by_source = metrics.interval(correct, [str(i // 10) for i in range(200)])
    assert alone[0] < 0.5 < alone[1]
    assert by_source[1] - by_source[0] > 2 * (alone[1] - alone[0])


def test_all_right_is_not_taken_for_certainty():
    low, high = metrics.interval(np.ones(40, bool), [str(i // 4) for i in range(40)])
    assert high == 1
    assert low == pytest.approx(0.025 ** (1 / 10))
    assert metrics.interval(np.zeros(40, bool), [str(i // 4) for i in range(40)]) == pytest.approx((0, 1 - low))


def test_per_class_and_confused_pairs():
    matrix = metrics.confusions(TRUE, PREDICTED, 4)
    rows = {row["class"]: row for row in metrics.per_class(matrix, (*CLASSES, "never"))}
    assert rows["b"] == {
        "class": "b",
        "support": 3,
        "precision": pytest.approx(2 / 3),
        "recall": pytest.approx(2 / 3),
        "f1": pytest.approx(2 / 3),
        "mostly_taken_for": "c",
    }
    assert "never" not in rows
    pairs = metrics.confused_pairs(matrix, (*CLASSES, "never"))
    assert [(p["true"], p["predicted"], p["clips"], p["share"]) for p in pairs] == [
        ("a", "b", 1, 1 / 2),
        ("b", "c", 1, pytest.approx(1 / 3)),
    ]


def test_a_class_that_is_predicted_but_has_no_clip_has_no_recall():
    row = metrics.per_class(metrics.confusions(np.array([0]), np.array([1]), 2), ("a", "b"))[1]
    assert (row["support"], row["recall"], row["precision"]) == (0, None, 0)


def test_by_tag_has_each_clip_once_under_each_mark():
    keys = ["run/x_run_f_cm_np1_fr_med_0.avi", "run/x_run_u_nm_np2_fr_bad_1.avi", "run/untagged.avi"]
    rows = metrics.by_tag(keys, np.array([True, False, True]), ["x", "x", "y"])
    found = {(row["tag"], row["value"]): (row["clips"], row["top1"]) for row in rows}
    assert found["camera", "camera moves"] == (1, 1.0)
    assert found["viewpoint", "front"] == (2, 0.5)
    assert found["people", "2"] == (1, 0.0)
    assert all(sum(row["clips"] for row in rows if row["tag"] == tag) == 2 for tag in {row["tag"] for row in rows})


def test_by_tag_of_other_data_is_empty():
    assert metrics.by_tag(["run/one.avi"], np.array([True]), ["run/one"]) == []


def test_a_linear_classifier_finds_what_the_mean_holds():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 40)
    means = (np.eye(3)[labels] * 3 + rng.standard_normal((120, 3))).astype(np.float32)
    train, val, test = (np.flatnonzero(np.arange(120) % 4 == part) for part in (0, 1, 2))
    predicted, strength = linear_on_mean(means, labels, train, val, test)
    assert (predicted == labels[test]).mean() > 0.8
    assert strength > 0
    assert linear_on_mean(means, labels, train, val[:0], test) is not None
    assert linear_on_mean(means, labels, train[:5], val, test) is None
