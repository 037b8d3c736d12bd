"""Hostile servers and archives."""

import hashlib
import pickle
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from har_cache.downloading.download import Means, download
from har_cache.downloading.fetch import RemoteFile, RetryPolicy, fetch
from har_cache.downloading.unpack import Limits, find_extractors, unpack
from har_cache.progress import Progress
from har_cache.settings.tools import DownloadSettings

from ...helpers.rars import FIFO, FOLDER, HARDLINK, RAR4, RAR5, SYMLINK, Member, compressed, write_rar
from ...helpers.websites import Fault, website
from .case import Calls, Case, must
from .place import Place

_DATA = random.Random(0).randbytes(300_000)
_NAME = "/file.rar"
_HURRY = RetryPolicy(timeout_s=0.5, attempts=2, pause_s=0.01, window_s=0.3, least_bytes=20_000)
_LIMITS = Limits(max_members=1000, max_bytes=1 << 20, stall_s=5, cpu_s=5)
_OK, _PARTIAL = b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 206 Partial Content\r\n"
_NINES = b"9" * 5000


def servers(rng: random.Random) -> Iterator[Case]:
    """All of them."""
    found = [Case("servers", name, lambda place, f=fault: _served(place, f)) for name, fault in _FAULTS.items()]
    found += [Case("servers", f"a redirect to {to[:30]}", lambda place, t=to: _redirected(place, t)) for to in _PLACES]
    rng.shuffle(found)
    yield from found


def _served(place: Place, fault: Fault) -> Calls:
    return {"fetch": lambda: _fetch(place, fault), "fetch, with a part": lambda: _fetch(place, fault, _DATA[:1000])}


def _redirected(place: Place, to: str) -> Calls:
    where = to.replace("OUTSIDE", str(place.outside / "secret.txt"))
    return {"fetch": lambda: _fetch(place, Fault(status=302, location=where))}


def _fetch(place: Place, fault: Fault, part: bytes = b"") -> None:
    target = place.work / "got" / "file.rar"
    target.parent.mkdir(exist_ok=True)
    if part:
        target.with_name("file.rar.part").write_bytes(part)
    remote = RemoteFile(target, hashlib.sha256(_DATA).hexdigest(), 1 << 20)
    try:
        with website({_NAME: _DATA}) as site:
            site.always[_NAME] = fault
            fetch([site.url + _NAME], remote, Progress(), _HURRY)
    finally:
        must(not target.exists() or target.read_bytes() == _DATA, "other bytes than were asked for")
        sizes = [path.stat().st_size for path in target.parent.iterdir()]
        must(sum(sizes) <= 4 << 20, f"{sum(sizes)} bytes on the disk")


