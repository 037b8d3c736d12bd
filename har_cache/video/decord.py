"""decord: the clips that it was found to decode as PyAV does, and its frames of one."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .container import VideoInfo

_CONTAINERS = {"avi", "mov", "matroska"}
# Decoded to the last bit as their standards say. MPEG-1, 2 and 4 Part 2 leave the rounding of the inverse
# transform open, and decord's FFmpeg rounds otherwise: up to 2 of 255 off in some pixels of coarse clips.
_CODECS = {"h264", "vp9"}
_PIXELS = {"yuv420p", "yuvj420p"}
_MIN_WIDTH = 64


def decord_agrees(info: VideoInfo) -> bool:
    """Whether decord was found to show such clips as PyAV does; it garbles odd sizes and narrow frames."""
    return (
        info.container in _CONTAINERS
        and info.codec in _CODECS
        and info.pixel_format in _PIXELS
        and info.width % 2 == info.height % 2 == 0
        and info.width >= _MIN_WIDTH
        and info.video_streams == 1
    )


def decord_frames(path: Path) -> Iterator[np.ndarray]:
    """decord's frames, as far as it gets."""
    import decord

    decord.logging.set_level(decord.logging.QUIET)
    with contextlib.suppress(Exception):  # whatever decord raises: PyAV decides whether the clip is good
        reader = decord.VideoReader(str(path.absolute()), ctx=decord.cpu(0), num_threads=1)
        while True:
            yield reader.next().asnumpy()  # not get_batch: on a busy machine its reading ahead grows without bound
