from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from har_cache.encoder.encoder import Encoder
from har_cache.encoder.folded import fold
from har_cache.video.decode import probe
from har_cache.workers.sampling import _spread, features, sample

from ..helpers.networks import calibrated_model
from ..helpers.videos import moving_frames, reference_crops, write_video


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


@given(st.integers(1, 2000), st.integers(1, 2000))
def test_a_spread_is_as_many_distinct_frames_as_asked_for(frames: int, count: int) -> None:
    chosen = _spread(frames, count)
    assert len(set(chosen)) == len(chosen) == min(count, frames, 1000)
    assert chosen == sorted(chosen) and chosen[0] >= 0 and chosen[-1] < frames


def test_a_clip_that_cannot_be_sampled_says_why(in_worker: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "empty.avi").touch()
    assert str(in_worker(sample, tmp_path / "empty.avi", 3)) == "empty file"
