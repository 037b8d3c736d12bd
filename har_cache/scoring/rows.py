"""Tables that people write: CSV with a header, and each row's file and line; clips, found by what they are called."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ..data.keys import class_of
from ..errors import DataError
from ..storage.files import read_csv

_BYTE_ORDER_MARK = "\ufeff"  # of spreadsheets
_MOST = 3  # names in an error


Row = tuple[str, list[str]]  # where it stands, and its values


def read_table(path: Path, needed: Sequence[str], known: Iterable[str]) -> tuple[list[str], list[Row]]:
    """The header of a CSV file, and each row with its file and line. Raises HarCacheError: a file that cannot be read,
    a column that is `needed` and missing, one that is not `known`, a row of another length.
    """
    header, *rows = read_csv(path) or [[]]
    header = [name.removeprefix(_BYTE_ORDER_MARK).strip() for name in header]
    where, allowed = f"{path}, line 1", list(known)
    for name in needed:
        if name not in header:
            raise DataError(f"{where}: no column {name}; expected {', '.join(needed)} in the header")
    for i, name in enumerate(header):
        if name in header[:i]:
            raise DataError(f"{where}: column {name} is there twice")
        if name not in allowed:
            shown = ", ".join(allowed[:12]) + (", ..." if len(allowed) > 12 else "")
            raise DataError(f"{where}: unknown column {name!r}; expected some of {shown}")
    found = [(f"{path}, line {line}", row) for line, row in enumerate(rows, 2) if row]
    for where, row in found:
        if len(row) != len(header):
            raise DataError(f"{where}: {len(row)} values below {len(header)} columns")
    return header, found


class ClipNames:
    """Finds clips of a data set by key, by a path that ends in one, by where its file is in the data set (`places`, by
    key), or by a file name that one clip alone has.
    """

    def __init__(self, keys: Iterable[str], places: Mapping[str, str], data_set: str) -> None:
        self._keys = frozenset(keys)
        self._classes = {class_of(key) for key in self._keys}
        self._data_set = data_set
        self._by_place = {place: key for key, place in places.items()}
        self._by_file: dict[str, list[str]] = defaultdict(list)
        for key in sorted(self._keys):
            self._by_file[key.partition("/")[2]].append(key)

    def find(self, name: str, where: str) -> str:
        """The key of the clip. Raises DataError, which says `where`, for no clip, and for a name that several have."""
        key = self._by_place.get(name) or "/".join(name.split("/")[-2:])
        if key in self._keys:
            return key
        names_class = "/" in key and class_of(key) in self._classes  # but no clip of it
        found = [] if names_class else self._by_file.get(name.rpartition("/")[2], [])
        if not found:
            raise DataError(f"{where}: {name[:200]!r} is no clip of {self._data_set}")
        if len(found) > 1:
            several = ", ".join(found[:_MOST]) + (", ..." if len(found) > _MOST else "")
            raise DataError(f"{where}: {name[:200]!r} may be {several}: write <class>/<file name>")
        return found[0]


def read_clip_names(path: Path, rows: Sequence[tuple[str, str]], names: ClipNames) -> dict[str, int]:
    """The place of each clip among the rows, by key; `rows`: of each where it stands and what the clip is called.
    Raises DataError for a clip that is not there, or is named twice.
    """
    found: dict[str, int] = {}
    for i, (where, name) in enumerate(rows):
        key = names.find(name, where)
        if key in found:
            before = rows[found[key]][0].removeprefix(f"{path}, ")
            raise DataError(f"{where}: {key} is there twice; {before} has it too")
        found[key] = i
    return found
