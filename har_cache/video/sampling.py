"""Which frames of a clip are taken, and when each is shown."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from ..errors import ClipError, HarCacheError

if TYPE_CHECKING:
    from av import VideoFrame, VideoStream

Time = Fraction | None  # seconds; None where nothing tells

_TEXT = re.compile(r"every ([1-9][0-9]{0,8})|([0-9]+(?:\.[0-9]+)?(?:e[-+]?[0-9]{1,3})?) fps")


@dataclass(frozen=True)
class Sampling:
    """The frames that are taken: every one, every n-th, or the first one in each `1 / fps` of a second by timestamp, as
    far as there is one: none is made up, and none is taken twice. The first is always taken.
    """

    every: int = 1
    fps: float | None = None

    @property
    def text(self) -> str | None:
        """In words, as recipes have it: `every 2` or `5 fps`; None for every frame."""
        if self.fps is not None:
            return f"{repr(self.fps).removesuffix('.0')} fps"
        return f"every {self.every}" if self.every > 1 else None

    @classmethod
    def parse(cls, text: str | None) -> "Sampling":
        """The reverse of `text`. Raises HarCacheError where it says something else."""
        if text is None:
            return cls()
        match = _TEXT.fullmatch(text)
        if match is None or cls._of(match).text != text or cls._of(match).fps == 0:
            raise HarCacheError(f"frames {text!r}: expected 'every N' or 'F fps'")
        return cls._of(match)

    @classmethod
    def _of(cls, match: "re.Match[str]") -> "Sampling":
        return cls(int(match[1])) if match[1] else cls(fps=float(match[2]))

    def chooser(self) -> Callable[[Time], bool]:
        """A function that is told the time of each frame of a clip, in order, and says whether it is taken."""
        return _EveryNth(self.every) if self.fps is None else _PerSecond(Fraction(repr(self.fps)))


class _EveryNth:
    def __init__(self, every: int) -> None:
        self._every, self._number = every, -1

    def __call__(self, time: Time) -> bool:
        self._number += 1
        return self._number % self._every == 0


class _PerSecond:
    def __init__(self, fps: Fraction) -> None:
        self._fps = fps
        self._first: Time = None
        self._last = -1  # the part of a second that a frame was taken in last

    def __call__(self, time: Time) -> bool:
        if time is None:
            raise ClipError("neither timestamps nor a frame rate: take its frames by number (--every)")
        self._first = time if self._first is None else self._first
        part = (time - self._first) * self._fps // 1
        taken = part > self._last
        self._last = max(part, self._last)
        return taken


class Clock:
    """When the frames of a stream are shown, told in the order in which they decode.

    By their presentation timestamps, as PyAV has them in `frame.time`. An AVI has none: what FFmpeg makes up for one
    with B-frames jumps to and fro (of the first three frames of a clip of HMDB51: 1, 4, 3), so there it is the time of
    its packets, counted from the first frame. A frame without any is shown one frame's time after the one before.
    """

    def __init__(self, stream: "VideoStream", container: str) -> None:
        self._avi, self._rate = container == "avi", stream.average_rate
        self._start: int | None = None
        self._last: Time = None

    def __call__(self, frame: "VideoFrame") -> Time:
        """The time of the next frame."""
        stamp = self._since_first(frame.dts) if self._avi else frame.pts
        if stamp is not None and frame.time_base:
            self._last = stamp * frame.time_base
        elif not self._rate:
            self._last = None
        else:
            self._last = Fraction(0) if self._last is None else self._last + 1 / self._rate
        return self._last

    def _since_first(self, dts: int | None) -> int | None:
        if dts is None:
            return None
        self._start = dts if self._start is None else self._start
        return dts - self._start
