import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from har_cache.comparison.variants import (
    OneBranch,
    Variant,
    backwards,
    branch_names,
    middle_frame,
    one_way,
    shuffled,
    variants,
)
from har_cache.model.ensemble import HeadEnsemble
from har_cache.model.head import Head
from har_cache.settings.training import HeadSettings
from har_cache.training.batches import Sequences
from har_cache.training.inference import probabilities

LENGTHS = [7, 30, 1, 12]
KEYS = ["a/0.avi", "a/1.avi", "b/2.avi", "b/3.avi"]
CLIPS = np.array([3, 0, 2, 1])


def head(seed: int = 0) -> Head:
    torch.manual_seed(seed)
    return Head(3, HeadSettings(hidden=8, width=8)).eval()


@pytest.fixture
def sequences() -> Sequences:
    torch.manual_seed(0)
    embeddings = torch.randn(2, sum(LENGTHS), 256).half()
    return Sequences(embeddings, torch.tensor([0, *np.cumsum(LENGTHS)]), torch.tensor([0, 0, 1, 1]))


def keys(clips: np.ndarray) -> list[str]:
    return [KEYS[i] for i in clips]


def found(variant: Variant, sequences: Sequences, clips: np.ndarray = CLIPS) -> np.ndarray:
    return variant.probabilities(sequences, clips, keys(clips))


@given(st.lists(st.integers(1, 9), min_size=1, max_size=4), st.integers(0, 99))
def test_orders_take_frames_and_nothing_else(lengths: list[int], seed: int) -> None:
    steps = torch.arange(9).expand(len(lengths), 9)
    mask = steps < torch.tensor(lengths)[:, None]
    noise = torch.from_numpy(np.random.default_rng(seed).random(mask.shape))
    for row, length in enumerate(lengths):
        assert backwards(mask, noise)[row, :length].tolist() == [*range(length)][::-1]
        assert sorted(shuffled(mask, noise)[row, :length].tolist()) == [*range(length)]


def test_the_model_as_it_is_gives_what_evaluation_gives(sequences: Sequences) -> None:
    model = head()
    assert (found(Variant("", model, 6), sequences) == probabilities(model, sequences, CLIPS, 6)).all()


def test_all_variants_by_name_and_none_twice() -> None:
    names = [variant.name for variant in variants(head(), 16)]
    assert names == [
        *("as it is", "order reversed", "order shuffled", "one frame, repeated"),
        *("movement alone", "appearance alone"),
        *("1 frame", "2 frames", "4 frames", "8 frames", "32 frames", "one way"),
    ]
    assert "32 frames" not in [variant.name for variant in variants(head(), 32)]


def test_reversed_frames_of_a_reversed_clip_are_the_clip(sequences: Sequences) -> None:
    """All frames are taken, so the ways differ in views alone."""
    turned = torch.cat([part.flip(1) for part in sequences.embeddings.split(LENGTHS, 1)], 1)
    back = Sequences(turned, sequences.offsets, sequences.labels)
    model = head()
    expected = found(Variant("", model, 30), sequences)
    assert found(Variant("", model, 30, backwards), back) == pytest.approx(expected, abs=1e-6)
    assert np.abs(found(Variant("", model, 30, backwards), sequences) - expected).max() > 0.01


def test_the_order_of_a_clip_depends_on_its_key_alone(sequences: Sequences) -> None:
    variant = Variant("", head(), 6, shuffled)
    together = found(variant, sequences)
    for row, clip in enumerate(CLIPS):
        assert found(variant, sequences, np.array([clip])) == pytest.approx(together[row : row + 1], abs=1e-6)
    other = variant.probabilities(sequences, CLIPS, [f"{key}?" for key in keys(CLIPS)])
    assert np.abs(other - together).max() > 1e-4


def test_one_frame_repeated_is_the_appearance_of_that_frame(sequences: Sequences) -> None:
    """Movement is the same for all clips: nothing moves."""
    model, frames = head(), 5
    middles = sequences.offsets[:-1] + torch.tensor(LENGTHS) // 2
    shown = sequences.embeddings[:, middles[torch.from_numpy(CLIPS)]].flatten(0, 1)[:, None]  # (views * clips, 1, 256)
    with torch.inference_mode():
        nothing = model.branches(torch.zeros(1, frames, 256), torch.ones(1, frames, dtype=torch.bool))["movement"]
        appearance = model.branches(shown, torch.ones(len(shown), 1, dtype=torch.bool))["appearance"]
        expected = (nothing + appearance).softmax(1).unflatten(0, (-1, len(CLIPS))).mean(0)
    repeated = Variant("", model, frames, take=middle_frame)
    assert found(repeated, sequences) == pytest.approx(expected, abs=1e-5)
    for batch in middle_frame(sequences, CLIPS, frames):
        assert batch.mask.all() and (batch.inputs == batch.inputs[:, :1]).all()


def test_one_way_is_the_centred_frames_of_the_first_view(sequences: Sequences) -> None:
    model = head()
    batch = sequences.eval_batch(torch.from_numpy(CLIPS), 4)
    with torch.inference_mode():
        expected = model(batch.inputs, batch.mask).softmax(1)
    assert found(Variant("", model, 4, take=one_way), sequences) == pytest.approx(expected, abs=1e-6)


def test_branches_add_up_and_each_stands_alone(sequences: Sequences) -> None:
    model = head()
    batch = sequences.eval_batch(torch.from_numpy(CLIPS), 6)
    assert branch_names(model) == ["movement", "appearance"]
    with torch.inference_mode():
        each = model.branches(batch.inputs, batch.mask)
        assert model(batch.inputs, batch.mask) == pytest.approx(sum(each.values()), abs=1e-6)
        for name, logits in each.items():
            alone = OneBranch(model, name)(batch.inputs, batch.mask)
            assert alone.softmax(1) == pytest.approx(logits.softmax(1), abs=1e-6)


def test_of_several_heads_the_branch_is_averaged(sequences: Sequences) -> None:
    one, two = head(0), head(1)
    both = HeadEnsemble((one, two), temperature=2.0)
    batch = sequences.eval_batch(torch.from_numpy(CLIPS), 6)
    assert branch_names(both) == ["movement", "appearance"]
    with torch.inference_mode():
        expected = sum(each.branches(batch.inputs, batch.mask)["movement"].div(2).softmax(1) for each in (one, two)) / 2
        assert OneBranch(both, "movement")(batch.inputs, batch.mask).softmax(1) == pytest.approx(expected, abs=1e-6)
    assert len(variants(both, 16)) == len(variants(one, 16))
    assert found(variants(both, 16)[0], sequences).shape == (4, 3)
