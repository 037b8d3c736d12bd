"""Windows of a video, each so many seconds long, and what a run makes of each."""

import math
from dataclasses import dataclass

import numpy as np

from ..cache.record import ClipRecord
from ..errors import ClipError

_ROUNDING = 1e-6  # of a window: a frame at 0.6 s is in the fourth of 0.2 s


@dataclass(frozen=True)
class Window:
    """A part of a video: from `begin` to less than `end`, in seconds of its timestamps, with `frames` embedded ones, of
    which the first is number `first`. `probabilities`: float32 (classes), as if there were no other frames.
    """

    begin: float
    end: float
    first: int
    frames: int
    probabilities: np.ndarray


def find_windows(clip: ClipRecord, seconds: float) -> list[tuple[float, float, int, int]]:
    """Begin, end, number of the first frame and count of frames of each window, from a clip's first frame on. Windows
    without a frame are left out; the last one ends with its last frame, for as long as frames are shown on average.

    Raises ClipError where neither timestamps nor a frame rate say when frames are shown.
    """
    times = _times(clip)
    numbers = np.floor((times - times[0]) / seconds + _ROUNDING).astype(int)
    there, firsts, counts = np.unique(numbers, return_index=True, return_counts=True)
    whole = times[-1] + (1 / clip.rate if clip.rate else 0.0)
    return [
        (begin := float(times[0] + number * seconds), float(min(begin + seconds, whole)), int(first), int(count))
        for number, first, count in zip(there, firsts, counts, strict=True)
    ]


def _times(clip: ClipRecord) -> np.ndarray:
    """Of each frame, in seconds, rising."""
    if clip.times is not None and np.isfinite(clip.times).all():
        return np.maximum.accumulate(clip.times)
    if not (math.isfinite(clip.fps) and clip.fps > 0):
        raise ClipError("neither timestamps nor a frame rate: no window of --every can be told")
    return np.arange(clip.frames) / clip.fps
