"""A video file in, its frames out: every decodable frame, or those that are asked for, in order, none twice, in bounded
memory.

PyAV's sequential decode is the reference: frames as stored (rotation tags are not applied), as RGB.
decord must show the same frames. It counts packets and fills up with copies of the last frame, carries
an old FFmpeg, and treats some kinds of video in its own way. So it reads only kinds that it was found to
agree on; PyAV decodes each frame first, without converting it to RGB, to see that it is there and that all is
sound so far; and PyAV goes on alone from the first one that is not, or where decord stumbles. What remains is
damage that goes unnoticed: each decoder conceals it in its own way (seen in 5 of 2,500 badly damaged clips of H.264 and
VP9; in 42 of 1,000 of VP8, which is left to PyAV, also since decord scales it to what the container says).
"""

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from ..errors import ClipError, HarCacheError
from ..settings.names import DECODERS
from .container import opened, reasons
from .decord import decord_agrees, decord_frames
from .pixels import Storage, Stored, Tables, rgb_converter, store_rgb
from .sampling import Clock, Sampling

if TYPE_CHECKING:
    from av import VideoFrame

_WHOLE = 0.9  # of the declared frames or bytes; a clip with less is truncated

T = TypeVar("T")
OnFrame = Callable[[], None]


def resolve_decoder(name: str) -> str:
    """Return "decord" or "pyav" for one of "auto", "decord", "pyav".

    "auto" is pyav everywhere: it is the reference, and with its scaler kept from frame to frame it is the faster one
    too (0.17 to 0.24 ms a frame of real 320x240 clips, one thread; decord 0.29 to 0.33, before its frames are checked).

    Raises HarCacheError for any other name, or if decord is asked for and cannot be imported.
    """
    if name not in DECODERS:
        raise HarCacheError(f"unknown decoder {name!r}: choose one of {', '.join(DECODERS)}")
    if name != "decord":
        return "pyav"
    try:
        import decord  # noqa: F401
    except (ImportError, OSError) as error:  # no wheel for this platform, or one without its libraries
        raise HarCacheError("decord cannot be imported: install it, or use --decoder pyav") from error
    return name


