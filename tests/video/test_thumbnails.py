import io
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from har_cache.video.thumbnails import Thumbnails

from ..helpers.videos import moving_frames


def chunks(frames: list[np.ndarray], size: int = 16) -> Iterator[np.ndarray]:
    return (np.stack(frames[i : i + size]) for i in range(0, len(frames), size))


def watched(thumbnails: Thumbnails, frames: list[np.ndarray]) -> dict[int, np.ndarray]:
    passed = np.concatenate(list(thumbnails.watch(chunks(frames))))
    np.testing.assert_array_equal(passed, np.stack(frames))
    return {n: np.asarray(Image.open(io.BytesIO(jpeg)), np.int16) for n, jpeg in thumbnails.jpegs.items()}


def test_every_frame_of_a_short_clip_is_there_and_looks_the_same() -> None:
    frames = moving_frames(20)
    found = watched(Thumbnails(320, 20), frames)
    assert list(found) == list(range(1, 21))
    for n, picture in found.items():
        assert picture.shape == frames[n - 1].shape and np.abs(picture - frames[n - 1]).mean() < 4  # hard-edged noise


@pytest.mark.parametrize(("count", "most"), [(21, 20), (64, 8), (65, 8), (101, 7), (3, 1)])
def test_a_longer_clip_is_thinned_evenly_and_keeps_its_end(count: int, most: int) -> None:
    numbers = list(watched(Thumbnails(16, most), moving_frames(count, 32, 16)))
    assert numbers[-1] == count and most / 2 <= len(numbers) <= most + 1
    steps = np.diff([0, *numbers])
    assert len(set(steps[:-1])) <= 1 and steps[-1] <= steps[0]


@pytest.mark.parametrize(("size", "expected"), [((160, 120), (64, 48)), ((90, 160), (36, 64)), ((40, 30), (40, 30))])
def test_large_frames_are_reduced_and_small_ones_are_not(size: tuple[int, int], expected: tuple[int, int]) -> None:
    (picture,) = watched(Thumbnails(64, 4), moving_frames(1, *size)).values()
    assert picture.shape[1::-1] == expected
