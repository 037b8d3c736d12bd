"""A comparison as one self-contained HTML page."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..comparison import summary, words
from ..comparison.compare import Comparison, OnClips
from ..comparison.paired import Difference
from ..statistics.intervals import Interval
from ..storage.files import write_file
from .rendering import render_page

_LEAST_SCALE = 0.01


@dataclass(frozen=True)
class Mark:
    """A difference on a scale that ends at both sides of 0; in percent of its width, from its left end."""

    point: float
    start: float
    width: float


@dataclass(frozen=True)
class Row:
    """A difference, what to call it, and its mark."""

    name: str
    difference: Difference
    mark: Mark


@dataclass(frozen=True)
class Group:
    """Differences on one scale, from `-end` to `end`, in points; `notes`: what the figures mean."""

    title: str
    rows: tuple[Row, ...]
    end: str
    notes: tuple[str, ...]


def write_page(comparison: Comparison, path: Path) -> None:
    """Write the page of a comparison. Raises FileError where it cannot be written."""
    parts = [("", comparison.all_clips)] + ([("Clean clips alone", comparison.clean)] if comparison.clean else [])
    page = render_page(
        "har_cache.pages",
        "comparison.html",
        comparison=comparison,
        warnings=summary.warnings(comparison),
        parts=[(title, summary.where(comparison, on), on, groups(on)) for title, on in parts],
        words=words,
    )
    write_file(path, page)


def groups(on: OnClips) -> list[Group]:
    """The differences of the runs to each other, and of the linear probes to their runs."""
    pairs = [(f"{each.name} less {each.reference}", each) for each in on.pairs]
    linear = [(f"{words.short_name(each)} less {each.reference}", each) for each in on.linear]
    found = [("Runs, each with each", pairs), ("Linear probes, each with its run", linear)]
    return [_group(title, differences) for title, differences in found if differences]


def _group(title: str, named: Sequence[tuple[str, Difference]]) -> Group:
    differences = [difference for _, difference in named]
    ends = [abs(end) for each in differences for end in (each.difference, *(each.interval or ()))]
    scale = max(_LEAST_SCALE, *ends) * 1.05
    rows = tuple(Row(name, each, _mark(each.difference, each.interval, scale)) for name, each in named)
    return Group(title, rows, f"{100 * scale:.0f}" if scale >= 0.1 else f"{100 * scale:.1f}", words.notes(differences))


def _mark(difference: float, interval: Interval | None, scale: float) -> Mark:
    point, start, end = (50 + 50 * share / scale for share in (difference, *(interval or (difference, difference))))
    return Mark(point, start, end - start)
