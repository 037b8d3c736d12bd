"""Reasons that a clip may be refused with, and what that makes of a trial."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..trial import Outcome

# Where PyAV alone shows all of a clip: what the project refuses nevertheless, by its documentation.
_BY_CHOICE = (
    r"truncated: \d+ of \d+ declared (frames decode|bytes are there)",
    r"frames of \d+x\d+: more than 8192x8192 is refused",
    r"frame size changes from \d+x\d+ to \d+x\d+ at frame \d+",
    r"not a video container \(.*\)",
    r"a (playlist|text file), not a video",
    r"no valid frame size",
    r"empty file",
)
_OF_DAMAGE = (
    r"truncated or damaged: the container cannot be read",
    r"no frame decodes",
    r"no video stream( \(audio only\))?",
    r"unknown video codec",
    r"cannot be decoded: [\w ',./-]+",
)
_OF_DEATH = (
    r"decoding it takes more than the 2 GiB of memory a worker may use \(tried twice\)",
    r"the decoder hangs: no frame for \d+ s \(tried twice\)",
    r"the decoder crashes: SIG\w+ \(tried twice\)",
)


@dataclass(frozen=True)
class Clip:
    """A clip on trial: the row of the table that it counts in, how it is made again, and the beginning of the reason
    that it must be refused with; "" where it must be in the cache, None where that depends on it.
    """

    kind: str
    origin: str
    must: str | None = None


def outcome_of(clip: Clip, reason: str | None, cached: bool, seen: Mapping[str, Any]) -> tuple[Outcome, str]:
    """What came of a clip, by the reason in failures.csv (None: it is not there) and what was seen of it; and in words
    what is wrong, if anything.
    """
    if cached == (reason is not None):
        return "lost", "in the cache and refused too" if cached else "neither in the cache nor in failures.csv"
    if clip.must is not None and not (reason or "").startswith(clip.must or "\n" * bool(reason)):
        return "lost", f"refused with {reason!r}, not {clip.must!r}" if reason else f"in the cache, not {clip.must!r}"
    if reason is None:
        return _of_cached(seen)
    if clip.must or _is_one(reason, _BY_CHOICE):
        return "survived", ""
    if not _is_one(reason, (*_OF_DAMAGE, *_OF_DEATH)):
        return "lost", f"refused with a reason that nobody has written down: {reason}"
    if seen.get("clean") and seen["frames"]:
        return "lost", f"refused with {reason!r}, and PyAV decodes all of its {seen['frames']} frames"
    return "survived", ""


def refused_though_sound(reason: str | None, seen: Mapping[str, Any]) -> str:
    """The kind of reason that a clip was refused with which PyAV alone decodes whole; nothing for any other clip."""
    return re.sub(r"\d+", "n", reason) if reason and seen.get("clean") and seen["frames"] else ""


def _of_cached(seen: Mapping[str, Any]) -> tuple[Outcome, str]:
    wrong = seen.get("error") or seen["difference"]
    return ("wrong", wrong) if wrong else ("survived", "")


def _is_one(reason: str, patterns: tuple[str, ...]) -> bool:
    return any(re.fullmatch(pattern, reason) for pattern in patterns)
