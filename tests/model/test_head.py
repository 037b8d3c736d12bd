import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from har_cache.encoder.weights import random_model
from har_cache.errors import HarCacheError
from har_cache.model.head import Head
from har_cache.model.network import CNNBidirectionalRNN
from har_cache.settings.names import CELLS
from har_cache.settings.training import HeadSettings

lengths_of_clips = st.lists(st.integers(1, 12), min_size=1, max_size=4)


def make_head(cell: str = "gru", layers: int = 1, classes: int = 5) -> Head:
    torch.manual_seed(0)
    mean, std = torch.randn(256), torch.rand(256) + 0.5
    return Head(classes, HeadSettings(cell=cell, hidden=8, layers=layers, width=12), mean, std).eval()


def padded(lengths: list[int], steps: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """The same clips for every `steps`, and a mask; large numbers where the mask is false."""
    mask = torch.arange(steps) < torch.tensor(lengths)[:, None]
    x = torch.full((len(lengths), steps, 256), 1e3)
    for i, n in enumerate(lengths):
        x[i, :n] = torch.randn(n, 256, generator=torch.Generator().manual_seed(seed + i))
    return x.half(), mask


@pytest.mark.parametrize(("cell", "layers"), list(itertools.product(CELLS, (1, 2))))
@given(lengths=lengths_of_clips, more=st.integers(1, 9))
def test_extra_padding_changes_no_logit(cell: str, layers: int, lengths: list[int], more: int) -> None:
    head = make_head(cell, layers)
    with torch.no_grad():
        short = head(*padded(lengths, max(lengths)))
        long = head(*padded(lengths, max(lengths) + more))
        alone = torch.cat([head(*padded([n], n, seed=i)) for i, n in enumerate(lengths)])
    torch.testing.assert_close(long, short, rtol=0, atol=1e-5)
    torch.testing.assert_close(alone, short, rtol=0, atol=1e-5)


@given(lengths=lengths_of_clips)
def test_no_gradient_comes_from_padding(lengths: list[int]) -> None:
    x, mask = padded(lengths, 12)
    x = x.float().requires_grad_()
    make_head()(x, mask).square().sum().backward()
    assert x.grad is not None and (x.grad[~mask] == 0).all() and x.grad[mask].abs().sum() > 0


def test_order_matters() -> None:
    x, mask = padded([9, 4], 9)
    turned = x.clone()
    turned[0] = x[0].flip(0)
    turned[1, :4] = x[1, :4].flip(0)
    head = make_head()
    with torch.no_grad():
        assert ((head(x, mask) - head(turned, mask)).abs().amax(1) > 1e-3).all()


def test_embeddings_are_standardised_with_what_was_given() -> None:
    x, mask = padded([5], 5)
    head = make_head()
    plain = Head(5, HeadSettings(hidden=8, width=12)).eval()
    plain.load_state_dict({**head.state_dict(), "mean": torch.zeros(256), "std": torch.ones(256)})
    with torch.no_grad():
        torch.testing.assert_close(plain((x - head.mean) / head.std, mask), head(x.float(), mask), rtol=0, atol=1e-4)


def test_a_dimension_that_never_changes_does_no_harm() -> None:
    head = Head(3, HeadSettings(), torch.zeros(256), torch.zeros(256)).eval()
    assert head(*padded([5], 5)).isfinite().all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (HeadSettings(cell="gpu"), "--cell gpu: expected one of gru, lstm, rnn, conv"),
        (HeadSettings(hidden=0), "--hidden 0: expected at least 1"),
        (HeadSettings(layers=0), "--layers 0"),
        (HeadSettings(dropout=1.0), "--dropout 1.0"),
    ],
)
def test_settings_that_make_no_sense_are_named(settings: HeadSettings, message: str) -> None:
    with pytest.raises(HarCacheError, match=message):
        settings.check()


def test_encoder_and_head_in_one_give_the_head_s_logits_of_the_embeddings() -> None:
    model = CNNBidirectionalRNN(random_model(0), make_head()).eval()
    frames = torch.randn(2, 3, 3, 224, 224)
    mask = torch.tensor([[True, True, True], [True, True, False]])
    with torch.no_grad():
        embeddings = torch.stack([model.encoder(clip) for clip in frames])
        torch.testing.assert_close(model(frames, mask), model.head(embeddings, mask), rtol=1e-3, atol=1e-4)


def test_training_shows_some_clips_one_of_movement_and_appearance_alone() -> None:
    head = Head(5, HeadSettings(dropout=0, channel_dropout=0, input_dropout=0, appearance_dropout=0))
    x, mask = padded([6] * 200, 6)
    x[:] = x[:1]
    torch.manual_seed(0)
    with torch.no_grad():
        both = head.eval()(x, mask)[0]
        appearance = head.appearance((x.float().mean(1)[:1] - head.mean) / head.std)[0]
        logits = head.train()(x, mask)
    kinds = [(logits - kind).abs().amax(1) < 1e-4 for kind in (both, appearance, both - appearance)]
    assert torch.stack(kinds).sum(0).eq(1).all()
    assert [int(kind.sum()) for kind in kinds] == pytest.approx([80, 40, 80], abs=25)


def test_a_clip_that_does_not_move_is_told_by_its_appearance() -> None:
    x, mask = padded([6], 6)
    x[:] = x[:, :1]
    head = make_head()
    with torch.no_grad():
        still = head(x, mask) - head(x + 1, mask)
        seen = head.appearance((x[:, 0].float() - head.mean) / head.std)
        other = head.appearance((x[:, 0].float() + 1 - head.mean) / head.std)
    torch.testing.assert_close(still, seen - other, rtol=0, atol=1e-3)
