"""One hostile file, what reads it, and what may come of that: an error of one line, or what is right by itself."""

import resource
import signal
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType

from har_cache.errors import HarCacheError
from har_cache.texts import printable

from ..trial import Outcome, Trial
from .place import Place, Watch

_PATIENCE_S = 60.0  # of the clock, as machines that run trials are busy
_CPU_S = 8.0
_LONGEST_LINE = 2000
_MOST_GROWTH = 1 << 30  # bytes
_MORE_ADDRESSES = 4 << 30

Calls = Mapping[str, Callable[[], object]]


@dataclass(frozen=True)
class Case:
    """`make` puts the file into a place, and gives what reads it, by name."""

    kind: str
    name: str
    make: Callable[[Place], Calls]


class WrongError(Exception):
    """What came is not right by itself."""


class _TimeUpError(BaseException):
    """Nothing may catch it."""


def must(is_so: object, what: str) -> None:
    """Raise WrongError where it is not so."""
    if not is_so:
        raise WrongError(what)


def one_line(text: str) -> None:
    """Raise WrongError for what is no line for people."""
    must(text.strip(), "an error without a word")
    must(len(printable(text)) <= _LONGEST_LINE, f"a line of {len(text)} characters: {printable(text)[:200]}...")


def tried(case: Case, place: Place, label: str) -> Trial:
    """What came of a case; its place stays where that is not as it should be."""
    place.make()
    calls = case.make(place)
    watch = Watch(place)
    try:
        for name, call in calls.items():
            if problem := _problem(call) or _touched(place, watch):
                detail = f"{name}: {problem[1]} ({case.name}; {label}; {place.top})"
                return Trial(f"hostile {case.kind}", case.name, problem[0], detail)
    finally:
        watch.close()
    return Trial(f"hostile {case.kind}", case.name, "survived")


def _touched(place: Place, watch: Watch) -> tuple[Outcome, str] | None:
    if place.marker.exists():
        return "wrong", "code in the file ran"
    return ("wrong", touched) if (touched := watch.touched()) else None


def _problem(call: Callable[[], object]) -> tuple[Outcome, str] | None:
    before = _peak()
    try:
        with _limits():
            call()
    except HarCacheError as error:
        with suppress(WrongError):
            one_line(str(error))
            return _too_much(before)
        return "wrong", f"no line for people: {printable(str(error))[:300]}"
    except WrongError as error:
        return "wrong", str(error)
    except _TimeUpError:
        where = "".join(traceback.format_exc().splitlines()[-6:-3])
        return "lost", f"not over after {_PATIENCE_S:g} s, or {_CPU_S:g} s of a core: {where}"
    except BaseException:
        return "traceback", traceback.format_exc()[-1800:]
    return _too_much(before)


def _too_much(before: int) -> tuple[Outcome, str] | None:
    if (grown := _peak() - before) > _MOST_GROWTH:
        return "wrong", f"took {grown >> 20} MiB of memory"
    return None


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


@contextmanager
def _limits() -> Iterator[None]:
    """Time, and addresses: what would take all memory fails."""
    with open("/proc/self/statm") as file:  # noqa: PTH123
        size = int(file.read().split()[0]) * resource.getpagesize()
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    timers = ((signal.SIGALRM, signal.ITIMER_REAL, _PATIENCE_S), (signal.SIGPROF, signal.ITIMER_PROF, _CPU_S))
    resource.setrlimit(resource.RLIMIT_AS, (size + _MORE_ADDRESSES, hard))
    for number, timer, seconds in timers:
        signal.signal(number, _time_up)
        signal.setitimer(timer, seconds)
    try:
        yield
    finally:
        for _, timer, _ in timers:
            signal.setitimer(timer, 0)
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))


def _time_up(number: int, frame: FrameType | None) -> None:
    raise _TimeUpError
