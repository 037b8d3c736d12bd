"""A data set on disk -> an index of its clips, classes, splits and sources.

A data set is a folder of class folders that hold video files, with or without lists in the format of HMDB51
(Kuehne et al., ICCV 2011): a file `<class>_test_split{1,2,3}.txt` of lines `<file name> <0|1|2>` each.
No file is opened here but the lists: whether a clip can be decoded is found out when it is.
"""

import hashlib
import os
import re
import stat
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ..errors import DataError
from ..settings import SPLITS
from .hmdb51 import LIST_FOLDER, LIST_NAME, VIDEO_FOLDER

UNUSED, TRAIN, TEST = 0, 1, 2
TEST_SHARE = 0.3
VIDEO_SUFFIXES = tuple(".avi .mp4 .mkv .webm .mov .m4v .mpg .mpeg .ts .wmv .flv .3gp .ogv".split())  # noqa: SIM905

_NO_CLASSES = frozenset({"splits", LIST_FOLDER, "lost+found"})
_UCF101_NAME = re.compile(r"(v_.+_g[0-9]+)_c[0-9]+")

Subsets = tuple[int, int, int]  # in split 1, 2, 3: TRAIN, TEST or UNUSED


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
    lists = _find_lists(data, splits)
    drawn = (_draw_split(sources, f"{seed} {split}") for split in SPLITS)
    first, second, third = _read_lists(lists) if lists else drawn
    subsets = {
        key: (first.get(key, UNUSED), second.get(key, UNUSED), third.get(key, UNUSED))
        for key in {*first, *second, *third}
    }
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


def class_of(key: str) -> str:
    """The class in the key of a clip or of a source."""
    return key.partition("/")[0]


def source_of(key: str) -> str:
    """Name the film or upload that a clip was cut from, as `<class>/<source>`, by the clip's key.

    In HMDB51 it stands before the last `_<class>_` of the file name: titles contain the class too, as in
    `How_to_pour_wine_..._pour_...`. In UCF101 it is the group, `v_<Class>_g08`. Other files are their own.
    """
    class_name, _, file_name = key.partition("/")
    stem = Path(file_name).stem
    # The class inside a UCF101 name may differ from its folder's in case, so the pattern alone decides.
    if group := _UCF101_NAME.fullmatch(stem):
        return f"{class_name}/{group[1]}"
    return f"{class_name}/{file_name.rpartition(f'_{class_name}_')[0] or stem}"


def read_list(path: Path) -> dict[str, int]:
    """Read one split list: file name -> UNUSED, TRAIN or TEST. `DataError` names the file and the line."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the split list {path} as UTF-8 text: {error}") from error
    numbers: dict[str, int] = {}
    # Not splitlines(): it also breaks at characters that a file name may contain.
    for count, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}, line {count}"
        name, number = _parse_line(line, where)
        if numbers.setdefault(name, number) != number:
            raise DataError(f"{where}: {name!r} is {number} here but {numbers[name]} before; keep one")
    return numbers


def _parse_line(line: str, where: str) -> tuple[str, int]:
    *names, number = line.rsplit(maxsplit=1)
    if not names or number not in ("0", "1", "2"):
        raise DataError(f"{where}: expected '<file name> <0|1|2>', found {line.strip()[:100]!r}")
    if names[0] in (".", "..") or any(character in names[0] for character in "/\\\0"):
        raise DataError(f"{where}: expected the name of a file in the class folder, found {names[0][:100]!r}")
    return names[0], int(number)


def _find_root(data: Path) -> tuple[Path, set[str], list[str]]:
    for root in [*_inside(data, "videos", VIDEO_FOLDER), data]:
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
    for class_name in _folders(root) - _NO_CLASSES:
        if _printable(class_name) != class_name:
            ignored.append(_printable(class_name))
            continue
        for entry in _scan(root / class_name):
            if _is_clip(entry):
                keys.add(f"{class_name}/{entry.name}")
            else:
                ignored.append(f"{class_name}/{_printable(entry.name)}")
    return keys, ignored


def _scan(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise DataError(f"cannot read {folder}: {error.strerror}; check path and permissions") from error


def _folders(parent: Path) -> set[str]:
    return {entry.name for entry in _scan(parent) if _is_folder(entry)}


def _inside(parent: Path, *names: str) -> list[Path]:
    present = _folders(parent)
    return [parent / name for name in names if name in present]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to where we may not look: scanning it will say so
        return True


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


def _find_lists(data: Path, splits: Path | None) -> list[tuple[str, int, Path]]:
    """The class, split and path of every list, all from one folder; none where splits are to be drawn."""
    places = [splits] if splits else _inside(data, "splits", LIST_FOLDER)
    lists = next(filter(None, map(_lists_in, places)), [])
    if splits and not lists:
        raise DataError(f"no split lists in {splits}: expected files named <class>_test_split{{1,2,3}}.txt")
    return lists


def _lists_in(folder: Path) -> list[tuple[str, int, Path]]:
    matches = [LIST_NAME.fullmatch(entry.name) for entry in _scan(folder)]
    lists = sorted((match[1], int(match[2]), folder / match[0]) for match in matches if match)
    return lists or next(map(_lists_in, _inside(folder, LIST_FOLDER)), [])  # as the archive unpacks


def _read_lists(lists: Iterable[tuple[str, int, Path]]) -> list[dict[str, int]]:
    """For each split: key -> UNUSED, TRAIN or TEST."""
    numbers: list[dict[str, int]] = [{} for _ in SPLITS]
    for class_name, split, path in lists:
        for name, number in read_list(path).items():
            numbers[split - 1][f"{class_name}/{name}"] = number
    return numbers


def _draw_split(sources: Mapping[str, str], salt: str) -> dict[str, int]:
    """Key -> TRAIN or TEST: in random order, each source that brings its class nearer to its share is taken.

    One with 60% of its class or more never does, nor does the last one left. So of two sources or more, at
    least one is taken and one is not; a single one is not taken.
    """
    clips = Counter(sources.values())
    lacking: dict[str, float] = defaultdict(float)
    for source, count in clips.items():
        lacking[class_of(source)] += TEST_SHARE * count
    taken = set()
    # Hashes, not random.shuffle: the order is the same in every Python, and does not depend on the folder's.
    for source in sorted(clips, key=lambda source: hashlib.sha256(f"{salt} {source}".encode()).digest()):
        class_name = class_of(source)
        if abs(lacking[class_name] - clips[source]) < abs(lacking[class_name]):
            lacking[class_name] -= clips[source]
            taken.add(source)
    return {key: TEST if source in taken else TRAIN for key, source in sources.items()}
