import multiprocessing.context
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import har_cache
from har_cache import ClipDataset, FeatureCache

from ..helpers.caches import random_embeddings, write_cache

LENGTHS = {"jump/a.avi": 5, "jump/b.avi": 1, "sit/c.avi": 300, "sit/d.avi": 7, "wave/e.avi": 2}


@pytest.fixture(scope="module")
def embeddings() -> dict[str, np.ndarray]:
    return random_embeddings(LENGTHS, views=2)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory, embeddings: dict[str, np.ndarray]) -> FeatureCache:
    path = tmp_path_factory.mktemp("cache")
    write_cache(path, embeddings, views=("center", "flip"), shard_clips=2)
    return FeatureCache(path)


@pytest.fixture
def clips(cache: FeatureCache) -> ClipDataset:
    return ClipDataset(cache)


def same(clips: ClipDataset, embeddings: dict[str, np.ndarray], view: int = 0) -> bool:
    return all(np.array_equal(clips[i][0], embeddings[key][view]) for i, key in enumerate(clips.keys))


def test_each_clip_has_its_embeddings_and_its_label(clips: ClipDataset, embeddings: dict[str, np.ndarray]) -> None:
    assert clips.keys == tuple(LENGTHS) and len(clips) == 5
    assert same(clips, embeddings) and clips[0][0].dtype == torch.float16
    assert [clips[i][1] for i in range(5)] == clips.labels.tolist() == [0, 0, 1, 1, 2]
    assert repr(clips) == "ClipDataset(5 clips of 3 classes, 315 frames)"


def test_a_view_can_be_chosen(cache: FeatureCache, embeddings: dict[str, np.ndarray]) -> None:
    assert same(ClipDataset(cache.path, view="flip"), embeddings, 1)
    with pytest.raises(har_cache.HarCacheError, match=r"view='full': .* has center, flip"):
        ClipDataset(cache, view="full")


def test_what_is_given_is_the_callers_own(clips: ClipDataset, embeddings: dict[str, np.ndarray]) -> None:
    clips[0][0].zero_()
    assert same(clips, embeddings)


def test_a_subset_has_these_clips_in_this_order_in_the_same_memory(
    clips: ClipDataset, embeddings: dict[str, np.ndarray]
) -> None:
    some = clips.subset(["sit/d.avi", "jump/a.avi"])
    assert some.keys == ("sit/d.avi", "jump/a.avi") and some.labels.tolist() == [1, 0] and same(some, embeddings)
    assert some._rows is clips._rows
    assert some.subset(["jump/a.avi"]).keys == ("jump/a.avi",)
    with pytest.raises(KeyError, match="wave"):
        some.subset(["wave/e.avi"])
    assert len(clips.subset([])) == 0


def test_a_batch_is_padded_and_its_mask_says_where(clips: ClipDataset, embeddings: dict[str, np.ndarray]) -> None:
    batch, mask, labels = clips.collate([clips[0], clips[1], clips[3]])
    assert batch.shape == (3, 7, 256) and batch.dtype == torch.float32
    assert mask.sum(1).tolist() == [5, 1, 7] and labels.tolist() == [0, 0, 1]
    assert not batch[~mask].any() and np.array_equal(batch[0, :5], embeddings["jump/a.avi"][0].astype(np.float32))
    logits = har_cache.Head(3).eval()(batch, mask)
    assert logits.shape == (3, 3) and logits.isfinite().all()


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def for_another_process(value: Any) -> bytes:
    """As multiprocessing pickles what it gives to a process that it spawns."""
    multiprocessing.context.set_spawning_popen(object())
    try:
        return pickle.dumps(value)
    finally:
        multiprocessing.context.set_spawning_popen(None)


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="only Linux has such files")
def test_processes_that_are_spawned_read_the_same_memory(clips: ClipDataset, embeddings: dict[str, np.ndarray]) -> None:
    some = clips.subset(list(LENGTHS)[1:])
    sent = for_another_process((clips, some))
    whole, part = pickle.loads(sent)
    assert len(sent) < 10_000 and whole._rows is part._rows
    assert same(whole, embeddings) and same(part, embeddings) and same(clips, embeddings)
    again = pickle.loads(for_another_process(whole))
    clips._rows.array[0] = 3  # nobody does: to see that all of them see it
    assert [each._rows.array[0, 0] for each in (clips, whole, part, again)] == [3] * 4


def test_saved_to_a_file_it_is_a_copy(clips: ClipDataset, embeddings: dict[str, np.ndarray], tmp_path: Path) -> None:
    (tmp_path / "clips").write_bytes(pickle.dumps(clips))
    copy = pickle.loads((tmp_path / "clips").read_bytes())
    clips._rows.array[:] = 0
    assert same(copy, embeddings)


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="only Linux has such files")
def test_shared_memory_is_given_back_with_the_data_set(cache: FeatureCache) -> None:
    clips = ClipDataset(cache)
    before = open_files()
    for_another_process(clips)
    assert open_files() == before + 2  # the file, and its mapping's own
    del clips
    assert open_files() == before
