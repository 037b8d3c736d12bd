"""Writes RAR archives, well-formed ones and hostile ones; their members are stored, not compressed."""

import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

RAR4, RAR5 = 4, 5
SYMLINK, HARDLINK, FIFO, FOLDER = "symlink", "hardlink", "fifo", "folder"

_MODES = {"": 0o100644, SYMLINK: 0o120777, HARDLINK: 0o100644, FIFO: 0o010644, FOLDER: 0o040755}


@dataclass(frozen=True)
class Member:
    """A file, or what `kind` says; `to` is where a link leads. `size` and `crc` may lie, `method` too."""

    name: str
    data: bytes = b""
    kind: str = ""
    to: str = ""
    size: int | None = None
    crc: int | None = None
    method: int = 0
    flags: int = 0


def write_rar(path: Path, members: Iterable[Member], version: int = RAR4) -> Path:
    """An archive at `path`."""
    write = _member4 if version == RAR4 else _member5
    with path.open("wb") as file:
        if version == RAR4:
            file.write(b"Rar!\x1a\x07\x00" + _block4(0x73, 0, b"\0" * 6))
        else:
            file.write(b"Rar!\x1a\x07\x01\x00" + _block5(_vint(1) + _vint(0) + _vint(0)))
        for member in members:
            file.write(write(member))
        file.write(_block4(0x7B, 0x4000, b"") if version == RAR4 else _block5(_vint(5) + _vint(0) + _vint(0)))
    return path


def _block4(kind: int, flags: int, body: bytes) -> bytes:
    header = struct.pack("<BHH", kind, flags, 7 + len(body)) + body
    return struct.pack("<H", zlib.crc32(header) & 0xFFFF) + header


def _member4(member: Member) -> bytes:
    data = member.to.encode() if member.kind == SYMLINK else member.data
    name = member.name.encode()
    size, crc = _declared(member, data)
    large = max(size, len(data)) >> 32
    body = struct.pack("<IIBIIBBHI", len(data), size & 0xFFFFFFFF, 3, crc, 0x40210000, 29, 0x30 + member.method,
                       len(name), _MODES[member.kind])  # fmt: skip
    body += struct.pack("<II", 0, size >> 32) if large else b""
    flags = 0x8000 | (0x0100 if large else 0) | (0x00E0 if member.kind == FOLDER else 0) | member.flags
    return _block4(0x74, flags, body + name) + data


def _vint(number: int) -> bytes:
    digits = bytearray()
    while number > 0x7F:
        digits.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*digits, number])


def _block5(content: bytes) -> bytes:
    sized = _vint(len(content)) + content
    return struct.pack("<I", zlib.crc32(sized)) + sized


def _member5(member: Member) -> bytes:
    name, extra = member.name.encode(), b""
    size, crc = _declared(member, member.data)
    if member.kind in (SYMLINK, HARDLINK):
        to = member.to.encode()
        redirection = _vint(5) + _vint(1 if member.kind == SYMLINK else 4) + _vint(0) + _vint(len(to)) + to
        extra = _vint(len(redirection)) + redirection
    content = _vint(2) + _vint(0x02 | (0x01 if extra else 0)) + (_vint(len(extra)) if extra else b"")
    content += _vint(len(member.data)) + _vint(0x04 | (0x01 if member.kind == FOLDER else 0)) + _vint(size)
    content += _vint(_MODES[member.kind]) + struct.pack("<I", crc) + _vint(member.method << 7) + _vint(1)
    return _block5(content + _vint(len(name)) + name + extra) + member.data


def _declared(member: Member, data: bytes) -> tuple[int, int]:
    size = len(data) if member.size is None else member.size
    return size, zlib.crc32(data) if member.crc is None else member.crc


def compressed(name: str, data: bytes) -> Member:
    """A file compressed as RAR 2.9 to 4 do, after a fashion: every byte has a code of its own, and nothing repeats."""
    bits = ["00"]  # a block of codes, not of PPM; it brings its own table
    # First the lengths of the codes that the table is written in: 8 -> 00, 9 -> 01, 18 -> 10, 19 -> 11.
    bits += [f"{2 if symbol in (8, 9, 18, 19) else 0:04b}" for symbol in range(20)]
    # Then the table: 8 bits for each byte, 9 for the last one and for the end; 147 symbols that do not occur.
    bits += ["00"] * 255 + ["01"] * 2 + ["11", f"{138 - 11:07b}", "10", f"{9 - 3:03b}"]
    bits += [f"{byte:08b}" if byte < 255 else "111111110" for byte in data] + ["111111111", "00"]
    text = "".join(bits)
    packed = int(text.ljust(-(-len(text) // 8) * 8, "0"), 2).to_bytes(-(-len(text) // 8), "big")
    return Member(name, packed, size=len(data), crc=zlib.crc32(data), method=3)
