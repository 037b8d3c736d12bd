"""A data set whose clips are listed: where each file is, its class, its part in each split, its source."""

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ...errors import DataError
from ..keys import flat, to_keys
from ..layouts import Layout
from ..splits import TEST, TRAIN, UNUSED, VALIDATE, Subsets
from .rows import Row, read_rows

_NAMES = {TRAIN: "train", VALIDATE: "val", TEST: "test"}


@dataclass
class _Clip:
    """What the lists say of a file, and where they said so first."""

    label: str
    where: str
    subsets: dict[int, int] = field(default_factory=dict)
    source: str = ""


def read_listed(data: Path, lists: Sequence[str], name: Callable[[str], str] | None = None) -> Layout:
    """The clips of `--list` FILES, below the folder `data`; a file that is not there is no error. Where `name` gives
    the name of a clip from the path of something else, nothing is looked for, and all count as being there.

    A path is relative to its list's folder or to `data`, whichever has such a file. A label is the class; where all are
    whole numbers and go one to one with the folders that the files lie in, those are the classes. Raises DataError,
    with file and line: a path outside of `data`, one that two lines say different things of; a list of which no file is
    there; and as `read_rows`.
    """
    rows = [replace(row, path=name(row.path)) if name else row for row in read_rows(lists)]
    clips: dict[str, _Clip] = {}
    there: set[str] = set()
    found_of: defaultdict[Path, int] = defaultdict(int)
    roots = _roots(data)
    for row in rows:
        place, found = _place(row, data, roots)
        _add(clips, place, row)
        found = found or name is not None
        there |= {place} if found else set()
        found_of[row.listed_in] += found
    for path in found_of:
        if not found_of[path]:
            first = next(row for row in rows if row.listed_in == path)
            raise DataError(
                f"{first.where}: neither {first.path!r} nor any other file of this list is in {data}: "
                "pass --data, the folder that its paths begin in"
            )
    return _layout(data, clips, there)


def _layout(data: Path, clips: Mapping[str, _Clip], there: set[str]) -> Layout:
    keys = to_keys(_classes(clips))
    count = Counter(keys.values())
    for place, key in keys.items():
        if count[key] > 1:
            raise DataError(f"{clips[place].where}: two files would be {key}; rename one of them")
    splits = max((split for clip in clips.values() for split in clip.subsets), default=0)
    return Layout(
        data,
        {keys[place]: place for place in clips if place in there},
        subsets={keys[place]: _subsets(clip, splits) for place, clip in clips.items()} if splits else {},
        sources={keys[place]: clip.source for place, clip in clips.items() if clip.source},
        missing=tuple(keys[place] for place in clips if place not in there),
        told_by="the given lists",
    )


def _place(row: Row, data: Path, roots: Sequence[str]) -> tuple[str, bool]:
    """Where a file is, relative to the data set, and whether it is there; `roots`: the names that the data set has."""
    candidates = [_below(os.path.join(folder, row.path), roots) for folder in (row.listed_in.parent, data)]  # noqa: PTH118
    places = [place for place in candidates if place]
    if not places or "\0" in row.path:
        raise DataError(
            f"{row.where}: {row.path[:200]!r} is outside of {data}; pass --data, a folder that holds all of the files"
        )
    there = next((place for place in places if os.path.isfile(os.path.join(data, place))), None)  # noqa: PTH113, PTH118
    return there or places[-1], there is not None


def _roots(data: Path) -> list[str]:
    """The data set's folder, by its name and where links lead, each with a slash behind it."""
    return [folder.rstrip(os.sep) + os.sep for folder in (os.path.abspath(data), os.path.realpath(data))]  # noqa: PTH100


def _below(path: str, roots: Sequence[str]) -> str:
    """A path relative to one of these folders, which it is below of; empty where it is not."""
    path = os.path.abspath(path)  # noqa: PTH100  (without following links)
    return next((path.removeprefix(root) for root in roots if path.startswith(root)), "")


def _add(clips: dict[str, _Clip], place: str, row: Row) -> None:
    """Note a line. Raises DataError where it contradicts one before."""
    clip = clips.setdefault(place, _Clip(row.label, row.where))
    if clip.label != row.label:
        raise DataError(f"{row.where}: {row.path!r} is {row.label!r} here but {clip.label!r} in {clip.where}; keep one")
    if row.source and clip.source not in ("", row.source):
        raise DataError(f"{row.where}: {row.path!r} is of {row.source!r} here but of {clip.source!r} before; keep one")
    for split, subset in row.subsets.items():
        if (before := clip.subsets.setdefault(split, subset)) != subset:
            raise DataError(
                f"{row.where}: {row.path!r} is in {_NAMES[subset]} here but in {_NAMES[before]} before; keep one"
            )
    clip.source = clip.source or row.source
    _check(clip, row)


def _check(clip: _Clip, row: Row) -> None:
    for name, text in (("label", clip.label), ("source", flat(clip.source))):
        if text in (".", "..") or "/" in text or "\0" in text:
            raise DataError(f"{row.where}: {text[:100]!r} can be no {name}: a folder could not have this name")


def _classes(clips: Mapping[str, _Clip]) -> dict[str, str]:
    """The class of each file: its label, or the folder that goes with it."""
    labels = {place: clip.label for place, clip in clips.items()}
    parents = {place: place.rpartition("/")[0].rpartition("/")[2] for place in clips}
    pairs = {(labels[place], parents[place]) for place in clips}
    one_to_one = len(pairs) == len({label for label, _ in pairs}) == len({parent for _, parent in pairs})
    numbered = all(label.isdecimal() for label, _ in pairs) and all(parent for _, parent in pairs)
    return parents if numbered and one_to_one else labels


def _subsets(clip: _Clip, splits: int) -> Subsets:
    return tuple(clip.subsets.get(split, UNUSED) for split in range(1, splits + 1))
