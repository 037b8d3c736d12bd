import pytest
import torch

from har_cache.training.averaging import averaging


def test_the_average_forgets_fast_at_first() -> None:
    [average] = averaging(0.9, "cpu")
    kept = []
    for step in (0, 9, 5000):
        assert average.should_update(step_idx=step) and not average.should_update(epoch_idx=1)  # type: ignore[attr-defined]
        weights = [torch.ones(3)]
        average._average(weights, [torch.zeros(3)], None)  # type: ignore[attr-defined]
        kept.append(float(weights[0][0]))
    assert kept == pytest.approx([0.1, 10 / 19, 0.9])


def test_averaging_can_be_left_out() -> None:
    assert averaging(0.0, "cpu") == [] and len(averaging(0.9, "cpu")) == 1
