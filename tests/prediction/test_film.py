import io
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from har_cache.errors import FileError, SettingError
from har_cache.prediction import film as films
from har_cache.prediction.film import KINDS, FilmKind, Shown, choose_pictures, encode, kind_of, moments, write_film
from har_cache.prediction.panel import RunningPrediction
from har_cache.prediction.predictor import Prediction, Predictor
from har_cache.video.thumbnails import Thumbnails

from ..helpers.videos import RATE, moving_frames

GIF, MP4 = KINDS


def pictures(count: int, seed: int = 0) -> list[Image.Image]:
    return [Image.fromarray(frame) for frame in moving_frames(count + seed, 96, 64)[:count]]


def once(pictures: Sequence[Image.Image]) -> list[Shown]:
    return [(picture, 1) for picture in pictures]


def gif_frames(data: bytes) -> list[tuple[np.ndarray, int]]:
    with Image.open(io.BytesIO(data)) as film:
        found = []
        for i in range(film.n_frames):  # type: ignore[attr-defined]
            film.seek(i)
            found.append((np.asarray(film.convert("RGB"), np.int16), film.info["duration"]))
    return found


def test_a_gif_shows_every_picture_at_its_pace_and_holds_equal_ones() -> None:
    first, second = pictures(6), pictures(4, seed=9)
    frames = gif_frames(encode(GIF, [[*once(first[:-1]), (first[-1], 3)], once(second)]))
    assert [duration for _, duration in frames] == [100] * 5 + [300] + [100] * 4
    for (shown, _), wanted in zip(frames, [*first, *second], strict=True):
        assert np.abs(shown - np.asarray(wanted, np.int16)).mean() < 6


def test_noise_that_nobody_sees_does_not_make_a_gif_large() -> None:
    still = np.asarray(pictures(1)[0], np.int16)
    rng = np.random.default_rng(0)
    noisy = [np.clip(still + rng.integers(-3, 4, still.shape), 0, 255).astype(np.uint8) for _ in range(12)]
    quiet = len(encode(GIF, [once([Image.fromarray(frame) for frame in noisy])]))
    loud = len(encode(GIF, [once(pictures(12))]))
    assert quiet < loud / 3


def test_an_mp4_plays_everywhere_and_shows_every_picture(tmp_path: Path) -> None:
    wanted = [*pictures(5), *pictures(3, seed=7)]
    wanted[5] = wanted[4]
    file = tmp_path / "film.mp4"
    file.write_bytes(encode(MP4, [iter(once(wanted[:4])), iter([(wanted[4], 2), *once(wanted[6:])])]))
    data = file.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")  # a browser can begin at once
    with av.open(str(file)) as film:
        stream = film.streams.video[0]
        assert stream.average_rate == MP4.fps and stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        shown = [frame.to_ndarray(format="rgb24").astype(int) for frame in film.decode(video=0)]
    assert len(shown) == len(wanted)
    for found, picture in zip(shown, wanted, strict=True):
        assert np.abs(found - np.asarray(picture, np.int16)).mean() < 20


def test_the_suffix_decides() -> None:
    assert kind_of(Path("a/Film.GIF")) is GIF and kind_of(Path("film.mp4")) is MP4
    assert isinstance(GIF, FilmKind) and GIF.fps == Fraction(10)
    for name in ("film", "film.webm", "gif"):
        with pytest.raises(SettingError, match=r"expected a file named \*\.gif or \*\.mp4"):
            kind_of(Path(name))


