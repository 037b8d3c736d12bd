"""Files that are either whole or absent, and JSON that shows any flipped bit."""

import contextlib
import hashlib
import json
import os
import re
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from .errors import CacheError

_TEMPORARY = ".tmp-"
_SEAL = "sha256"
# At the top level alone a key stands behind one space, and no string holds a line break.
_SEAL_LINE = re.compile(rb'\n "sha256": "(?P<sha256>[0-9a-f]{64})"(?P<comma>,?)')


def sha256(data: bytes) -> str:
    """Hex sha256 of `data`."""
    return hashlib.sha256(data).hexdigest()


def file_sha256(path: Path) -> str:
    """Hex sha256 of a file's content. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_file(path: Path, data: bytes) -> None:
    """Put `data` at `path` for good: a unique temporary file beside it, fsync, rename, fsync of the directory.

    A kill at any moment leaves the old file or the new one, and two writers do no harm. Raises CacheError when
    the disk is full or the directory cannot be written.
    """
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=_TEMPORARY, dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                place(file, Path(temporary), path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        sync_directory(path.parent)
    except OSError as error:
        raise CacheError(f"{path}: cannot be written: {error.strerror}; what was finished before is kept") from error


def place(file: IO[bytes], temporary: Path, path: Path) -> None:
    """Move the open file at `temporary` to `path`: its content is on the disk before its name is. Raises OSError."""
    file.flush()
    os.fchmod(file.fileno(), 0o644)
    os.fsync(file.fileno())
    temporary.replace(path)


def sync_directory(path: Path) -> None:
    """Put the names in a directory on the disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directory(path: Path) -> None:
    """Create a directory and those above it. Raises CacheError where that is not allowed."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CacheError(f"{path}: cannot be created: {error.strerror}; choose another directory") from error


def remove_file(path: Path) -> None:
    """Remove a file, if it is there. Raises CacheError where that is not allowed."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise CacheError(f"{path}: cannot be removed: {error.strerror}") from error


def remove_stale_temporaries(directory: Path, older_than_s: float = 3600) -> None:
    """Remove what killed writers left behind, but not what another one may be writing now."""
    for path in directory.glob(f"{_TEMPORARY}*"):
        with contextlib.suppress(FileNotFoundError):  # another writer was faster
            if time.time() - path.stat().st_mtime > older_than_s:
                path.unlink()


def seal(content: Mapping[str, Any]) -> bytes:
    """`content`, which is not empty, as JSON with its own sha256 in it: canonical, so that every byte is checked."""
    body = {key: value for key, value in content.items() if key != _SEAL}
    return _canonical({**body, _SEAL: sha256(_canonical(body))})


def unseal(data: bytes, path: Path) -> dict[str, Any]:
    """The content that `seal` wrote. Raises CacheError, naming `path`, if a single bit of it has changed."""
    try:
        content = json.loads(data)
    except ValueError:
        content = None
    if not (isinstance(content, dict) and _is_intact(data)):
        raise CacheError(f"{path}: damaged (its content does not match its own sha256)")
    return content


def _is_intact(data: bytes) -> bool:
    """Whether the rest is what was sealed: told from the bytes, since to write them again takes ten times as long."""
    if not (line := _SEAL_LINE.search(data)):
        return False
    before, after = data[: line.start()], data[line.end() :]
    rest = before + after if line["comma"] else before.removesuffix(b",") + after
    return sha256(rest) == line["sha256"].decode()


def read_file(path: Path) -> bytes:
    """A file's bytes. Raises CacheError where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise CacheError(f"{path}: cannot be read: {error.strerror}") from error


def _canonical(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, sort_keys=True, indent=1, ensure_ascii=True, allow_nan=False) + "\n").encode()