class VideoReader:
    """A video file, opened once: `info`, what its header says, and its frames, to be read once. A context manager.

    `sampling`: which of its frames are read; `times`: when each of those so far is shown, in seconds, NaN where that
    is unknown. `on_frame` is called for every frame that is decoded. Raises ClipError where the file is no video that
    can be decoded, HarCacheError as `resolve_decoder` does.
    """

    def __init__(
        self,
        path: Path,
        decoder: str = "auto",
        on_frame: OnFrame = lambda: None,
        sampling: Sampling = Sampling(),
    ) -> None:
        self._decord = resolve_decoder(decoder) == "decord"
        self._path, self._on_frame, self._takes = path, on_frame, sampling.chooser()
        self.times: list[float] = []
        self._count = 0  # of all frames so far
        self._damaged = False  # as far as it has been read
        self._stack = ExitStack()
        self._video = self._stack.enter_context(opened(path))
        self.info = self._video.info
        self._clock = Clock(self._video.stream, self.info.container)

    def __enter__(self) -> "VideoReader":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def chunks(self, size: int = 16) -> Iterator[np.ndarray]:
        """Yield the frames as uint8 RGB arrays (n, height, width, 3), n = `size` but for the last.

        A packet that does not decode is passed over. Raises ClipError, if need be after the last chunk: no frame
        decodes, their size changes, or the file is truncated (under 90% of what its header declares is there).
        """
        self._check_bytes()
        with reasons():
            frames = self._decoded(rgb_converter())
            while (first := next(frames, None)) is not None:
                chunk = np.empty((size, *first.shape), np.uint8)
                filled = 0
                for frame in chain([first], islice(frames, size - 1)):
                    chunk[filled] = frame
                    filled += 1
                yield chunk[:filled]
        self._check_count()

    def stored(self, tables: Tables) -> Iterator[Stored]:
        """Yield the frames, those of `chunks`, as they are cheapest to hand over: as planes where one of `tables` gives
        exactly their RGB, else as RGB. Raises ClipError as `chunks` does.
        """
        self._check_bytes()
        with reasons():
            for frame in self._decoded(Storage(tables)):
                yield store_rgb(frame) if isinstance(frame, np.ndarray) else frame
        self._check_count()

    def frames(self, numbers: Sequence[int]) -> Iterator[np.ndarray]:
        """Yield those of the frames with these numbers, in ascending order, as uint8 RGB (height, width, 3): those of
        `chunks`, as far as there are so many.

        All frames before the last one are decoded, since only that is exact; nothing after it is, and no other than
        these is converted to RGB. Raises ClipError as `chunks` does.
        """
        self._check_bytes()
        to_rgb, frames = rgb_converter(), (frame for frame, taken in self._frames() if taken)
        wanted, count = deque(numbers), 0
        with reasons():
            while wanted and (frame := next(frames, None)):
                if count == wanted[0]:
                    wanted.popleft()
                    yield to_rgb(frame)
                count += 1
        if wanted:
            self._check_count()

    def count(self, most: int) -> int:
        """Count all frames by decoding them, up to `most`."""
        with reasons():
            return sum(1 for _ in islice(self._frames(), most))

    def _decoded(self, convert: Callable[["VideoFrame"], T]) -> Iterator[T | np.ndarray]:
        """The frames: decord's, as RGB, where it is asked for and as long as all is sound; else PyAV's, converted.

        decord rotates as the header asks, scales the colour of interlaced frames by field, and repairs damage as
        FFmpeg did long ago.
        """
        decord = decord_frames(self._path) if self._decord and decord_agrees(self.info) else iter(())
        for frame, taken in self._frames():
            if self._damaged or frame.is_corrupt or frame.interlaced_frame or frame.rotation:
                decord = iter(())
            array = next(decord, None)
            if taken:
                yield convert(frame) if array is None else array

    def _frames(self) -> Iterator[tuple["VideoFrame", bool]]:
        """PyAV's decoded frames, all of one size, and whether each is taken."""
        from av.error import InvalidDataError

        size: str | None = None
        for packet in self._video.container.demux(self._video.stream):
            try:
                frames = packet.decode()
            except InvalidDataError:
                self._damaged = True
                continue
            for frame in frames:
                now = f"{frame.width}x{frame.height}"
                size = size or now
                if now != size:
                    raise ClipError(f"frame size changes from {size} to {now} at frame {self._count}")
                self._count += 1
                self._on_frame()
                time = self._clock(frame)
                if taken := self._takes(time):
                    self.times.append(math.nan if time is None else float(time))
                yield frame, taken

    def _check_bytes(self) -> None:
        declared = None if self.info.declared_frames else self._video.declared_bytes
        size = self._path.stat().st_size
        if declared and size < _WHOLE * declared:
            raise ClipError(f"truncated: {size} of {declared} declared bytes are there")

    def _check_count(self) -> None:
        count = self._count
        if not count:
            raise ClipError("no frame decodes")
        declared = self.info.declared_frames
        if declared and count < _WHOLE * declared and not _all_there(self._path, count):
            raise ClipError(f"truncated: {count} of {declared} declared frames decode")


def read_frames(
    path: Path, numbers: Sequence[int], on_frame: OnFrame = lambda: None, sampling: Sampling = Sampling()
) -> Iterator[np.ndarray]:
    """Yield the frames of `path` with these numbers as `VideoReader.frames` does. Raises ClipError where it ends before
    the last of them.
    """
    left = iter(numbers)
    with VideoReader(path, on_frame=on_frame, sampling=sampling) as video:
        for frame in video.frames(numbers):
            next(left)
            yield frame
    if (wanted := next(left, None)) is not None:
        raise ClipError(f"its frames end before number {wanted}: has the file changed since it was extracted?")


def spread(length: int, count: int) -> list[int]:
    """At most `count` of `length` indices, evenly spread: the middles of so many equal segments."""
    count = min(count, length)
    return [(2 * i + 1) * length // (2 * count) for i in range(count)]


def _all_there(path: Path, count: int) -> bool:
    """Whether a clip with fewer frames than declared still lacks none.

    An edit list may hide frames, and an AVI may declare repeats that it does not store. Then nearly all
    packets decode, and they last to the declared end.
    """
    packets, end = 0, 0
    with opened(path) as video, reasons():
        for packet in video.container.demux(video.stream):
            start = packet.dts if packet.pts is None else packet.pts
            if start is not None and not packet.is_discard:
                packets += 1
                end = max(end, start + (packet.duration or 0))
        declared_end = video.info.declared_frames if video.info.container == "avi" else video.stream.duration
    return count >= _WHOLE * packets and end >= _WHOLE * (declared_end or float("inf"))
