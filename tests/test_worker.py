import hashlib
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import calibrated_model
from videos import moving_frames, reference_frames, write_video

from har_cache import worker
from har_cache.encoder import CPU_BATCH, Encoder
from har_cache.errors import ClipError
from har_cache.executors.workers import Workers
from har_cache.fused import fold
from har_cache.transform import crop
from har_cache.worker import Embedded, Job, embed, features, sample


@pytest.fixture(scope="module")
def pool() -> Iterator[Workers]:
    with Workers(Job("pyav", fold(calibrated_model()), "fp32", ("center", "flip")), 1) as workers:
        yield workers


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("clips") / "clip.avi", moving_frames(37, 320, 240))


def call(pool: Workers, function: Any, *args: Any) -> Any:
    return pool.outcome(pool.schedule(function, *args))


def limits() -> tuple[int, int]:
    return torch.get_num_threads(), resource.getrlimit(resource.RLIMIT_AS)[0]


def crops_of(path: Path) -> torch.Tensor:
    return crop(torch.from_numpy(reference_frames(path)))


def test_embedding_covers_every_frame_in_every_view(pool: Workers, clip: Path) -> None:
    done = call(pool, embed, clip)
    assert isinstance(done, Embedded)
    assert done.embeddings.dtype == np.float16 and done.embeddings.shape == (2, 37, 256)
    expected = Encoder(fold(calibrated_model()), "fp32", ("center", "flip"))(crops_of(clip))
    np.testing.assert_allclose(done.embeddings, expected.numpy(), rtol=2e-3, atol=2e-3)


def test_embedding_tells_what_is_known_of_the_file(pool: Workers, clip: Path) -> None:
    done = call(pool, embed, clip)
    assert (done.fps, done.declared_frames) == (30.0, 37)
    assert done.source_sha256 == hashlib.sha256(clip.read_bytes()).hexdigest()
    assert set(done.seconds) == {"decode", "transform", "encode"}
    assert min(done.seconds.values()) > 0


def test_a_clip_that_cannot_be_decoded_is_a_clip_error(pool: Workers, tmp_path: Path) -> None:
    (tmp_path / "empty.avi").touch()
    assert isinstance(call(pool, embed, tmp_path / "empty.avi"), ClipError)
    assert str(call(pool, embed, tmp_path / "empty.avi")) == "empty file"
    assert str(call(pool, sample, tmp_path / "empty.avi", 3)) == "empty file"


@pytest.mark.parametrize(("count", "chosen"), [(1, [18]), (2, [9, 27]), (5, [3, 11, 18, 25, 33])])
def test_sampled_frames_are_spread_evenly(pool: Workers, clip: Path, count: int, chosen: list[int]) -> None:
    np.testing.assert_array_equal(call(pool, sample, clip, count), crops_of(clip)[chosen].to(torch.uint8))


@pytest.mark.parametrize("count", [37, 38, 500])
def test_all_frames_are_sampled_where_there_are_no_more(pool: Workers, clip: Path, count: int) -> None:
    np.testing.assert_array_equal(call(pool, sample, clip, count), crops_of(clip).to(torch.uint8))


@pytest.mark.parametrize("name", ["clip.mkv", "clip.webm"])
def test_a_short_clip_that_declares_no_frames_is_sampled_all_over(pool: Workers, tmp_path: Path, name: str) -> None:
    codec = {"clip.mkv": "libx264", "clip.webm": "libvpx-vp9"}[name]
    path = write_video(tmp_path / name, moving_frames(9), codec)
    assert worker.probe(path).declared_frames is None
    np.testing.assert_array_equal(call(pool, sample, path, 3), crops_of(path)[[1, 4, 7]].to(torch.uint8))


def test_features_are_those_of_the_sampled_frames(pool: Workers, clip: Path) -> None:
    expected = Encoder(fold(calibrated_model())).features(crops_of(clip))
    np.testing.assert_allclose(call(pool, features, clip, 100), expected, rtol=1e-4, atol=1e-4)


def test_a_worker_uses_one_thread_and_bounded_memory(pool: Workers) -> None:
    threads, address_space = call(pool, limits)
    assert threads == 1
    assert 2 << 30 < address_space < 64 << 30


def test_no_file_has_no_sha256(tmp_path: Path) -> None:
    assert worker.source_sha256(tmp_path / "nothing.avi") == ""


@settings(max_examples=30)
@given(st.integers(1, 40), st.sampled_from([1, 2, 4, 8, 16]))
def test_batches_do_not_depend_on_chunks(frames: int, size: int) -> None:
    video = np.broadcast_to(np.arange(frames, dtype=np.uint8)[:, None, None, None], (frames, 256, 256, 3)).copy()
    chunks = iter([video[i : i + size] for i in range(0, frames, size)])
    batches = [batch[:, 0, 0, 0].tolist() for batch in worker.batches(chunks, worker.Stopwatch())]
    assert [len(batch) for batch in batches[:-1]] == [CPU_BATCH] * (len(batches) - 1)
    assert [frame for batch in batches for frame in batch] == list(range(frames))


@given(st.integers(1, 3 * 8192 * 8192))
def test_chunks_are_bounded(frame_bytes: int) -> None:
    size = worker._chunk_size(frame_bytes)
    assert size * frame_bytes <= 32 << 20 or size == 1
    assert CPU_BATCH % size == 0


@given(st.integers(1, 2000), st.integers(1, 2000))
def test_a_spread_is_as_many_distinct_frames_as_asked_for(frames: int, count: int) -> None:
    chosen = worker._spread(frames, count)
    assert len(set(chosen)) == len(chosen) == min(count, frames, 1000)
    assert chosen == sorted(chosen) and chosen[0] >= 0 and chosen[-1] < frames
