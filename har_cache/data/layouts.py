"""Layouts of a data set's folder: class folders; such in train/, val/ and test/; or videos that no class is told of."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import DataError
from .folders import VIDEO_SUFFIXES, folders, inside, is_clip, printable, scan
from .hmdb51 import LIST_FOLDER, VIDEO_FOLDER
from .keys import class_of, to_keys
from .splits import SUBSET_WORDS, UCF101_LIST_FOLDER, Subsets

UNLABELLED = "unlabelled"  # the class of clips whose class is not told

VIDEO_FOLDERS = ("videos", "Videos", VIDEO_FOLDER, "UCF-101")
_NO_CLASSES = frozenset({"splits", LIST_FOLDER, UCF101_LIST_FOLDER, "lost+found"})
_SHOWN = 3


@dataclass(frozen=True)
class Layout:
    """Clips of a data set as they were found. `places`: the file of each by key, relative to `root`; `by_key`: whether
    that is the key itself; `subsets`: where the layout tells them, by key, and `told_by` what, in words; `sources`:
    where a list tells them, by key; `missing`: keys of listed clips that are not on disk; `labelled`: whether their
    classes are known.
    """

    root: Path
    places: Mapping[str, str]
    ignored: tuple[str, ...] = ()
    subsets: Mapping[str, Subsets] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    by_key: bool = False
    labelled: bool = True
    told_by: str = ""


def find_layout(data: Path) -> Layout:
    """Whichever of the layouts a folder has, at `data/videos` and the like or `data` itself, or a file. Raises
    DataError, which says what is there, where it has none.
    """
    if data.is_file() and data.name.lower().endswith(VIDEO_SUFFIXES):
        if printable(data.name) != data.name:
            raise DataError(f"{printable(str(data))}: its name is not UTF-8; rename it")
        return Layout(data.parent, {f"{UNLABELLED}/{data.name}": data.name}, labelled=False)
    roots = [*inside(data, *VIDEO_FOLDERS), data]
    for find in (_class_folders, _subset_folders, _flat_folder):
        for root in roots:
            if found := find(root):
                return found if found.by_key else _relative_to(found, data)
    raise _no_layout(data, roots)


def class_folders(data: Path) -> Layout:
    """Class folders, wherever they are in a folder. Raises DataError where there are none."""
    roots = [*inside(data, *VIDEO_FOLDERS), data]
    if found := next(filter(None, map(_class_folders, roots)), None):
        return found
    raise _no_layout(data, roots)


def clip_files(data: Path, keys: Iterable[str], places: Mapping[str, str]) -> dict[str, Path]:
    """Where the file of each clip is, by key, if it is there; `places`: relative to `data`, of those that are not in
    class folders. Raises DataError where a folder cannot be read, or there are no class folders and should be.
    """
    keys = list(keys)
    data = data.parent if data.is_file() else data
    scan(data)
    root = data if all(key in places for key in keys) else class_folders(data).root
    return {key: data / places[key] if key in places else root / key for key in keys}


def _class_folders(root: Path) -> Layout | None:
    found: list[str] = []
    ignored: list[str] = []
    for class_name in folders(root) - _NO_CLASSES:
        if printable(class_name) != class_name:
            ignored.append(printable(class_name))
            continue
        for entry in scan(root / class_name):
            (found if is_clip(entry) else ignored).append(f"{class_name}/{printable(entry.name)}")
    classes = {class_of(key) for key in found}
    if classes.issubset(VIDEO_FOLDERS) or _are_subsets(root, classes):
        return None
    return Layout(root, {key: key for key in sorted(found)}, tuple(sorted(ignored)), by_key=True)


def _are_subsets(root: Path, classes: set[str]) -> bool:
    """Whether what look like classes are the parts of a split: one alone, of videos only, is a class of this name."""
    parts = SUBSET_WORDS.keys() >= {name.lower() for name in classes}
    return parts and (len(classes) > 1 or _subset_folders(root) is not None)


def _subset_folders(root: Path) -> Layout | None:
    subsets: dict[str, int] = {}
    classes: dict[str, str] = {}
    ignored: list[str] = []
    for name in sorted(folders(root)):
        if (subset := SUBSET_WORDS.get(name.lower())) and (part := _class_folders(root / name)):
            ignored += [f"{name}/{inner}" for inner in part.ignored]
            for key in part.places:
                subsets[f"{name}/{key}"] = subset
                classes[f"{name}/{key}"] = class_of(key)
    keys = to_keys(classes)
    return (
        Layout(
            root,
            {key: place for place, key in keys.items()},
            tuple(ignored),
            {keys[place]: (subset,) for place, subset in subsets.items()},
            told_by="the folders train, val and test",
        )
        if keys
        else None
    )


def _flat_folder(root: Path) -> Layout | None:
    entries = scan(root)
    if folders(root) - _NO_CLASSES:
        return None
    videos = [entry.name for entry in entries if is_clip(entry)]
    return Layout(root, {f"{UNLABELLED}/{name}": name for name in sorted(videos)}, labelled=False) if videos else None


def _relative_to(found: Layout, data: Path) -> Layout:
    """The same layout, its root the data set's own folder."""
    if found.root == data:
        return found
    above = found.root.relative_to(data).as_posix()
    return Layout(
        data,
        {key: f"{above}/{place}" for key, place in found.places.items()},
        tuple(f"{above}/{name}" for name in found.ignored),
        found.subsets,
        labelled=found.labelled,
        told_by=found.told_by,
    )


def _no_layout(data: Path, roots: list[Path]) -> DataError:
    seen = "; ".join(f"{root} {_seen(root)}" for root in roots)
    return DataError(
        f"no videos in class folders: {seen}; expected <class>/<video file> in {data / 'videos'}, in "
        f"{data / VIDEO_FOLDER} or in the folder itself, or class folders in train/, val/ and test/ there, with files "
        f"named {', '.join(f'*{suffix}' for suffix in VIDEO_SUFFIXES)}; or pass --list FILE"
    )


def _seen(root: Path) -> str:
    """What a folder holds, in words."""
    inner, videos = _look(root)
    names = [name for name in inner if name not in _NO_CLASSES]
    parts = [name for name in names if name.lower() in SUBSET_WORDS]
    if parts and not any(_look(root / name)[0] for name in parts):
        them = "them" if len(parts) > 1 else "it"
        return f"holds {' and '.join(f'{name}/' for name in parts)} with no class folders in {them}"
    if deep := _deep(root, names):
        return f"holds {_count(len(names), 'folder')} whose videos lie in folders of their own, as {deep}"
    empty = sum(not _look(root / name)[1] for name in names)
    held = [_count(len(videos), "video")] * bool(videos) + [f"{_count(empty, 'folder')} without videos"] * bool(empty)
    return f"holds {' and '.join(held) or 'no videos'}"


def _deep(root: Path, names: list[str]) -> str:
    """A video that lies one folder deeper than in class folders, relative to the root; empty where there is none."""
    for name in names[:_SHOWN]:
        for inner in _look(root / name)[0][:_SHOWN]:
            if videos := _look(root / name / inner)[1]:
                return printable(f"{name}/{inner}/{videos[0]}")
    return ""


def _look(folder: Path) -> tuple[list[str], list[str]]:
    """The folders in a folder, and the videos; none where it cannot be read: this only explains another error."""
    try:
        return sorted(folders(folder)), sorted(entry.name for entry in scan(folder) if is_clip(entry))
    except DataError:
        return [], []


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
