"""Splits of a data set: read from the official lists of HMDB51 or UCF101, or drawn by source.

HMDB51 has a file `<class>_test_split{1,2,3}.txt` for each class, of lines `<file name> <0|1|2>` (Kuehne et al., ICCV
2011). UCF101 has `trainlist01.txt` to `trainlist03.txt`, of lines `<class>/<file name> <number of the class>`, and
`testlist01.txt` to `testlist03.txt`, without the number; its `classInd.txt` has lines `<number> <class>` (Soomro et
al., 2012).
"""

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import DataError, HarCacheError, SettingError
from ..settings.names import SPLITS
from .folders import inside, read_lines, scan
from .folds import divide, hold_out
from .hmdb51 import LIST_FOLDER, LIST_NAME
from .keys import class_of

UNUSED, TRAIN, TEST = 0, 1, 2
VALIDATE = 3  # of the training list, and set apart by whoever made it to validate on
SUBSETS = frozenset({UNUSED, TRAIN, TEST, VALIDATE})
TEST_SHARE = 0.3
# What lists and folders call them.
SUBSET_WORDS: Mapping[str, int] = {
    **dict.fromkeys(("train", "training"), TRAIN),
    **dict.fromkeys(("val", "valid", "validation"), VALIDATE),
    **dict.fromkeys(("test", "testing"), TEST),
}

UCF101_LIST_FOLDER = "ucfTrainTestlist"  # as the archive unpacks
_UCF101_LIST = re.compile(r"(train|test)list([0-9]{2})\.txt")
_UCF101_CLASSES = "classInd.txt"

Subsets = tuple[int, ...]  # in split 1, 2, ...: one of SUBSETS


class Split(NamedTuple):
    """The clips of one split, by key: to train, to validate and to test on."""

    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Split(train: {len(self.train)} clips, val: {len(self.val)}, test: {len(self.test)})"


class SplitList(NamedTuple):
    """One list: of a class, or of all where that is empty."""

    class_name: str
    split: int
    path: Path


def find_lists(data: Path, splits: Path | None) -> list[SplitList]:
    """Every list, all from one folder; none where splits are to be drawn. Raises DataError where `splits` has none."""
    places = [splits] if splits else [*inside(data, "splits", LIST_FOLDER, UCF101_LIST_FOLDER)]
    lists = next(filter(None, map(_lists_in, places)), [])
    if splits and not lists:
        raise DataError(
            f"no split lists in {splits}: expected files named <class>_test_split{{1,2,3}}.txt, or trainlist01.txt and "
            "testlist01.txt as UCF101 has them"
        )
    return lists or _ucf101_lists(data)


def _lists_in(folder: Path) -> list[SplitList]:
    matches = [LIST_NAME.fullmatch(entry.name) for entry in scan(folder)]
    lists = sorted(SplitList(match[1], int(match[2]), folder / match[0]) for match in matches if match)
    return lists or _ucf101_lists(folder) or next(map(_lists_in, inside(folder, LIST_FOLDER, UCF101_LIST_FOLDER)), [])


def _ucf101_lists(folder: Path) -> list[SplitList]:
    matches = [_UCF101_LIST.fullmatch(entry.name) for entry in scan(folder)]
    return sorted(SplitList("", int(match[2]), folder / match[0]) for match in matches if match and int(match[2]))


def read_lists(lists: Sequence[SplitList]) -> list[dict[str, int]]:
    """For each split: key -> UNUSED, TRAIN or TEST. Raises DataError, which names the file and the line."""
    least = len(SPLITS) if any(found.class_name for found in lists) else 0
    numbers: list[dict[str, int]] = [{} for _ in range(max([least, *(found.split for found in lists)]))]
    for class_name, split, path in lists:
        if class_name:
            for name, number in read_list(path).items():
                numbers[split - 1][f"{class_name}/{name}"] = number
        else:
            _read_ucf101_list(path, numbers[split - 1])
    return numbers


