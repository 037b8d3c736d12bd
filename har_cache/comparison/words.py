"""A difference in words: its row of a table, and what the columns mean. Figures in percent, differences in points."""

from collections.abc import Sequence

from ..evaluation.summary import percent
from ..statistics.intervals import LEAST_FILMS, LEVEL, Interval
from .paired import Difference

SHOWN, NOT_SHOWN, TOO_FEW = "more than chance explains", "no difference shown", "too few films to say"
HEADER = ("top-1", "difference", "interval", "right / wrong", "p", "least shown", "verdict")
_LEAST_P = 0.0001


def verdict(difference: Difference) -> str:
    """Whether these clips show a difference."""
    if difference.interval is None:
        return TOO_FEW
    return SHOWN if difference.shown else NOT_SHOWN


def points(share: float | None) -> str:
    """A difference of shares of 1, in points, with its sign."""
    return "-" if share is None else f"{100 * share + 0.0:+.1f}"


def interval_text(interval: Interval | None) -> str:
    """The interval of a difference, in points."""
    return "-" if interval is None else f"{points(interval[0])} to {points(interval[1])}"


def counts_text(difference: Difference) -> str:
    """Clips put right and wrong."""
    return "-" if difference.fixed is None else f"{difference.fixed:,} / {difference.broken:,}"


def p_text(p: float | None) -> str:
    """A probability, not more exactly than it is of use."""
    return "-" if p is None else f"{p:.2g}" if p >= _LEAST_P else f"< {_LEAST_P}"


def least_text(difference: Difference) -> str:
    """The smallest difference that would be shown, in points."""
    return "-" if difference.least_shown is None else f"{100 * difference.least_shown:.1f}"


def short_name(difference: Difference) -> str:
    """Its name, beside that of its reference."""
    return difference.name.removeprefix(f"{difference.reference}: ")


def cells(difference: Difference) -> tuple[str, ...]:
    """What stands below HEADER."""
    return (
        percent(difference.top1),
        points(difference.difference),
        interval_text(difference.interval),
        counts_text(difference),
        p_text(difference.p),
        least_text(difference),
        verdict(difference),
    )


def reference_cells(top1: float) -> tuple[str, ...]:
    """What stands below HEADER of the model that others are compared with."""
    return (percent(top1), *[""] * (len(HEADER) - 2), "reference")


def notes(differences: Sequence[Difference]) -> tuple[str, ...]:
    """What the columns mean, for differences of one level."""
    found = [f"Difference: in points, to the reference. {interval_note(differences)}"]
    if any(each.fixed is not None for each in differences):
        found.append(
            "Right / wrong: clips that are right here and not in the reference, and the reverse. p: exact McNemar, "
            "which takes clips of one film for independent; so the verdict is the interval's"
            + ("" if any(each.p is not None for each in differences) else " (no p: some clips are in several lists)")
        )
    found.append(
        "Least shown: the smallest true difference that such clips would show 8 times in 10; smaller ones may well be "
        "there"
    )
    return tuple(found)


def interval_note(differences: Sequence[Difference]) -> str:
    """What the intervals are, of differences of one level."""
    difference = differences[0]
    if difference.interval is None:
        return f"No interval, and so no verdict: fewer than {LEAST_FILMS} films, or a list of one"
    if difference.level == LEVEL:
        return f"Interval: {LEVEL:.0%}, over films"
    several = round((1 - LEVEL) / (1 - difference.level))
    all_of_them = "both" if several == 2 else f"all {several}"
    return (
        f"Interval: over films, wider than for one comparison, so that {all_of_them} hold the truth together "
        f"{100 * LEVEL:.0f} times in 100 ({100 * difference.level:.2f}% each)"
    )
