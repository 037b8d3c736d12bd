from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from har_cache.cache.reader import FeatureCache
from har_cache.errors import HarCacheError
from har_cache.training.batches import Batch, Sequences, TrainBatches, derive_seed, draw_frames

from ..helpers.caches import random_embeddings, write_cache


def numbered(lengths: list[int], views: int = 1) -> Sequences:
    """Sequences whose every embedding is (clip, frame, view, 0, ...)."""
    rows = [[i, t] for i, n in enumerate(lengths) for t in range(n)]
    embeddings = torch.zeros(views, len(rows), 256, dtype=torch.float16)
    embeddings[:, :, :2] = torch.tensor(rows, dtype=torch.float16)
    embeddings[:, :, 2] = torch.arange(views)[:, None]
    return Sequences(embeddings, torch.tensor([0, *np.cumsum(lengths)]), torch.arange(len(lengths)) % 3)


def drawn(batch: Batch, clip: int) -> list[int]:
    """The frames of a clip that are in the batch; all of them are the clip's own."""
    rows = batch.inputs[clip][batch.mask[clip]]
    assert (rows[:, 0] == rows[0, 0]).all()
    return [int(t) for t in rows[:, 1]]


clip_lengths = st.lists(st.integers(1, 70), min_size=1, max_size=6)