def by_clip(splits: Sequence[Mapping[str, int]]) -> dict[str, Subsets]:
    """Key -> UNUSED, TRAIN or TEST in split 1, 2, ...; `splits`: for each split, key -> one of these."""
    keys = sorted(set().union(*splits))
    return {key: tuple(split.get(key, UNUSED) for split in splits) for key in keys}


def draw_splits(sources: Mapping[str, str], seed: int) -> list[dict[str, int]]:
    """For each of three splits: key -> TRAIN or TEST, whole sources on one side; `sources`: of each clip, by key. About
    30% of a class are tested, always the same for the same `seed`.
    """
    return [_draw_split(sources, f"{seed} {split}") for split in SPLITS]


def fold_splits(sources: Mapping[str, str], folds: int) -> list[dict[str, int]]:
    """For each fold the same, but that each source is tested once, in all of its classes; one that is all of a class
    never is. Raises SettingError where there are fewer sources than folds.
    """
    classes = sorted(set(map(class_of, sources)))
    labels = np.array([classes.index(class_of(key)) for key in sources])
    try:
        parts = divide(labels, np.array(list(sources.values())), folds)
    except HarCacheError as error:
        raise SettingError(f"--folds {folds}: the data set has too few sources for so many folds") from error
    return [dict(zip(sources, np.where(parts == fold, TEST, TRAIN).tolist(), strict=True)) for fold in range(folds)]


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


def read_list(path: Path) -> dict[str, int]:
    """Read a list of HMDB51: file name -> UNUSED, TRAIN or TEST. `DataError` names the file and the line."""
    numbers: dict[str, int] = {}
    for where, line in read_lines(path):
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


def _read_ucf101_list(path: Path, numbers: dict[str, int]) -> None:
    """Add a list of UCF101 to the subsets of its split."""
    known = _ucf101_classes(path.parent / _UCF101_CLASSES)
    subset = TRAIN if path.name.startswith("train") else TEST
    for where, line in read_lines(path):
        key, number = _parse_ucf101_line(line, where, subset)
        if known and number and known.get(number) != class_of(key):
            raise DataError(f"{where}: class {number} is {known.get(number)} in {_UCF101_CLASSES}, not {class_of(key)}")
        if numbers.setdefault(key, subset) != subset:
            raise DataError(f"{where}: {key!r} is in the other list of this split too; keep one")


def _parse_ucf101_line(line: str, where: str, subset: int) -> tuple[str, str]:
    """The key, and the number of the class, which a test list has not."""
    key, number = line.strip(), ""
    if subset == TRAIN:
        key, _, number = key.rpartition(" ")
    parts = key.split("/")
    if len(parts) != 2 or not {"", ".", ".."}.isdisjoint(parts) or "\0" in key or (number and not number.isdecimal()):
        expected = "<class>/<file name> <number>" if subset == TRAIN else "<class>/<file name>"
        raise DataError(f"{where}: expected '{expected}', found {line.strip()[:100]!r}")
    return key, number


def _ucf101_classes(path: Path) -> dict[str, str]:
    """The class of each number, where there is such a file."""
    if not path.exists():
        return {}
    found = {}
    for where, line in read_lines(path):
        number, _, name = line.strip().partition(" ")
        if not number.isdecimal() or not name:
            raise DataError(f"{where}: expected '<number> <class>', found {line.strip()[:100]!r}")
        found[number] = name
    return found


def split_of(
    keys: Sequence[str], subsets: np.ndarray, labels: np.ndarray, sources: Sequence[str], fold: int | None = None
) -> Split:
    """The split of these clips, whose subset in it, class and source are given. With `fold`, `val` is held out of the
    training list, as `hold_out` does. Raises HarCacheError where that cannot be, or the split sets clips apart already.
    """
    train, val, test = (np.flatnonzero(subsets == subset) for subset in (TRAIN, VALIDATE, TEST))
    if fold is not None:
        if len(val):
            raise DataError("the split sets clips apart to validate on: ask for no fold")
        held = hold_out(labels[train], np.array(sources)[train], fold)
        train, val = train[~held], train[held]
    return Split(*(tuple(keys[i] for i in clips.tolist()) for clips in (train, val, test)))