_PLACES = (
    "file://OUTSIDE",
    "file://localhostOUTSIDE",
    "ftp://127.0.0.1/x",
    "data:text/plain,x",
    "gopher://127.0.0.1:1/_x",
    "javascript:alert(1)",
    "local_file:///etc/passwd",
    _NAME,
    "//",
    "http://",
    "http://[::1",
    "http://127.0.0.1:99999/x",
    "http://127.0.0.1:1/\r\nX: y",
    "http://user:pass@127.0.0.1:1/",
    "http://" + "a" * 300 + "/",
    "http://127.0.0.1:1/" + "x" * 30_000,
    "http://\u202e/",
    "\x1b[2J",
)
_FAULTS = {
    "interim answers without end": Fault(raw=b"", endless=b"HTTP/1.1 100 Continue\r\n\r\n" * 100, every_s=0.001),
    "a header without end": Fault(raw=_OK + b"X: ", endless=b"x" * 60_000),
    "headers without end": Fault(raw=_OK, endless=b"X: y\r\n" * 50),
    "a file without end": Fault(raw=_OK + b"\r\n", endless=b"x" * 65536),
    "drops": Fault(raw=_OK + b"Content-Length: 300000\r\n\r\n", endless=b"x", every_s=0.02),
    "chunks of a byte": Fault(raw=_OK + b"Transfer-Encoding: chunked\r\n\r\n", endless=b"1\r\nx\r\n", every_s=0.01),
    "trailers without end": Fault(raw=_OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", endless=b"a: b\r\n" * 99),
    "a chunk of 2^70": Fault(raw=_OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 18 + b"\r\nx"),
    "a negative chunk": Fault(raw=_OK + b"Transfer-Encoding: chunked\r\n\r\n-5\r\nx"),
    "silence": Fault(falls_silent_at=0),
    "silence in the middle": Fault(falls_silent_at=100_000),
    "no answer": Fault(raw=b""),
    "a piece from elsewhere": Fault(range_from=7),
    "other bytes": Fault(data=_DATA[::-1]),
    "nothing": Fault(data=b"", raw=_OK + b"Content-Length: 0\r\n\r\n"),
    "a length too small": Fault(length=10),
    "a length too large": Fault(length=1 << 19),
    "a length beyond the limit": Fault(length=1 << 60),
    "a negative length": Fault(raw=_OK + b"Content-Length: -5\r\n\r\nxxxxx"),
    "two lengths": Fault(raw=_OK + b"Content-Length: 5\r\nContent-Length: 9\r\n\r\nxxxxxxxxx"),
    "a length of 5000 digits": Fault(raw=_OK + b"Content-Length: " + _NINES + b"\r\n\r\nx"),
    "a range of 5000 digits": Fault(raw=_PARTIAL + b"Content-Range: bytes 5-10/" + _NINES + b"\r\n\r\nx"),
    "a range of letters": Fault(raw=_PARTIAL + b"Content-Range: bytes x-y/z\r\n\r\nx"),
    "a part without a range": Fault(raw=_PARTIAL + b"\r\n" + _DATA),
    "200 headers": Fault(raw=_OK + b"X: y\r\n" * 200 + b"\r\n"),
    "a reason with escapes": Fault(raw=b"HTTP/1.1 404 \x1b[2J\x9b\x07" + b"x" * 5000 + b"\r\n\r\n"),
    "escapes alone": Fault(raw=b"\x1b[31m\x07" * 99 + b"\r\n\r\n"),
    "status 999999999": Fault(raw=b"HTTP/1.1 999999999 x\r\n\r\n"),
    "status 0": Fault(raw=b"HTTP/1.1 000 x\r\n\r\n"),
    "HTTP/9": Fault(raw=b"HTTP/9.9 200 OK\r\n\r\n" + _DATA),
    "compressed": Fault(raw=_OK + b"Content-Encoding: gzip\r\nContent-Length: 9\r\n\r\n123456789"),
    "a page": Fault(data=b"<html>log in", content_type="text/html"),
    "an absurd type": Fault(content_type="\x1b/" + "x" * 5000),
    "an absurd tag": Fault(etag='"' + "x" * 60_000 + '"'),
    "a login": Fault(status=401),
    "too many": Fault(status=429),
    "a broken range": Fault(status=416),
    "a teapot": Fault(status=418),
    "a switch of protocols": Fault(status=101),
    "no content": Fault(status=204),
}  # fmt: skip


def archives(rng: random.Random) -> Iterator[Case]:
    """All of them, of both formats."""
    found = [
        Case("archives", f"{name}, RAR{version}", _archive(members, version))
        for name, members in _MEMBERS.items()
        for version in (RAR4, RAR5)
    ]
    found += [Case("archives", name, _spoilt(spoil)) for name, spoil in _SPOILT.items()]
    rng.shuffle(found)
    yield from found


def _archive(members: list[Member], version: int) -> Callable[[Place], Calls]:
    def make(place: Place) -> Calls:
        linked = [Member(**{**vars(m), "to": m.to.replace("OUTSIDE", str(place.outside))}) for m in members]
        archive = write_rar(place.work / "hmdb51_org.rar", [Member("clap/good.avi", b"good"), *linked], version)
        return _archive_calls(place, archive)

    return make


def _spoilt(spoil: Callable[[bytes], bytes]) -> Callable[[Place], Calls]:
    def make(place: Place) -> Calls:
        archive = place.work / "hmdb51_org.rar"
        archive.write_bytes(spoil((place.world / "published" / "hmdb51_org.rar").read_bytes()))
        return _archive_calls(place, archive)

    return make


def _archive_calls(place: Place, archive: Path) -> Calls:
    return {"unpack": lambda: _unpack(place, archive), "download --from FILE": lambda: _download(place, archive)}


def _unpack(place: Place, archive: Path) -> None:
    staging, out = place.work / "staging", place.work / "out"
    staging.mkdir()
    wanted = {name: out / f"{i}.bin" for i, name in enumerate(("good.avi", "a.avi", "clap", "passwd", "secret.txt"))}
    try:
        for path in unpack(archive, wanted, staging, _LIMITS, find_extractors()):
            must(path.is_file() and not path.is_symlink(), f"{path} is no file")
    finally:
        there = {path for path in [*staging.rglob("*"), *out.rglob("*")] if not path.is_dir()}
        must(there <= set(wanted.values()), f"{there} were written")


def _download(place: Place, archive: Path) -> None:
    release = pickle.loads((place.world / "published" / "release.pickle").read_bytes())
    lists = place.world / "published" / "test_train_splits.rar"
    settings = DownloadSettings(out=place.work / "data", mirrors=(str(lists), str(archive)), unverified=True)
    try:
        download(settings, Progress(), Means(release=release, retry=_HURRY, limits=_LIMITS))
    finally:
        names = {path.name for path in (place.work / "data").rglob("*") if path.is_symlink() or path.is_fifo()}
        must(not names, f"{names} are no files")


def _named(*names: str, **how: Any) -> list[Member]:
    return [Member(name, b"x", **how) for name in names]


_MEMBERS: dict[str, list[Member]] = {
    "a way up": _named("../a.avi"),
    "a way up from a folder": _named("clap/../../../outside/a.avi"),
    "a way up by backslashes": _named("..\\..\\outside\\a.avi"),
    "a path": _named("/tmp/har_cache_a.avi"),
    "a drive": _named("C:/a.avi"),
    "a share": _named("\\\\host\\share\\a.avi"),
    "a folder above": [Member("clap/..", kind=FOLDER)],
    "a folder called as a clip": [Member("a.avi", kind=FOLDER)],
    "a link": [Member("a.avi", kind=SYMLINK, to="OUTSIDE/secret.txt")],
    "a link to a folder, and a file in it": [Member("out", kind=SYMLINK, to="OUTSIDE"), Member("out/a.avi", b"x")],
    "a hard link": [Member("a.avi", kind=HARDLINK, to="OUTSIDE/secret.txt")],
    "a pipe": [Member("a.avi", kind=FIFO)],
    "a size of 2^40": [Member("a.avi", b"x", size=1 << 40)],
    "another size": [Member("a.avi", b"xxxx", size=2)],
    "other junk of 2^40": [Member("junk", b"x", size=1 << 40)],
    "a wrong checksum": [Member("a.avi", b"x", crc=1)],
    "compressed noise": [Member("a.avi", b"noise" * 99, method=3)],
    "a compressed lie": [Member("a.avi", b"noise" * 99, method=5, size=1 << 19)],
    "compressed": [compressed("clap/a.avi", bytes(range(256)) * 9)],
    "a method of nowhere": [Member("a.avi", b"x", method=15)],
    "names twice": _named("a.avi", "other/a.avi"),
    "2000 entries": _named(*(f"{i}.avi" for i in range(2000))),
    "a long name": _named("x" * 4000 + ".avi"),
    "an empty name": _named(""),
    "control characters": _named("\x1b[2J\n.avi", "a\r\nb.avi", "\u202e.avi"),
    "an option": _named("-o/tmp", "--help", "@list"),
    "code for a shell": _named("$(touch OUTSIDE/marker).avi", "`id`.avi", ";id"),
    "depths": _named("d/" * 1500 + "a.avi"),
    "an archive in itself": [Member("clap.rar", b"Rar!\x1a\x07\x00" + bytes(50))],
    "a part of several": [Member("a.avi", b"x", flags=0x02)],
    "encrypted": [Member("a.avi", b"x", flags=0x04)],
}  # fmt: skip
_SPOILT: dict[str, Callable[[bytes], bytes]] = {
    "no bytes": lambda data: b"",
    "half of it": lambda data: data[: len(data) // 2],
    "a signature alone": lambda data: data[:7],
    "no RAR": lambda data: b"PK\x03\x04" + data,
    "before a program": lambda data: b"MZ" + bytes(5000) + data,
    "noise": lambda data: random.Random(1).randbytes(len(data)),
    **{
        f"flipped bits {seed}": lambda data, seed=seed: bytes(
            byte ^ (1 << seed % 8) if random.Random(seed * 99_991 + at).random() < 0.003 else byte
            for at, byte in enumerate(data)
        )
        for seed in range(12)
    },
}
