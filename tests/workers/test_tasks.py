import hashlib
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from har_cache.cache.record import ClipRecord, source_sha256
from har_cache.encoder.encoder import CPU_BATCH, Encoder
from har_cache.encoder.folded import fold
from har_cache.encoder.transform import pictures
from har_cache.errors import ClipError
from har_cache.workers import tasks as worker
from har_cache.workers.tasks import embed, embed_with_thumbnails, features, sample

from ..helpers.networks import calibrated_model
from ..helpers.videos import moving_frames, probe, reference_crops, reference_frames, write_video

VIEWS = ("center", "flip", "full")


def limits() -> tuple[int, int]:
    return torch.get_num_threads(), resource.getrlimit(resource.RLIMIT_AS)[0]


def test_embedding_covers_every_frame_in_every_view(in_worker: Callable[..., Any], moving_clip: Path) -> None:
    done = in_worker(embed, "a/1.avi", moving_clip)
    assert isinstance(done, ClipRecord)
    assert (done.key, done.frames) == ("a/1.avi", 37)
    assert done.embeddings is not None and done.embeddings.dtype == np.float16 and done.embeddings.shape == (3, 37, 256)
    frames = torch.from_numpy(reference_frames(moving_clip))
    expected = Encoder(fold(calibrated_model()), "fp32", VIEWS)(*pictures(frames, VIEWS))
    np.testing.assert_allclose(done.embeddings, expected.numpy(), rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize(("width", "height"), [(2, 4000), (4000, 2), (8192, 8), (8, 8192)])
def test_the_thinnest_clips_are_embedded_and_pictured(
    in_worker: Callable[..., Any], tmp_path: Path, width: int, height: int
) -> None:
    path = write_video(tmp_path / "clip.avi", moving_frames(3, width, height), "rawvideo")
    done, jpegs = in_worker(embed_with_thumbnails, "a/1.avi", path, 64, 100)
    assert done.embeddings.shape == (3, 3, 256)
    assert len(jpegs) == 3 and max(map(len, jpegs.values())) < 10_000


def test_thumbnails_are_of_the_frames_that_are_embedded(in_worker: Callable[..., Any], moving_clip: Path) -> None:
    done, jpegs = in_worker(embed_with_thumbnails, "a/1.avi", moving_clip, 64, 100)
    np.testing.assert_array_equal(done.embeddings, in_worker(embed, "a/1.avi", moving_clip).embeddings)
    assert list(jpegs) == list(range(1, 38)) and {jpeg[:2] for jpeg in jpegs.values()} == {b"\xff\xd8"}


def test_embedding_tells_what_is_known_of_the_file(in_worker: Callable[..., Any], moving_clip: Path) -> None:
    done = in_worker(embed, "a/1.avi", moving_clip)
    assert (done.fps, done.declared_frames) == (30.0, 37)
    assert done.source_sha256 == hashlib.sha256(moving_clip.read_bytes()).hexdigest()
    assert set(done.seconds) == {"decode", "transform", "encode"}
    assert min(done.seconds.values()) > 0


def test_each_frame_puts_the_watchdog_off(moving_clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rearmed = []
    monkeypatch.setattr(worker, "_job", worker.Job("pyav"), raising=False)
    monkeypatch.setattr(worker, "rearm", lambda: rearmed.append(len(rearmed)))
    with worker.open_video(moving_clip) as video:
        assert sum(map(len, worker.chunks(video))) == 37 <= len(rearmed)


def test_a_clip_that_cannot_be_decoded_is_a_clip_error(in_worker: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "empty.avi").touch()
    assert isinstance(in_worker(embed, "a/1.avi", tmp_path / "empty.avi"), ClipError)
    assert str(in_worker(embed, "a/1.avi", tmp_path / "empty.avi")) == "empty file"
    assert str(in_worker(embed_with_thumbnails, "a/1.avi", tmp_path / "empty.avi", 64, 100)) == "empty file"


def test_a_worker_uses_one_thread_and_bounded_memory(in_worker: Callable[..., Any]) -> None:
    threads, address_space = in_worker(limits)
    assert threads == 1
    assert 2 << 30 < address_space < 64 << 30


def test_no_file_has_no_sha256(tmp_path: Path) -> None:
    assert source_sha256(tmp_path / "nothing.avi") == ""


@settings(max_examples=30)
@given(st.integers(1, 40), st.sampled_from([1, 2, 4, 8, 16]))
def test_batches_do_not_depend_on_chunks(frames: int, size: int) -> None:
    video = np.broadcast_to(np.arange(frames, dtype=np.uint8)[:, None, None, None], (frames, 256, 256, 3)).copy()
    chunks = iter([video[i : i + size] for i in range(0, frames, size)])
    batches = [crops[:, 0, 0, 0].tolist() for [crops] in worker.batches(chunks, worker.StageTimer())]
    assert [len(batch) for batch in batches[:-1]] == [CPU_BATCH] * (len(batches) - 1)
    assert [frame for batch in batches for frame in batch] == list(range(frames))


def test_batches_hold_every_picture_of_the_same_frames() -> None:
    video = np.stack(moving_frames(21))
    chunks = iter([video[i : i + 2] for i in range(0, 21, 2)])
    found = list(worker.batches(chunks, worker.StageTimer(), VIEWS))
    assert [[len(picture) for picture in batch] for batch in found] == [[CPU_BATCH] * 2, [5] * 2]
    expected = pictures(torch.from_numpy(video), VIEWS)
    for parts, picture in zip(zip(*found, strict=True), expected, strict=True):
        assert torch.equal(torch.cat(parts), picture)


@given(st.integers(1, 3 * 8192 * 8192))
def test_chunks_are_bounded(frame_bytes: int) -> None:
    size = worker._chunk_size(frame_bytes)
    assert size * frame_bytes <= 32 << 20 or size == 1
    assert CPU_BATCH % size == 0


@pytest.mark.parametrize(("count", "chosen"), [(1, [18]), (2, [9, 27]), (5, [3, 11, 18, 25, 33])])
def test_sampled_frames_are_spread_evenly(
    in_worker: Callable[..., Any], moving_clip: Path, count: int, chosen: list[int]
) -> None:
    np.testing.assert_array_equal(
        in_worker(sample, moving_clip, count), reference_crops(moving_clip)[chosen].to(torch.uint8)
    )


@pytest.mark.parametrize("count", [37, 38, 500])
def test_all_frames_are_sampled_where_there_are_no_more(
    in_worker: Callable[..., Any], moving_clip: Path, count: int
) -> None:
    np.testing.assert_array_equal(in_worker(sample, moving_clip, count), reference_crops(moving_clip).to(torch.uint8))


@pytest.mark.parametrize("name", ["clip.mkv", "clip.webm"])
def test_a_short_clip_that_declares_no_frames_is_sampled_all_over(
    in_worker: Callable[..., Any], tmp_path: Path, name: str
) -> None:
    codec = {"clip.mkv": "libx264", "clip.webm": "libvpx-vp9"}[name]
    path = write_video(tmp_path / name, moving_frames(9), codec)
    assert probe(path).declared_frames is None
    np.testing.assert_array_equal(in_worker(sample, path, 3), reference_crops(path)[[1, 4, 7]].to(torch.uint8))


def test_features_are_those_of_the_sampled_frames(in_worker: Callable[..., Any], moving_clip: Path) -> None:
    expected = Encoder(fold(calibrated_model())).features(reference_crops(moving_clip))
    np.testing.assert_allclose(in_worker(features, moving_clip, 100), expected, rtol=1e-4, atol=1e-4)


def test_a_clip_that_cannot_be_sampled_says_why(in_worker: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "empty.avi").touch()
    assert str(in_worker(sample, tmp_path / "empty.avi", 3)) == "empty file"
