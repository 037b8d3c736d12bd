import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from har_cache.errors import HarCacheError
from har_cache.prediction.film import KINDS, FilmKind, encode, kind_of

from ..helpers.videos import moving_frames

GIF, MP4 = KINDS


def pictures(count: int, seed: int = 0) -> list[Image.Image]:
    return [Image.fromarray(frame) for frame in moving_frames(count + seed, 96, 64)[:count]]


def gif_frames(data: bytes) -> list[tuple[np.ndarray, int]]:
    with Image.open(io.BytesIO(data)) as film:
        found = []
        for i in range(film.n_frames):  # type: ignore[attr-defined]
            film.seek(i)
            found.append((np.asarray(film.convert("RGB"), np.int16), film.info["duration"]))
    return found


def test_a_gif_shows_every_picture_at_its_pace_and_holds_equal_ones() -> None:
    first, second = pictures(6), pictures(4, seed=9)
    frames = gif_frames(encode(GIF, [[*first, first[-1], first[-1]], second]))
    assert [duration for _, duration in frames] == [100] * 5 + [300] + [100] * 4
    for (shown, _), wanted in zip(frames, [*first, *second], strict=True):
        assert np.abs(shown - np.asarray(wanted, np.int16)).mean() < 6


def test_noise_that_nobody_sees_does_not_make_a_gif_large() -> None:
    still = np.asarray(pictures(1)[0], np.int16)
    rng = np.random.default_rng(0)
    noisy = [np.clip(still + rng.integers(-3, 4, still.shape), 0, 255).astype(np.uint8) for _ in range(12)]
    quiet = len(encode(GIF, [[Image.fromarray(frame) for frame in noisy]]))
    loud = len(encode(GIF, [pictures(12)]))
    assert quiet < loud / 3


def test_an_mp4_plays_everywhere_and_shows_every_picture(tmp_path: Path) -> None:
    wanted = [*pictures(5), *pictures(3, seed=7)]
    file = tmp_path / "film.mp4"
    file.write_bytes(encode(MP4, [iter(wanted[:5]), iter(wanted[5:])]))
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
        with pytest.raises(HarCacheError, match=r"expected a file named \*\.gif or \*\.mp4"):
            kind_of(Path(name))
