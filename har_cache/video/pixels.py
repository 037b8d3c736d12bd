"""Pixels as one process hands them to another: RGB, or the planes that the codec gave, half as many bytes.

FFmpeg's scaler makes RGB of yuv420p without interpolating the chroma: where the height is even, a pixel's colour is a
function of its (y, u, v) alone. So a table of 2^24 entries, filled by that scaler itself, gives the same pixels
(measured: 0 of 59,097,600 of the five real clips differ). What has no such table goes as RGB.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from av import VideoFrame

TABLE_ENTRIES = 1 << 24
_TABLE_SIDE = 1 << 12
# FFmpeg's numbers: AVCOL_SPC_*, where unspecified counts as BT.601 as it does in the scaler, and AVCOL_RANGE_JPEG.
_BT709, _BT601 = 1, (2, 5, 6)
_LIMITED, _FULL = 1, 2


class Pixels(IntEnum):
    """Kinds of stored pixels: interleaved RGB, or the planes y, u, v of 4:2:0, by their matrix and range."""

    RGB = 0
    BT601 = 1
    BT601_FULL = 2
    BT709 = 3


_IN_FFMPEG = {Pixels.BT601: (5, _LIMITED), Pixels.BT601_FULL: (5, _FULL), Pixels.BT709: (_BT709, _LIMITED)}
Tables = Mapping[Pixels, np.ndarray]  # what `rgb_table` gives, by kind


@dataclass(frozen=True)
class Layout:
    """How a frame is stored. Sizes are in pixels."""

    height: int
    width: int
    pixels: Pixels = Pixels.RGB

    @cached_property
    def planes(self) -> tuple[tuple[int, int], ...]:
        """Rows, and bytes in a row, of each plane; they follow each other without a gap."""
        if self.pixels == Pixels.RGB:
            return ((self.height, 3 * self.width),)
        chroma = -(-self.height // 2), -(-self.width // 2)
        return (self.height, self.width), chroma, chroma

    @cached_property
    def frame_bytes(self) -> int:
        """Bytes that a frame takes."""
        return sum(rows * width for rows, width in self.planes)

    def fill(self, target: np.ndarray, planes: Sequence[np.ndarray]) -> None:
        """Write the planes of a frame into uint8 (frame_bytes)."""
        start = 0
        for plane in planes:
            end = start + plane.size
            target[start:end].reshape(plane.shape)[:] = plane
            start = end


Stored = tuple[Layout, Sequence[np.ndarray]]  # a frame: uint8 (rows, bytes) for each plane, good until the next frame


class Storage:
    """Stores a clip's frames as planes where one of these tables gives exactly their RGB, else as RGB.

    That is looked at pixel by pixel in the first frame, and again where what the frames say of themselves changes.
    """

    def __init__(self, tables: Tables) -> None:
        self._tables, self._to_rgb = tables, rgb_converter()
        self._claimed = self._chosen = Pixels.RGB
        self._layout: Layout | None = None

    def __call__(self, frame: "VideoFrame") -> Stored:
        """The frame, stored; they are all of one size."""
        claimed = _claimed(frame)
        if claimed != self._claimed:
            self._claimed = claimed
            self._chosen = claimed if claimed in self._tables and self._is_exact(frame, claimed) else Pixels.RGB
        if self._chosen == Pixels.RGB:
            return store_rgb(self._to_rgb(frame))
        if self._layout is None or self._layout.pixels != self._chosen:
            self._layout = Layout(frame.height, frame.width, self._chosen)
        return self._layout, _planes(frame, self._layout)

    def _is_exact(self, frame: "VideoFrame", pixels: Pixels) -> bool:
        if any(plane.line_size < 0 for plane in frame.planes):  # upside down in memory
            return False
        planes = _planes(frame, Layout(frame.height, frame.width, pixels))
        return np.array_equal(from_table(planes, self._tables[pixels]), self._to_rgb(frame))


def store_rgb(frame: np.ndarray) -> Stored:
    """A frame of uint8 RGB (height, width, 3), stored as it is."""
    height, width = frame.shape[:2]
    return Layout(height, width), [frame.reshape(height, 3 * width)]


def from_table(planes: Sequence[np.ndarray], table: np.ndarray) -> np.ndarray:
    """RGB, uint8 (height, width, 3), of the planes y, u, v of a frame."""
    y, *chroma = planes
    u, v = (plane.repeat(2, 0).repeat(2, 1)[: y.shape[0], : y.shape[1]].astype(np.uint32) for plane in chroma)
    return table[v << 16 | u << 8 | y].view(np.uint8).reshape(*y.shape, 4)[..., :3]


def rgb_table(pixels: Pixels) -> np.ndarray:
    """RGB of every (y, u, v), as FFmpeg's scaler makes it: uint32 (2^24), red + green * 2^8 + blue * 2^16, at
    y + u * 2^8 + v * 2^16.
    """
    from av import VideoFrame

    # Every 2x2 pixels have one (u, v), so 64 such squares hold all y of it.
    square = np.arange((_TABLE_SIDE // 2) ** 2, dtype=np.uint32).reshape(_TABLE_SIDE // 2, -1)
    luma = np.empty((_TABLE_SIDE, _TABLE_SIDE), np.uint8)
    corners = [(luma[i::2, j::2], 2 * i + j) for i in (0, 1) for j in (0, 1)]
    for corner, number in corners:
        corner[:] = 4 * (square & 63) + number
    frame = VideoFrame(_TABLE_SIDE, _TABLE_SIDE, "yuv420p")
    frame.colorspace, frame.color_range = _IN_FFMPEG[pixels]
    layout = Layout(_TABLE_SIDE, _TABLE_SIDE, pixels)
    for target, plane in zip(_planes(frame, layout), (luma, square >> 6 & 255, square >> 14), strict=True):
        target[:] = plane
    rgb = rgb_converter()(frame)
    table = np.zeros((TABLE_ENTRIES // 4, 4, 4), np.uint8)
    for (_, number), seen in zip(corners, (rgb[i::2, j::2] for i in (0, 1) for j in (0, 1)), strict=True):
        table[:, number, :3] = seen.reshape(-1, 3)
    return table.reshape(-1).view("<u4")


def rgb_converter() -> Callable[["VideoFrame"], np.ndarray]:
    """Converter of PyAV's frames of one clip to RGB, with the pixels of `frame.to_ndarray("rgb24")`.

    That call sets up a scaler with a thread per core for every frame, which takes most of its time.
    """
    from av.video.reformatter import VideoReformatter

    scaler = VideoReformatter()
    return lambda frame: scaler.reformat(frame, format="rgb24", threads=1).to_ndarray()


def _claimed(frame: "VideoFrame") -> Pixels:
    """The kind of pixels that a frame claims to have; RGB where that is none of those with a table."""
    name = frame.format.name
    if name not in ("yuv420p", "yuvj420p") or frame.height % 2 or frame.interlaced_frame:
        return Pixels.RGB
    full = name == "yuvj420p" or frame.color_range == _FULL
    if frame.colorspace == _BT709:
        return Pixels.RGB if full else Pixels.BT709
    if frame.colorspace in _BT601:
        return Pixels.BT601_FULL if full else Pixels.BT601
    return Pixels.RGB


def _planes(frame: "VideoFrame", layout: Layout) -> list[np.ndarray]:
    return [
        np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[:rows, :width]  # type: ignore[call-overload]
        for plane, (rows, width) in zip(frame.planes, layout.planes, strict=True)
    ]