class Pretender:
    """Says that a clip of n frames is the second class with probability n / 100; keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def probabilities(self, embeddings: np.ndarray, lengths: Sequence[int]) -> np.ndarray:
        self.asked += [int(n) for n in lengths]
        shares = np.array(lengths) / 100
        return np.stack([1 - shares, shares], 1).astype(np.float32)


def clip(kind: FilmKind, frames: int, **size: int) -> Prediction:
    thumbnails = Thumbnails(kind.width, 50)
    assert len(list(thumbnails.watch(iter([np.stack(moving_frames(frames, **size))])))) == 1
    pictures = choose_pictures(kind, frames, RATE, thumbnails.jpegs)
    probabilities = np.array([0.4, 0.6], np.float32)
    embeddings = np.zeros((1, frames, 256), np.float16)
    return Prediction(Path("clip.avi"), RATE, embeddings, ["a", "b"], probabilities, "b", "clean", pictures)


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


@given(st.integers(1, 2000), st.integers(1, 200))
def test_pictures_are_the_nearest_there_are_and_the_last_frame_is_among_them(frames: int, every: int) -> None:
    there = dict.fromkeys((*range(every, frames, every), frames), b"")
    chosen = np.array(list(choose_pictures(GIF, frames, 25.0, there)))
    wanted = moments(frames, min(GIF.pictures(frames, 25.0)[0], frames))
    assert chosen[-1] == frames and (np.diff(chosen) > 0).all() and set(chosen) <= set(there)
    assert (np.abs(chosen[:, None] - wanted).min(0) < every).all()
    assert every > 1 or chosen.tolist() == wanted.tolist()


def test_each_picture_is_told_with_the_frames_up_to_it_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[Image.Image, RunningPrediction, int]] = []

    def annotate(frame: Image.Image, running: RunningPrediction, moment: int, size: tuple[int, int]) -> Image.Image:
        told.append((frame, running, moment))
        return Image.new("RGB", size, (moment, 0, 0))

    monkeypatch.setattr(films, "annotate", annotate)
    frames = moving_frames(30)
    pretender = film(tmp_path / "film.gif", clip(GIF, 30))
    assert pretender.asked == [3, 6, 9, 12, 15, 18, 21, 24, 27, 30]  # 30 frames are a second: ten pictures
    for i, (frame, running, moment) in enumerate(told):
        assert moment == i and running.true == 1
        assert running.probabilities[moment, 1] == pytest.approx(pretender.asked[i] / 100)
        assert running.shares[moment] == pytest.approx(pretender.asked[i] / 30)
        nearest = min(range(30), key=lambda n: np.abs(frames[n].astype(int) - np.asarray(frame)).mean())
        assert nearest == pretender.asked[i] - 1  # the last frame that had come in


def test_several_videos_come_one_after_another_at_their_own_speed(tmp_path: Path) -> None:
    film(tmp_path / "film.mp4", clip(MP4, 6), clip(MP4, 12, width=160, height=90))
    with av.open(str(tmp_path / "film.mp4")) as written:
        pictures = [frame.to_ndarray(format="rgb24") for frame in written.decode(video=0)]
    assert len(pictures) == (5 + 40) + (10 + 40)
    assert pictures[0].shape[1] == 640


def test_a_long_video_is_shown_faster_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels: list[str] = []
    plain, short = films.annotate, replace(GIF, most=8)
    monkeypatch.setattr(
        films, "annotate", lambda frame, running, *rest: (labels.append(running.label), plain(frame, running, *rest))[1]
    )
    monkeypatch.setattr(films, "kind_of", lambda path: short)
    pretender = film(tmp_path / "film.gif", clip(short, 60))
    assert len(pretender.asked) == 8 and labels[0] == "2.5x"


@pytest.mark.parametrize(("width", "height"), [(2, 4000), (4000, 2)])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.suffix)
def test_clips_of_extreme_shapes_have_films(tmp_path: Path, kind: FilmKind, width: int, height: int) -> None:
    path = tmp_path / f"film{kind.suffix}"
    film(path, clip(kind, 3, width=width, height=height))
    assert path.stat().st_size > 100


def test_other_kinds_of_film_and_places_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"film\.webm: expected"):
        film(tmp_path / "film.webm", clip(GIF, 3))
    with pytest.raises(FileError, match=r"film\.gif: cannot be written"):
        film(tmp_path / "no" / "film.gif", clip(GIF, 3))
