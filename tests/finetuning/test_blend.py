import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from har_cache.finetuning.blend import blend_weights


def network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    made = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    made(torch.randn(5 + seed, 3))
    return made


START, TUNED = network(0).state_dict(), network(1).state_dict()


@given(st.floats(0.01, 1))
def test_weights_and_running_statistics_are_as_far_between_the_ends_as_is_asked_for(share: float) -> None:
    blend = blend_weights(START, TUNED, share)
    assert list(blend) == list(START)
    for name in ("0.weight", "0.bias", "1.weight", "1.running_mean", "1.running_var"):
        expected = (1 - share) * START[name].double() + share * TUNED[name].double()
        torch.testing.assert_close(blend[name].double(), expected, rtol=1e-5, atol=1e-6)
    assert not torch.equal(blend["1.running_mean"], START["1.running_mean"])
    network(2).load_state_dict(blend, strict=True)


def test_at_1_they_are_the_tuned_ones_to_the_bit() -> None:
    blend = blend_weights(START, TUNED, 1.0)
    assert all(torch.equal(blend[name], value) for name, value in TUNED.items())


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 1.0])
def test_what_did_not_learn_stays_to_the_bit(share: float) -> None:
    blend = blend_weights(START, START, share)
    assert all(torch.equal(blend[name], value) for name, value in START.items())


def test_whole_numbers_are_the_start_s_and_nothing_is_shared_with_it() -> None:
    tuned = {**TUNED, "1.num_batches_tracked": torch.tensor(7)}
    blend = blend_weights(START, tuned, 0.5)
    assert blend["1.num_batches_tracked"] == 1
    blend["1.num_batches_tracked"].fill_(9)
    blend["0.weight"].fill_(9.0)
    assert START["1.num_batches_tracked"] == 1 and not (START["0.weight"] == 9).any()
