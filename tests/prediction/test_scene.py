from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import av
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from har_cache.errors import HarCacheError
from har_cache.prediction import scene
from har_cache.prediction.predictor import Prediction, Predictor
from har_cache.prediction.scene import moments, write_film
from har_cache.prediction.timeline import Story
from har_cache.video.decode import probe

from ..helpers.videos import moving_frames, write_video


class Pretender:
    """Says that a clip of n frames is the second class with probability n / 100; keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def judge(self, embeddings: torch.Tensor) -> np.ndarray:
        self.asked.append(embeddings.shape[1])
        share = embeddings.shape[1] / 100
        return np.array([1 - share, share], np.float32)


def clip(path: Path, frames: int, **size: int) -> Prediction:
    video = write_video(path, moving_frames(frames, **size))
    embeddings = torch.zeros(1, frames, 256)
    return Prediction(video, probe(video), embeddings, ["a", "b"], Pretender().judge(embeddings), "b", "clean")


def film(path: Path, *clips: Prediction) -> Pretender:
    pretender = Pretender()
    assert write_film(path, cast(Predictor, pretender), clips) == path.stat().st_size
    return pretender


@given(st.integers(1, 500), st.integers(1, 500))
def test_moments_rise_evenly_to_the_whole_clip(frames: int, count: int) -> None:
    count = min(count, frames)
    found = moments(frames, count)
    steps = np.diff([0, *found])
    assert len(found) == count and found[-1] == frames and steps.min() >= 1 and np.ptp(steps) <= 1


def test_each_picture_is_told_with_the_frames_up_to_it_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[np.ndarray, Story, int]] = []

    def draw(frame: np.ndarray, story: Story, moment: int, size: tuple[int, int]) -> Image.Image:
        told.append((frame, story, moment))
        return Image.new("RGB", size, (moment, 0, 0))

    monkeypatch.setattr(scene, "draw", draw)
    frames = moving_frames(30)
    pretender = film(tmp_path / "film.gif", clip(tmp_path / "clip.avi", 30))
    assert pretender.asked == [3, 6, 9, 12, 15, 18, 21, 24, 27, 30]  # 30 frames are a second: ten pictures
    for i, (frame, story, moment) in enumerate(told):
        assert moment == i and story.true == 1
        assert story.probabilities[moment, 1] == pytest.approx(pretender.asked[i] / 100)
        assert story.shares[moment] == pytest.approx(pretender.asked[i] / 30)
        nearest = min(range(30), key=lambda n: np.abs(frames[n].astype(int) - frame).mean())
        assert nearest == pretender.asked[i] - 1  # the last frame that had come in


def test_several_videos_come_one_after_another_at_their_own_pace(tmp_path: Path) -> None:
    clips = clip(tmp_path / "one.avi", 6), clip(tmp_path / "two.avi", 12, width=160, height=90)
    film(tmp_path / "film.mp4", *clips)
    with av.open(str(tmp_path / "film.mp4")) as written:
        pictures = [frame.to_ndarray(format="rgb24") for frame in written.decode(video=0)]
    assert len(pictures) == (5 + 40) + (10 + 40)
    assert pictures[0].shape[1] == 640


def test_a_long_video_is_shown_faster_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stories: list[Any] = []
    plain = scene.draw
    monkeypatch.setattr(
        scene, "draw", lambda frame, story, *rest: (stories.append(story), plain(frame, story, *rest))[1]
    )
    monkeypatch.setattr(scene, "kind_of", lambda path: SimpleNamespace(suffix=".gif", width=320, fps=10, most=8))
    pretender = film(tmp_path / "film.gif", clip(tmp_path / "clip.avi", 60))
    assert len(pretender.asked) == 8 and stories[0].label == "2.5x"


def test_other_kinds_of_film_are_refused(tmp_path: Path) -> None:
    with pytest.raises(HarCacheError, match=r"film\.webm: expected"):
        film(tmp_path / "film.webm", clip(tmp_path / "clip.avi", 3))
