"""The wanted members of one RAR archive, as a stream on stdout. Runs in a process of its own that may be killed.

`python -m har_cache.downloading.rarstream` reads a request (one line of JSON, see `Request`) from stdin. For each
member whose file name is wanted it writes a line of JSON (name, size, crc) and then exactly `size` bytes; an empty line
is a sign of life while others are passed over.

Nothing is written to disk, here or by the extractor that is started for compressed archives: both may not add a byte
to any file (RLIMIT_FSIZE), and the extractor sends all that it unpacks through a pipe. So neither the paths in an
archive nor its links lead anywhere. An archive with an entry that a data set has no use for (a link, a path that leads
outside, an encrypted or split file) is refused as a whole.

Exit status: 0 all was sent; REFUSED, NEEDS_EXTRACTOR, FAILED with one line on stderr.
"""

import contextlib
import json
import re
import resource
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, NoReturn

import rarfile

REFUSED, NEEDS_EXTRACTOR, FAILED = 3, 4, 5

_CHUNK = 1 << 20
_MEMORY_BYTES = 4 << 30
_OUTSIDE = re.compile(r"^([/\\]|[A-Za-z]:)|(^|[/\\])\.\.([/\\]|$)")
_UNIX_KIND, _REGULAR, _FOLDER = 0xF000, 0x8000, 0x4000  # of a Unix mode
_SPLIT = 0x0003  # RAR flags of a member that begins or ends in another file


@dataclass(frozen=True)
class Request:
    """Request for the members of `archive` whose last path component is in `names`.

    `max_members` and `max_bytes` cap what the archive may hold, wanted or not. `command`, with the archive as its last
    argument, writes the contents of all members to stdout, one after another; it is used where something is compressed.
    """

    archive: str
    names: tuple[str, ...]
    max_members: int
    max_bytes: int
    cpu_s: int
    command: tuple[str, ...] = ()


def main() -> None:
    """Answer the request on stdin."""
    request = Request(**json.loads(sys.stdin.buffer.readline()))
    _confine(request.cpu_s)
    try:
        _send(request, sys.stdout.buffer)
        sys.stdout.buffer.flush()
    except rarfile.Error as error:
        _stop(REFUSED, f"damaged, or no RAR archive: {error}")


def _confine(cpu_s: int) -> None:
    """Bounds for this process and the extractor that it starts: no file may grow, memory and time are limited."""
    limits = {
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_CPU: cpu_s,
        resource.RLIMIT_AS: _MEMORY_BYTES,
    }
    for limit, value in limits.items():
        with contextlib.suppress(OSError, ValueError):  # macOS knows no limit of the address space
            resource.setrlimit(limit, (value, value))


def _stop(status: int, text: str) -> NoReturn:
    print(text, file=sys.stderr)
    sys.exit(status)


def _send(request: Request, out: IO[bytes]) -> None:
    archive = _listed(request)
    members = [info for info in archive.infolist() if not info.is_dir()]
    chosen = [info for info in members if _file_name(info) in request.names]
    _check_once(chosen)
    if all(info.compress_type == rarfile.RAR_M0 for info in chosen):
        for info in chosen:
            with archive.open(info) as stored:
                _send_member(info, iter(partial(stored.read, _CHUNK), b""), out)
        return
    if not request.command:
        _stop(NEEDS_EXTRACTOR, "compressed")
    _send_extracted(request.command, request.archive, members, {_file_name(info) for info in chosen}, out)


def _listed(request: Request) -> rarfile.RarFile:
    """The archive, every entry of it checked as it is met: a list without end is left at the cap."""
    seen = total = 0

    def check(info: rarfile.RarInfo) -> None:
        nonlocal seen, total
        seen += 1
        if seen > request.max_members:
            _stop(REFUSED, f"holds more than {request.max_members} entries")
        if info.type == rarfile.RAR_BLOCK_FILE:
            _check_member(info)
            total += info.file_size or 0
        if total > request.max_bytes:
            _stop(REFUSED, f"would unpack to more than {request.max_bytes} bytes")

    with Path(request.archive).open("rb") as file:
        if not file.read(8).startswith((rarfile.RAR_ID, rarfile.RAR5_ID)):
            _stop(REFUSED, "no RAR archive")
    # A comment may be compressed, and rarfile would start an extractor of its own choice for it.
    rarfile.RAR_MAX_COMMENT = -1
    return rarfile.RarFile(request.archive, info_callback=check, part_only=True)


def _check_member(info: rarfile.RarInfo) -> None:
    mode = (info.mode or 0) & _UNIX_KIND if info.host_os == rarfile.RAR_OS_UNIX else 0
    faults = {
        "holds a link": info.is_symlink() or info.file_redir,
        "holds what is neither a file nor a folder": mode not in (0, _REGULAR, _FOLDER),
        "holds a path that leads outside": _OUTSIDE.search(info.filename),
        "is encrypted": info.needs_password(),
        "is one part of several": info.flags & _SPLIT,
    }
    for fault in (fault for fault, found in faults.items() if found):
        _stop(REFUSED, f"{fault}: {info.filename!r:.200}")


def _check_once(chosen: Iterable[rarfile.RarInfo]) -> None:
    seen: set[str] = set()
    for info in chosen:
        name = _file_name(info)
        if name in seen:
            _stop(REFUSED, f"holds two files of the name {name!r:.200}")
        if info.CRC is None:
            _stop(REFUSED, f"holds a file without a CRC32: {name!r:.200}")
        seen.add(name)


def _file_name(info: rarfile.RarInfo) -> str:
    return info.filename.rpartition("/")[2]


def _send_member(info: rarfile.RarInfo, chunks: Iterable[bytes], out: IO[bytes]) -> None:
    header = {"name": _file_name(info), "size": info.file_size, "crc": info.CRC}
    out.write(json.dumps(header).encode() + b"\n")
    for chunk in chunks:
        out.write(chunk)
    out.flush()


def _send_extracted(
    command: tuple[str, ...], archive: str, members: Iterable[rarfile.RarInfo], names: set[str], out: IO[bytes]
) -> None:
    """Cut what the extractor sends at the sizes that the archive's list gives, in its order, to the last of `names`."""
    with _started([*command, archive]) as extractor:
        assert extractor.stdout is not None
        try:
            for info in members:
                if not names:
                    return
                chunks = _exactly(extractor.stdout, info.file_size)
                if _file_name(info) in names:
                    names.remove(_file_name(info))
                    _send_member(info, chunks, out)
                else:
                    deque(chunks, maxlen=0)
                    out.write(b"\n")
                    out.flush()
        finally:
            extractor.kill()


def _started(command: list[str]) -> "subprocess.Popen[bytes]":
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            restore_signals=False,  # SIGXFSZ stays ignored: unar tries to save its settings, and may not die of that
        )
    except OSError as error:
        _stop(FAILED, f"cannot be started: {error.strerror}")


def _exactly(stream: IO[bytes], size: int) -> Iterator[bytes]:
    while size:
        chunk = stream.read(min(size, _CHUNK))
        if not chunk:
            _stop(FAILED, "gave fewer bytes than the archive lists")
        size -= len(chunk)
        yield chunk


if __name__ == "__main__":
    main()
