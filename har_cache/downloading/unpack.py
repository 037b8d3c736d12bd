"""A RAR that nobody vouches for -> the files that are wanted of it, each whole and in its place.

What the archive says is read, and what it holds is unpacked, in a process (`rarstream`) that can write no file and is
killed when it stalls, or sends more than it should. The files are written here, under names that the caller chose.
"""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..errors import DownloadError
from . import rarstream
from .extractors import HOW_TO_GET_ONE, Extractor

_CHUNK = 1 << 20
_LONGEST_HEADER = 4096


class BadArchiveError(DownloadError):
    """An archive is damaged, or holds what it should not, or no extractor manages it."""


class NoExtractorError(DownloadError):
    """An archive is compressed, and no program that can unpack it is here."""


class _FailedError(Exception):
    """One extractor did not manage; another one may."""


@dataclass(frozen=True)
class Limits:
    """What one archive may cost: entries in it, bytes it unpacks to, seconds without a byte, seconds of CPU time."""

    max_members: int = 20_000
    max_bytes: int = 8 << 30
    stall_s: float = 120.0
    cpu_s: int = 3600


def unpack(
    archive: Path,
    wanted: Mapping[str, Path],
    staging: Path,
    limits: Limits,
    extractors: Iterable[Extractor],
    direct: bool = True,
) -> Iterator[Path]:
    """Put each member whose file name is in `wanted` at the path that stands there; gives each path once it is whole.

    `staging`: a folder of the same file system, for the file being written. `extractors` are tried in turn, and only
    where something is compressed, or `direct` is false. Members that are not wanted, or not there, are no error.

    Raises BadArchiveError where the archive is damaged or holds what it should not, or no extractor can unpack it;
    NoExtractorError where one is needed and none is here; DownloadError where a file cannot be written. What is in
    place by then stays.
    """
    left = dict(wanted)
    failures = []
    for extractor in [*extractors] or [Extractor("", ())]:
        request = rarstream.Request(
            str(archive.absolute()),
            tuple(left),
            limits.max_members,
            limits.max_bytes,
            limits.cpu_s,
            extractor.command,
            direct,
        )
        try:
            for name in _place_members(request, left, staging, limits):
                yield left.pop(name)
            return
        except _FailedError as failure:
            failures.append(f"{extractor.name} {failure}".strip())
    raise BadArchiveError(f"{archive}: cannot be unpacked: {'; '.join(failures)}; {HOW_TO_GET_ONE}")


def _place_members(
    request: rarstream.Request, wanted: Mapping[str, Path], staging: Path, limits: Limits
) -> Iterator[str]:
    spent = 0
    with _stream(request, staging, limits.stall_s) as stream:
        while (header := stream.line()) is not None:
            if not header:  # a sign of life
                continue
            name, size, crc = _parse(header)
            spent += size
            if name not in wanted or size < 0 or spent > limits.max_bytes:
                raise BadArchiveError(f"{request.archive}: sends what was not asked for: {name!r:.200}, {size} bytes")
            with incoming(staging, wanted[name]) as file:
                found = 0
                for chunk in stream.exactly(size):
                    file.write(chunk)
                    found = zlib.crc32(chunk, found)
                if found != crc:
                    raise _FailedError(f"gives wrong bytes for {name!r:.200} (its CRC32 does not match)")
            yield name


def _parse(header: bytes) -> tuple[str, int, int]:
    try:
        content = json.loads(header)
        return str(content["name"]), int(content["size"]), int(content["crc"])
    except (ValueError, KeyError, TypeError):
        raise _FailedError("sends what makes no sense") from None


@contextmanager
def incoming(staging: Path, target: Path) -> Iterator["tempfile._TemporaryFileWrapper[bytes]"]:
    """A file that is at `target` once it was written without an error, and nowhere otherwise.

    A kill leaves all of it or nothing; a crash of the machine may leave an empty file, unless the caller syncs.
    `staging`: a folder of the same file system. Raises DownloadError where it cannot be written.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=staging, delete=False) as file:
            try:
                yield file
                file.flush()
                os.fchmod(file.fileno(), 0o644)
                Path(file.name).replace(target)
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise
    except OSError as error:
        raise DownloadError(
            f"{target}: cannot be written: {error.strerror}; make room, and run the same command again to go on"
        ) from error


class _Stream:
    """What the process sends, as it comes in; its end is an error unless it ended well."""

    def __init__(self, process: "subprocess.Popen[bytes]", archive: str, stall_s: float) -> None:
        assert process.stdout is not None
        self._process = process
        self._source = process.stdout.fileno()
        self._archive = archive
        self._stall_s = stall_s
        self._buffer = b""

    def line(self) -> bytes | None:
        """The next line; None at the end of all."""
        while b"\n" not in self._buffer:
            if len(self._buffer) > _LONGEST_HEADER:
                raise _FailedError("sends what makes no sense")
            chunk = self._receive()
            if not chunk:
                self._check_end()
                return None
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def exactly(self, size: int) -> Iterator[bytes]:
        """The next `size` bytes, in pieces."""
        while size:
            chunk = self._buffer or self._receive()
            if not chunk:
                self._check_end()
                raise _FailedError("stopped in the middle of a file")
            self._buffer = chunk[size:]
            yield chunk[:size]
            size -= len(chunk[:size])

    def _receive(self) -> bytes:
        ready, _, _ = select.select([self._source], [], [], self._stall_s)
        if not ready:
            raise _FailedError(f"sent nothing for {self._stall_s:.0f} s")
        return os.read(self._source, _CHUNK)

    def _check_end(self) -> None:
        status = self._process.wait()
        if status == 0:
            return
        assert self._process.stderr is not None
        reason = self._process.stderr.read().decode(errors="replace").strip().rpartition("\n")[2]
        if status == rarstream.NEEDS_EXTRACTOR:
            raise NoExtractorError(
                f"{self._archive}: is compressed, and no program that unpacks it is here; {HOW_TO_GET_ONE}"
            )
        if status == rarstream.FAILED:
            raise _FailedError(reason)
        if status < 0:
            raise BadArchiveError(f"{self._archive}: cannot be read: {signal.Signals(-status).name} ended its reader")
        raise BadArchiveError(f"{self._archive}: refused: {reason}")


@contextmanager
def _stream(request: rarstream.Request, cwd: Path, stall_s: float) -> Iterator[_Stream]:
    """The stream of a process that does not outlive this block, nor do those that it started."""
    process = subprocess.Popen(
        # -P: no module of the current directory can pose as one of Python's own.
        [sys.executable, "-P", "-m", "har_cache.downloading.rarstream"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=cwd,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
        start_new_session=True,
    )
    try:
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError), process.stdin as stdin:
            stdin.write(request.line())
        yield _Stream(process, request.archive, stall_s)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for pipe in (process.stdout, process.stderr):
            assert pipe is not None
            pipe.close()