@given(clip_lengths, st.integers(1, 40), st.integers(0, 2**32))
def test_training_takes_one_frame_of_each_segment(lengths: list[int], frames: int, seed: int) -> None:
    sequences = numbered(lengths)
    generator = torch.Generator().manual_seed(seed)
    jitter = torch.rand(len(lengths), frames, generator=generator)
    clips = torch.arange(len(lengths))
    batch = sequences.train_batch(clips, frames, jitter, torch.zeros_like(clips), torch.zeros(len(lengths), 2))
    assert batch.inputs.shape == (len(lengths), frames, 256)
    for clip, length in enumerate(lengths):
        n = min(length, frames)
        assert batch.mask[clip].tolist() == [True] * n + [False] * (frames - n)
        taken = drawn(batch, clip)
        assert taken == sorted(set(taken))
        assert all(j * length // n <= t < (j + 1) * length // n for j, t in enumerate(taken))


@given(clip_lengths, st.integers(1, 40), st.integers(0, 2**32))
def test_training_leaves_out_ends_of_clips_but_never_a_frame_that_it_needs(
    lengths: list[int], frames: int, seed: int
) -> None:
    sequences = numbered(lengths)
    generator = torch.Generator().manual_seed(seed)
    jitter = torch.rand(len(lengths), frames, generator=generator)
    trim = torch.rand(len(lengths), 2, generator=generator)
    clips = torch.arange(len(lengths))
    batch = sequences.train_batch(clips, frames, jitter, torch.zeros_like(clips), trim)
    for clip, length in enumerate(lengths):
        taken = drawn(batch, clip)
        assert len(taken) == min(length, frames) and taken == sorted(set(taken))
        assert taken[0] >= 0 and taken[-1] < length


def test_training_looks_at_all_of_a_clip_in_the_end() -> None:
    sequences, n = numbered([100]), 3000
    generator = torch.Generator().manual_seed(0)
    clips = torch.zeros(n, dtype=torch.long)
    jitter, trim = torch.rand(n, 4, generator=generator), torch.rand(n, 2, generator=generator)
    batch = sequences.train_batch(clips, 4, jitter, clips, trim)
    taken = [drawn(batch, i) for i in range(n)]
    assert {t for frames in taken for t in frames} == set(range(100))
    assert min(frames[3] for frames in taken) < 75  # it would be in the last quarter of the whole


@given(clip_lengths, st.integers(1, 40))
def test_clips_of_fewer_frames_are_taken_whole_whatever_the_place(lengths: list[int], frames: int) -> None:
    sequences = numbered(lengths)
    for place in (0.0, 1 / 6, 0.5, 0.999):
        batch = sequences.eval_batch(torch.arange(len(lengths)), frames, place)
        for clip, length in enumerate(lengths):
            if length <= frames:
                assert drawn(batch, clip) == list(range(length))


def test_evaluation_takes_the_centre_of_each_segment() -> None:
    batch = numbered([40]).eval_batch(torch.tensor([0]), 4)
    assert drawn(batch, 0) == [5, 15, 25, 35]


def test_every_frame_is_drawn_in_time() -> None:
    sequences = numbered([23])
    batches = TrainBatches(sequences, np.array([0]), frames=5, batch_size=1, seed=0)
    seen: set[int] = set()
    for batches.epoch in range(100):
        seen.update(drawn(next(iter(batches)), 0))
    assert seen == set(range(23))


def test_the_last_frame_of_a_very_long_clip_is_exact() -> None:
    n = 3_000_001
    frames = draw_frames(torch.tensor([n]), 300_000, torch.tensor(0.999999))[0]
    assert frames[0, -1] == n - 1


def test_an_epoch_holds_every_clip_once_in_an_order_of_its_own() -> None:
    sequences = numbered([3] * 20)
    clips = np.array([1, 4, 5, 9, 12, 17, 19])
    batches = TrainBatches(sequences, clips, frames=2, batch_size=3, seed=7)
    orders = []
    for batches.epoch in range(3):
        found = list(batches)
        assert [len(batch.labels) for batch in found] == [3, 3, 1] and len(batches) == 3
        orders.append([int(batch.inputs[i, 0, 0]) for batch in found for i in range(len(batch.labels))])
    assert all(sorted(order) == clips.tolist() for order in orders)
    assert len({tuple(order) for order in orders}) == 3


def test_what_an_epoch_holds_depends_on_seed_and_epoch_alone() -> None:
    sequences = numbered([30] * 8, views=2)

    def epoch(seed: int, number: int) -> torch.Tensor:
        batches = TrainBatches(sequences, np.arange(8), frames=4, batch_size=3, seed=seed)
        batches.epoch = number
        torch.rand(number + seed)  # whatever else draws random numbers
        return torch.cat([batch.inputs for batch in batches])

    assert torch.equal(epoch(0, 5), epoch(0, 5))
    assert not torch.equal(epoch(0, 5), epoch(0, 6))
    assert not torch.equal(epoch(0, 5), epoch(1, 5))
    assert derive_seed(0, 1) != derive_seed(1, 0)


def test_training_mixes_the_views_and_evaluation_takes_the_first() -> None:
    sequences = numbered([4] * 50, views=2)
    batches = TrainBatches(sequences, np.arange(50), frames=4, batch_size=50, seed=0)
    views = next(iter(batches)).inputs[:, :, 2]
    assert (views == views[:, :1]).all() and 10 < views[:, 0].sum() < 40
    assert all((batch.inputs[:, :, 2] == 0).all() for batch in sequences.eval_batches(np.arange(50), 4, 16))


def test_a_test_takes_the_middles_of_the_thirds_of_each_segment_in_each_view() -> None:
    sequences, clips = numbered([40, 3, 24], views=2), np.array([2, 0])
    [batch] = sequences.test_batches(clips, 4)
    assert batch.labels.tolist() == [2, 0] and batch.inputs.shape == (12, 4, 256) and batch.mask.all()
    seen = [(int(row[0, 0]), int(row[0, 2]), row[:, 1].int().tolist()) for row in batch.inputs]
    first = {0: (1, 5, 8), 2: (1, 3, 5)}  # of segments of 10 and of 6 frames
    assert seen == [
        (clip, view, [first[clip][place] + step * (10 if clip == 0 else 6) for step in range(4)])
        for place in range(3)
        for view in range(2)
        for clip in (2, 0)
    ]
    assert [len(batch.labels) for batch in sequences.test_batches(np.zeros(70, int), 4)] == [32, 32, 6]


def test_moments_are_those_of_the_clips_asked_for() -> None:
    sequences = numbered([3, 5, 4], views=2)
    short, long = sequences.embeddings[:, 0:3], sequences.embeddings[:, 8:12]
    # Each clip as often as the other has frames.
    rows = torch.cat([short.repeat(1, 4, 1), long.repeat(1, 3, 1)], 1).flatten(0, 1).double()
    mean, std = sequences.moments(torch.tensor([0, 2]))
    torch.testing.assert_close(mean.double(), rows.mean(0))
    torch.testing.assert_close(std.double(), rows.std(0, correction=0))


def test_moments_weigh_clips_alike() -> None:
    """A clip of zeros and one of twos, of nine times the frames: the mean is 1, and so is the deviation."""
    embeddings = torch.cat([torch.zeros(1, 1, 256), torch.full((1, 9, 256), 2.0)], 1).half()
    mean, std = Sequences(embeddings, torch.tensor([0, 1, 10]), torch.zeros(2, dtype=torch.int64)).moments(
        torch.tensor([0, 1])
    )
    assert (mean == 1).all() and (std == 1).all()


def test_a_cache_becomes_tensors(tmp_path: Path) -> None:
    lengths = {f"b/{i}.avi": 3 + i for i in range(5)} | {f"a/{i}.avi": 2 for i in range(4)}
    clips = random_embeddings(lengths, views=2)
    write_cache(tmp_path, clips, views=("center", "flip"))
    cache = FeatureCache(tmp_path)
    sequences = Sequences.from_cache(cache, "cpu")
    assert sequences.embeddings.dtype == torch.float16 and sequences.views == 2
    assert sequences.labels.tolist() == cache.labels.tolist()
    for i, key in enumerate(cache.clip_keys):
        rows = sequences.embeddings[:, sequences.offsets[i] : sequences.offsets[i + 1]]
        assert np.array_equal(rows.numpy(), clips[key])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_refused_by_the_name_of_its_clip(tmp_path: Path, value: float) -> None:
    clips = random_embeddings({f"a/{i}.avi": 4 for i in range(6)}, views=2)
    clips["a/3.avi"][1, 2, 100] = value
    write_cache(tmp_path, clips, views=("center", "flip"))
    with pytest.raises(HarCacheError, match=r"NaN or infinity in the embeddings of a/3\.avi"):
        Sequences.from_cache(FeatureCache(tmp_path), "cpu")
