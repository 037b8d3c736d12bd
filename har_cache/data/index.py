"""A data set on disk -> an index of its clips, classes, splits and sources.

A data set is a folder of class folders that hold video files, with or without split lists. No file is opened here but
the lists: whether a clip can be decoded is found out when it is.
"""

import os
import stat
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ..errors import DataError
from .folders import folders, inside, scan
from .hmdb51 import LIST_FOLDER, VIDEO_FOLDER
from .keys import class_of, source_of
from .splits import TEST, UNUSED, Subsets, by_clip, draw_splits, find_lists, read_lists

VIDEO_SUFFIXES = tuple(".avi .mp4 .mkv .webm .mov .m4v .mpg .mpeg .ts .wmv .flv .3gp .ogv".split())  # noqa: SIM905

_NO_CLASSES = frozenset({"splits", LIST_FOLDER, "lost+found"})


@dataclass(frozen=True)
class Clip:
    """One video file of the data set, and its part in each split."""

    key: str  # "<class>/<file name>"
    path: Path
    label: int  # index into the classes
    source: str  # "<class>/<source>", unique over the data set
    subsets: Subsets

    @property
    def tested(self) -> bool:
        """Whether some split tests on this clip."""
        return TEST in self.subsets


@dataclass(frozen=True)
class ClipIndex:
    """Contents of a data set, and what its split lists say of them."""

    root: Path  # the folder of class folders
    classes: tuple[str, ...]  # sorted by name
    clips: tuple[Clip, ...]  # sorted by key
    splits_from: str  # "lists" or "drawn"
    missing: dict[str, Subsets]  # keys in the lists, not on disk
    unlisted: tuple[str, ...]  # keys on disk that no list names, where there are lists
    ignored: tuple[str, ...]  # what lies in class folders and cannot be a clip, relative to the root

    @cached_property
    def paths(self) -> dict[str, Path]:
        """The clips' files by key."""
        return {clip.key: clip.path for clip in self.clips}


def read_index(data: Path, splits: Path | None = None, seed: int = 0) -> ClipIndex:
    """Index the data set at `data/videos`, `data/hmdb51_org` or `data`: the first that holds a clip.

    Lists come from `splits`, or else from `data/splits` or `data/testTrainMulti_7030_splits`. Where there are
    none, splits are drawn by source: each tests on about 30% of a class, always the same for the same `seed`.
    Listed clips that are not on disk are no error: they are in `missing`.

    Raises `DataError` where a folder or a list cannot be read, or the lists belong to other data.
    """
    root, keys, ignored = _find_root(data)
    sources = {key: source_of(key) for key in sorted(keys)}
    lists = find_lists(data, splits)
    subsets = by_clip(read_lists(lists) if lists else draw_splits(sources, seed))
    if keys.isdisjoint(subsets):
        raise DataError(
            f"the split lists in {lists[0][2].parent} name no clip of {root}: they belong to other data; "
            "choose others with --splits, or remove them to have splits drawn"
        )
    classes = sorted({class_of(key) for key in keys})
    clips = [
        Clip(key, root / key, classes.index(class_of(key)), source, subsets.get(key, (UNUSED,) * 3))
        for key, source in sources.items()
    ]
    return ClipIndex(
        root=root,
        classes=tuple(classes),
        clips=tuple(clips),
        splits_from="lists" if lists else "drawn",
        missing={key: subsets[key] for key in sorted(subsets.keys() - keys)},
        unlisted=tuple(sorted(keys - subsets.keys())),
        ignored=tuple(sorted(ignored)),
    )


def _find_root(data: Path) -> tuple[Path, set[str], list[str]]:
    for root in [*inside(data, "videos", VIDEO_FOLDER), data]:
        keys, ignored = _scan_classes(root)
        if keys:
            return root, keys, ignored
    raise DataError(
        f"no videos in {data}: expected <class>/<video file> in {data / 'videos'}, in {data / VIDEO_FOLDER} "
        f"or in the folder itself, named {', '.join(f'*{suffix}' for suffix in VIDEO_SUFFIXES)}"
    )


def _scan_classes(root: Path) -> tuple[set[str], list[str]]:
    """The keys of all clips, and what else lies where a clip could."""
    keys: set[str] = set()
    ignored: list[str] = []
    for class_name in folders(root) - _NO_CLASSES:
        if _printable(class_name) != class_name:
            ignored.append(_printable(class_name))
            continue
        for entry in scan(root / class_name):
            if _is_clip(entry):
                keys.add(f"{class_name}/{entry.name}")
            else:
                ignored.append(f"{class_name}/{_printable(entry.name)}")
    return keys, ignored


def _is_clip(entry: os.DirEntry[str]) -> bool:
    if not entry.name.lower().endswith(VIDEO_SUFFIXES) or _printable(entry.name) != entry.name:
        return False
    try:
        return stat.S_ISREG(entry.stat().st_mode)
    except OSError:  # a dangling link, say: a clip that cannot be decoded, and is counted as such
        return True


def _printable(name: str) -> str:
    """Escape what is not UTF-8. A name that this changes cannot be part of a key."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
