import pytest
import torch
from hypothesis import given

from har_cache.model.temporal import RNNS, BidirectionalRNN, DilatedConvolutions

from .test_head import lengths_of_clips, padded


@pytest.mark.parametrize("cell", RNNS)
@given(lengths=lengths_of_clips)
def test_a_layer_is_the_bidirectional_one_of_torch(cell: str, lengths: list[int]) -> None:
    ours = BidirectionalRNN(cell, 6, 4)
    theirs = {"gru": torch.nn.GRU, "lstm": torch.nn.LSTM, "rnn": torch.nn.RNN}[cell](
        6, 4, batch_first=True, bidirectional=True
    )
    state = dict(ours.forwards.state_dict().items())
    state |= {f"{k}_reverse": v for k, v in ours.backwards.state_dict().items()}
    theirs.load_state_dict(state)
    x, mask = padded(lengths, max(lengths))
    x = x[:, :, :6].float()
    packed = torch.nn.utils.rnn.pack_padded_sequence(x, mask.sum(1), batch_first=True, enforce_sorted=False)
    with torch.no_grad():
        expected = torch.nn.utils.rnn.pad_packed_sequence(theirs(packed)[0], batch_first=True)[0]
        found = ours(x, mask)
    torch.testing.assert_close(found[mask], expected[mask])


def test_convolutions_reach_seven_frames_on_both_sides_and_no_further() -> None:
    torch.manual_seed(0)
    layer = DilatedConvolutions(6, 4)
    x, mask = torch.randn(1, 30, 6), torch.ones(1, 30, dtype=torch.bool)
    changed = x.clone()
    changed[0, 15] += 1
    with torch.no_grad():
        moved = (layer(x, mask) - layer(changed, mask)).abs().amax(2)[0]
    assert moved.shape == (30,) and (moved > 1e-6).nonzero()[:, 0].tolist() == list(range(8, 23))
