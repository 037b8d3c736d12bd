"""One hostile file, what reads it, and what may come of that: an error of one line, or what is right by itself."""

import resource
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType

from har_cache.errors import HarCacheError
from har_cache.texts import printable

from ..trial import Outcome, Trial
from .place import Place, Watch

PATIENCE_S = 20  # of the clock, as machines that run trials are busy
_CPU_S = 6.0
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
    before, cpu = _peak(), time.process_time()
    try:
        with _limits():
            call()
    except HarCacheError as error:
        with suppress(WrongError):
            one_line(str(error))
            return _too_much(before, cpu)
        return "wrong", f"no line for people: {printable(str(error))[:300]}"
    except WrongError as error:
        return "wrong", str(error)
    except _TimeUpError:
        return "lost", f"not over after {PATIENCE_S} s: {''.join(traceback.format_exc().splitlines()[-4:])}"
    except BaseException:
        return "traceback", traceback.format_exc()[-1800:]
    return _too_much(before, cpu)


def _too_much(before: int, cpu: float) -> tuple[Outcome, str] | None:
    if (grown := _peak() - before) > _MOST_GROWTH:
        return "wrong", f"took {grown >> 20} MiB of memory"
    if (spent := time.process_time() - cpu) > _CPU_S:
        return "lost", f"took {spent:.1f} s of a core"
    return None


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


@contextmanager
def _limits() -> Iterator[None]:
    """Time, and addresses: what would take all memory fails."""
    with open("/proc/self/statm") as file:  # noqa: PTH123
        size = int(file.read().split()[0]) * resource.getpagesize()
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    before = signal.signal(signal.SIGALRM, _time_up)
    resource.setrlimit(resource.RLIMIT_AS, (size + _MORE_ADDRESSES, hard))
    signal.setitimer(signal.ITIMER_REAL, PATIENCE_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
        signal.signal(signal.SIGALRM, before)


def _time_up(number: int, frame: FrameType | None) -> None:
    raise _TimeUpError
