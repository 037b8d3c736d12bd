"""Splits of a data set: read from lists in the format of HMDB51, or drawn by source.

A list is a file `<class>_test_split{1,2,3}.txt` of lines `<file name> <0|1|2>` each (Kuehne et al., ICCV 2011).
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ..errors import DataError
from ..settings import SPLITS
from .folders import inside, scan
from .hmdb51 import LIST_FOLDER, LIST_NAME
from .keys import class_of

UNUSED, TRAIN, TEST = 0, 1, 2
VALIDATE = 3  # of the training list, and set apart by whoever made it to validate on
SUBSETS = frozenset({UNUSED, TRAIN, TEST, VALIDATE})
TEST_SHARE = 0.3

Subsets = tuple[int, ...]  # in split 1, 2, ...: one of SUBSETS


def find_lists(data: Path, splits: Path | None) -> list[tuple[str, int, Path]]:
    """The class, split and path of every list, all from one folder; none where splits are to be drawn."""
    places = [splits] if splits else inside(data, "splits", LIST_FOLDER)
    lists = next(filter(None, map(_lists_in, places)), [])
    if splits and not lists:
        raise DataError(f"no split lists in {splits}: expected files named <class>_test_split{{1,2,3}}.txt")
    return lists


def _lists_in(folder: Path) -> list[tuple[str, int, Path]]:
    matches = [LIST_NAME.fullmatch(entry.name) for entry in scan(folder)]
    lists = sorted((match[1], int(match[2]), folder / match[0]) for match in matches if match)
    return lists or next(map(_lists_in, inside(folder, LIST_FOLDER)), [])  # as the archive unpacks


def read_lists(lists: Iterable[tuple[str, int, Path]]) -> list[dict[str, int]]:
    """For each split: key -> UNUSED, TRAIN or TEST."""
    numbers: list[dict[str, int]] = [{} for _ in SPLITS]
    for class_name, split, path in lists:
        for name, number in read_list(path).items():
            numbers[split - 1][f"{class_name}/{name}"] = number
    return numbers


def by_clip(splits: Sequence[Mapping[str, int]]) -> dict[str, Subsets]:
    """Key -> UNUSED, TRAIN or TEST in split 1, 2 and 3; `splits`: for each split, key -> one of these."""
    first, second, third = splits
    keys = sorted({*first, *second, *third})
    return {key: (first.get(key, UNUSED), second.get(key, UNUSED), third.get(key, UNUSED)) for key in keys}


def draw_splits(sources: Mapping[str, str], seed: int) -> list[dict[str, int]]:
    """For each split: key -> TRAIN or TEST, whole sources on one side; `sources`: of each clip, by key. About 30% of a
    class are tested, always the same for the same `seed`.
    """
    return [_draw_split(sources, f"{seed} {split}") for split in SPLITS]


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
