"""Files that are whole or absent, JSON that shows any flipped bit, CSV."""

import contextlib
import csv
import errno
import hashlib
import io
import json
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from ..errors import FileError
from .failpoints import failpoint

_TEMPORARY = ".tmp-"
_ABANDONED_S = 3600.0
_SEAL = "sha256"
# At the top level alone a key stands behind one space, and no string holds a line break.
_SEAL_LINE = re.compile(rb'\n "sha256": "(?P<sha256>[0-9a-f]{64})"(?P<comma>,?)')

_FORMULA = re.compile(r"'*[=+\-@\t\r\n]")
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?")


def sha256(data: bytes) -> str:
    """Hex sha256 of `data`."""
    return hashlib.sha256(data).hexdigest()


def file_sha256(path: Path) -> str:
    """Hex sha256 of a file's content. Raises FileError where it cannot be read."""
    try:
        with _opened(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {error.strerror}") from error


def write_file(path: Path, data: bytes) -> None:
    """Put `data` at `path` for good: a unique temporary file beside it, fsync, rename, fsync of the directory.

    A kill at any moment leaves the old file or the new one, and two writers do no harm. Raises FileError when
    the disk is full or the directory cannot be written.
    """
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=_TEMPORARY, dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                failpoint(f"opened:{path.name}")
                file.write(data)
                place(file, Path(temporary), path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        sync_directory(path.parent)
    except OSError as error:
        raise FileError(f"{path}: cannot be written: {error.strerror}; what was finished before is kept") from error


def place(file: IO[bytes], temporary: Path, path: Path) -> None:
    """Move the open file at `temporary` to `path`: its content is on the disk before its name is. Raises OSError."""
    file.flush()
    failpoint(f"written:{path.name}")
    os.fchmod(file.fileno(), 0o644)
    os.fsync(file.fileno())
    failpoint(f"synced:{path.name}")
    temporary.replace(path)
    failpoint(f"renamed:{path.name}")


def sync_directory(path: Path) -> None:
    """Put the names in a directory on the disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directory(path: Path) -> None:
    """Create a directory and those above it. Raises FileError where that is not allowed."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"{path}: cannot be created: {error.strerror}; choose another directory") from error


def foreign_names(directory: Path, own: Iterable[str]) -> set[str]:
    """Names in a directory that are neither hidden nor among `own`. Raises FileError where it cannot be read."""
    try:
        return {path.name for path in directory.iterdir() if not path.name.startswith(".")} - {*own}
    except OSError as error:
        raise FileError(f"{directory}: cannot be read: {error.strerror}") from error


def remove_file(path: Path) -> None:
    """Remove a file, if it is there. Raises FileError where that is not allowed."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise FileError(f"{path}: cannot be removed: {error.strerror}") from error


def remove_temporaries(directory: Path, alone: bool = False) -> None:
    """Remove what killed writers left behind, but not, unless this one is `alone`, what another may be writing now."""
    for path in directory.glob(f"{_TEMPORARY}*"):
        with contextlib.suppress(OSError):  # another writer was faster
            if alone or time.time() - path.stat().st_mtime > _ABANDONED_S:
                path.unlink()


def seal(content: Mapping[str, Any], in_order: bool = False) -> bytes:
    """`content`, which is not empty, as JSON with its own sha256 in it, so that every byte is checked: canonical, or,
    for people, in the order of its keys.
    """
    body = {key: value for key, value in content.items() if key != _SEAL}
    return _canonical({**body, _SEAL: sha256(_canonical(body, in_order))}, in_order)


def unseal(data: bytes, path: Path) -> dict[str, Any]:
    """The content that `seal` wrote. Raises FileError, naming `path`, if a single bit of it has changed."""
    return _checked(_parsed(data), data, path)


def read_sealed_json(path: Path, unsealed: str) -> dict[str, Any]:
    """The object in a JSON file that `seal` wrote, or one of the schema `unsealed`, of before such files had a seal.

    Raises FileError where it cannot be read, or was changed.
    """
    data = read_file(path)
    content = _object(data, path)
    is_of_before = content.get("schema") == unsealed and _SEAL not in content
    return content if is_of_before else _checked(content, data, path)


def _checked(content: Any, data: bytes, path: Path) -> dict[str, Any]:
    if not (isinstance(content, dict) and _is_intact(data)):
        raise FileError(f"{path}: damaged or edited (its content does not match its own sha256)")
    return content


def _parsed(data: bytes) -> Any:
    """What JSON says; None where it is none."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _is_intact(data: bytes) -> bool:
    """Whether the rest is what was sealed: told from the bytes, since to write them again takes ten times as long."""
    if not (line := _SEAL_LINE.search(data)):
        return False
    before, after = data[: line.start()], data[line.end() :]
    rest = before + after if line["comma"] else before.removesuffix(b",") + after
    return sha256(rest) == line["sha256"].decode()


def read_file(path: Path) -> bytes:
    """A file's bytes. Raises FileError where it cannot be read."""
    try:
        with _opened(path) as file:
            return file.read()
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {error.strerror}") from error


def _opened(path: Path) -> io.BufferedReader:
    """A file open for reading: neither a pipe, which would wait for its writer, nor a device, which may have no end.
    Raises OSError.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        if not stat.S_ISREG(mode := os.fstat(descriptor).st_mode):
            code = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
            raise OSError(code, os.strerror(code) if code == errno.EISDIR else "not a regular file")
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def to_json(content: Mapping[str, Any]) -> bytes:
    """`content` as JSON for people: the order of its keys, one to a line."""
    return (json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises FileError where it cannot be read, or holds none."""
    return _object(read_file(path), path)


def _object(data: bytes, path: Path) -> dict[str, Any]:
    content = _parsed(data)
    if not isinstance(content, dict):
        raise FileError(f"{path}: damaged (no JSON object)")
    return content


def to_csv(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    """A table as CSV, of the dialect that quotes line breaks of any kind.

    A text that a spreadsheet would run as a formula gets a `'` before it, and the whole table is then quoted: by that
    `read_csv` knows to take it off.
    """
    table = [list(header), *map(list, rows)]
    safe = [[f"'{cell}" if _would_run(cell) else cell for cell in row] for row in table]
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_MINIMAL if safe == table else csv.QUOTE_ALL).writerows(safe)
    return text.getvalue().encode()


def read_csv(path: Path) -> list[list[str]]:
    """The rows of a CSV file, its header first, as `to_csv` was given them. Raises FileError where it cannot be read,
    or is no CSV in UTF-8.
    """
    try:
        text = read_file(path).decode()
        table = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise FileError(f"{path}: damaged (no CSV in UTF-8)") from error
    if not text.startswith('"'):
        return table
    return [[cell[1:] if cell.startswith("'") and _would_run(cell) else cell for cell in row] for row in table]


def _would_run(cell: object) -> bool:
    """Whether it is a text that a spreadsheet takes for a formula, or one that `to_csv` has made of one."""
    return isinstance(cell, str) and bool(_FORMULA.match(cell)) and not _NUMBER.fullmatch(cell)


@contextmanager
def scratch(path: Path) -> Iterator[Path]:
    """An empty folder, gone at the end, or cleared by the next run where this one is killed."""
    try:
        shutil.rmtree(path, ignore_errors=True)
        make_directory(path)
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _canonical(content: Mapping[str, Any], in_order: bool = False) -> bytes:
    return (json.dumps(content, sort_keys=not in_order, indent=1, ensure_ascii=True, allow_nan=False) + "\n").encode()
