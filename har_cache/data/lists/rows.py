"""Lists of clips as people have them, read line by line: tables with a header, and lines `<path> <label>`."""

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ...errors import DataError
from ..folders import read_lines, read_text
from ..splits import SUBSET_WORDS

COLUMNS = "path, label, split or subset (train, val or test; or split1, split2, ... for several splits) and source"
_TABLES = (".csv", ".tsv")
_DELIMITERS = ",\t;"
_SUBSET_COLUMN = re.compile(r"(?:split|subset)([1-9][0-9]?)?")
_SPLIT_OF = re.compile(r"(train|val|test)([1-9][0-9]?)?=(.+)", re.DOTALL)


@dataclass(frozen=True)
class Row:
    """A clip of a list: its file, as it is written there, and what is said of it; `subsets`: by split, from 1 on."""

    listed_in: Path
    where: str  # file and line, in words
    path: str
    label: str
    subsets: Mapping[int, int] = field(default_factory=dict)
    source: str = ""


def read_rows(lists: Sequence[str]) -> list[Row]:
    """The clips of lists as `--list` has them: a file, or `train=`, `val=` or `test=` before one that says which clips
    are in that subset, of the first split or, as `train2=`, of another.

    Raises DataError, with file and line: a list that cannot be read or names no clip, an unknown column, a clip without
    a path or a label, a subset that is none; or lists of which some tell subsets and some do not.
    """
    rows: list[Row] = []
    told: dict[bool, str] = {}
    for given in lists:
        match = _SPLIT_OF.fullmatch(given)
        path = Path(match[3] if match else given)
        subsets = {int(match[2] or 1): SUBSET_WORDS[match[1]]} if match else {}
        found = list(_read(path, subsets))
        if not found:
            raise DataError(
                f"{path}: names no clip; expected a table with columns {COLUMNS}, or lines '<path> <label>'"
            )
        told[any(row.subsets for row in found)] = given
        rows += found
    if False in told and len(lists) > 1:
        raise DataError(
            f"--list {told[False]}: does not say which clips train and test, of several lists: write --list "
            "train=FILE, --list val=FILE and --list test=FILE (train2=FILE, ... of a second split)"
        )
    return rows


def list_path(given: str) -> Path:
    """The file of a list as `--list` has it."""
    match = _SPLIT_OF.fullmatch(given)
    return Path(match[3] if match else given)


def _read(path: Path, subsets: Mapping[int, int]) -> Iterator[Row]:
    first = next((line for _, line in read_lines(path)), "")
    delimiter = max(_DELIMITERS, key=first.count)
    cells = _header(first, delimiter)
    table = path.suffix.lower() in _TABLES and delimiter in first
    if table or not {"path", "label"}.isdisjoint(cells):
        return _read_table(path, delimiter, subsets)
    return _read_plain(path, subsets)


def _read_plain(path: Path, subsets: Mapping[int, int]) -> Iterator[Row]:
    for where, line in read_lines(path):
        *names, label = line.strip().rsplit(maxsplit=1)
        if not names:
            raise DataError(f"{where}: expected '<path> <label>', found {line.strip()[:100]!r}")
        yield Row(path, where, names[0], label, subsets)


def _read_table(path: Path, delimiter: str, subsets: Mapping[int, int]) -> Iterator[Row]:
    reader = csv.reader(io.StringIO(read_text(path), newline=""), delimiter=delimiter, strict=True)
    columns: list[str] = []
    try:
        for cells in reader:
            where = f"{path}, line {reader.line_num}"
            if not any(map(str.strip, cells)):
                continue
            if not columns:
                columns = _columns(cells, where, bool(subsets))
            elif len(cells) > len(columns):
                raise DataError(
                    f"{where}: {len(cells)} cells under {len(columns)} columns; quote what has {delimiter!r}"
                )
            else:
                yield _row(path, where, dict(zip(columns, map(str.strip, cells), strict=False)), subsets)
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: is no table: {error}") from error


def _header(line: str, delimiter: str) -> list[str]:
    return [cell.strip().strip('"').lower() for cell in line.split(delimiter)]


def _columns(cells: Sequence[str], where: str, told: bool) -> list[str]:
    """The names of the columns; those of subsets are `split1`, ..."""
    columns = []
    for cell in cells:
        name = cell.strip().lower()
        if match := _SUBSET_COLUMN.fullmatch(name):
            name = f"split{match[1] or 1}"
        elif name not in ("path", "label", "source"):
            raise DataError(f"{where}: unknown column {cell.strip()!r}; known are {COLUMNS}")
        columns.append(name)
    if twice := {name for name in columns if columns.count(name) > 1}:
        raise DataError(f"{where}: two columns say the same ({min(twice)}); keep one")
    if lacking := [name for name in ("path", "label") if name not in columns]:
        raise DataError(f"{where}: there is no column {lacking[0]}; expected {COLUMNS}")
    if told and any(name.startswith("split") for name in columns):
        raise DataError(f"{where}: has a column of subsets, and --list says train=, val= or test= before: keep one")
    return columns


def _row(path: Path, where: str, cells: Mapping[str, str], subsets: Mapping[int, int]) -> Row:
    for name in ("path", "label"):
        if not cells.get(name):
            raise DataError(f"{where}: {name} is missing")
    numbers = {}
    for column, word in cells.items():
        if column.startswith("split"):
            if word and word.lower() not in SUBSET_WORDS:
                raise DataError(f"{where}: {word[:100]!r} is no subset; expected train, val or test, or nothing")
            if word:
                numbers[int(column.removeprefix("split"))] = SUBSET_WORDS[word.lower()]
    return Row(path, where, cells["path"], cells["label"], {**subsets, **numbers}, cells.get("source", ""))
