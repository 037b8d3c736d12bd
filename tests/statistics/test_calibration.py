import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from har_cache.statistics.calibration import (
    TEMPERATURES,
    calibration_error,
    confidence_error,
    fit_temperature,
    mean_loss,
    reliability,
    tempered,
)


def _drawn(seed: int, clips: int, classes: int, sharpness: float) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of models that are `sharpness` times too sure, and the classes that came of the right ones."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.standard_normal((clips, classes))
    right = tempered(np.exp(logits), 1)
    labels = np.array([rng.choice(classes, p=row) for row in right])
    return tempered(right, 1 / sharpness), labels


def test_the_temperature_of_two_classes_is_what_a_formula_gives() -> None:
    # Always 90% sure and right 3 times of 4: 9 ** (1 / T) must be 3.
    probabilities = np.tile([0.9, 0.1], (4, 1))
    assert fit_temperature(probabilities, np.array([0, 0, 0, 1])) == pytest.approx(2)


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 3.0])
def test_the_temperature_finds_how_much_too_sure_a_model_is(sharpness: float) -> None:
    probabilities, labels = _drawn(0, 4000, 5, sharpness)
    assert fit_temperature(probabilities, labels) == pytest.approx(sharpness, rel=0.06)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 999), st.integers(1, 60), st.integers(2, 6), st.floats(0.2, 5))
def test_no_other_temperature_has_a_lower_loss_and_no_prediction_changes(
    seed: int, clips: int, classes: int, sharpness: float
) -> None:
    probabilities, labels = _drawn(seed, clips, classes, sharpness)
    fitted = fit_temperature(probabilities, labels)
    assert TEMPERATURES[0] * 0.999 <= fitted <= TEMPERATURES[1] * 1.001
    found = tempered(probabilities, fitted)
    least = min(mean_loss(tempered(probabilities, other), labels) for other in np.geomspace(*TEMPERATURES, 200))
    assert mean_loss(found, labels) <= least + 1e-9
    assert (found.argmax(1) == probabilities.argmax(1)).all()
    assert found.sum(1) == pytest.approx(1)


def test_clips_that_are_all_right_or_all_wrong_end_at_a_bound() -> None:
    probabilities = np.array([[0.7, 0.3], [0.6, 0.4]], np.float32)
    assert fit_temperature(probabilities, np.array([0, 0])) == pytest.approx(TEMPERATURES[0])
    assert fit_temperature(probabilities, np.array([1, 1])) == pytest.approx(TEMPERATURES[1])


def test_a_probability_of_0_for_the_true_class_is_bounded() -> None:
    probabilities = np.array([[1, 0], [1, 0], [1, 0]], np.float32)
    fitted = fit_temperature(probabilities, np.array([0, 0, 1]))
    assert tempered(probabilities, fitted)[0, 0] == pytest.approx(1, abs=0.02)
    assert fitted == pytest.approx(TEMPERATURES[1])


def test_without_clips_the_temperature_is_1_and_there_is_no_calibration_error() -> None:
    nothing = np.zeros((0, 3)), np.zeros(0, int)
    assert fit_temperature(*nothing) == 1
    with pytest.raises(ValueError, match="no clip"):
        calibration_error(*nothing)


def test_the_loss_by_hand() -> None:
    probabilities = np.array([[0.5, 0.5], [0.2, 0.8]])
    assert mean_loss(probabilities, np.array([0, 1])) == pytest.approx((np.log(2) - np.log(0.8)) / 2)
    assert 80 < mean_loss(np.array([[1.0, 0.0]]), np.array([1])) < 100


def test_the_calibration_error_by_hand() -> None:
    # Two clips 0.90 sure, one of them right: 0.4 too sure. Two 0.61 sure, both right: 0.39 not sure enough.
    probabilities = np.array([[0.9, 0.1], [0.1, 0.9], [0.61, 0.39], [0.39, 0.61]])
    assert calibration_error(probabilities, np.array([0, 0, 0, 1])) == pytest.approx((2 * 0.4 + 2 * 0.39) / 4)


def test_clips_of_one_bin_make_up_for_each_other() -> None:
    probabilities = np.tile([0.75, 0.25], (4, 1))
    assert calibration_error(probabilities, np.array([0, 0, 0, 1])) == 0


def test_a_model_that_is_certain_is_in_the_last_bin() -> None:
    assert calibration_error(np.eye(2), np.array([0, 1])) == 0
    assert calibration_error(np.eye(2), np.array([1, 0])) == 1


@given(st.integers(0, 999), st.integers(1, 40), st.floats(0.2, 5))
@settings(max_examples=40, deadline=None)
def test_the_calibration_error_is_a_share_and_no_less_than_the_mean_surplus(
    seed: int, clips: int, sharpness: float
) -> None:
    probabilities, labels = _drawn(seed, clips, 4, sharpness)
    surplus = abs(probabilities.max(1).mean() - (probabilities.argmax(1) == labels).mean())
    assert surplus - 1e-9 <= calibration_error(probabilities, labels) <= 1


def test_bins_tell_how_far_probability_is_from_accuracy():
    confidence, correct = np.array([0.05, 0.95, 0.97, 1.0]), np.array([False, True, False, True])
    low, high = reliability(confidence, correct)
    assert (low.clips, low.confidence, low.accuracy, low.low) == (1, 0.05, 0.0, 0.0)
    assert (high.clips, high.accuracy, high.high) == (3, pytest.approx(2 / 3), 1.0)
    surplus = sum(each.clips * abs(each.confidence - each.accuracy) for each in (low, high)) / 4
    assert surplus == pytest.approx(confidence_error(confidence, correct))
