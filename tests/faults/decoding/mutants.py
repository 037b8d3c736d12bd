"""Damage to the bytes of a clip, drawn from a seed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

_HEAD = 600  # bytes of a file that hold most of its header
_EXTREMES = (0, 1, 2, 255, 4095, 8192, 8193, 32767, 65535, 1 << 24, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
# What stands before sizes, rates, counts and offsets: of AVI, of MP4 and MOV, of FLV, of ASF.
_TAGS = (
    *(b"avih", b"strh", b"strf", b"idx1", b"movi"),
    *(b"mvhd", b"tkhd", b"mdhd", b"stsd", b"stts", b"ctts", b"stsc", b"stsz", b"stco", b"elst", b"avc1", b"mp4v"),
    *(b"width", b"height", b"framerate", b"duration"),
    *(
        b"\x16\xae\x6b",
        b"\x2a\xd7\xb1",
        b"\x23\xe3\x83",
        b"\x54\xb0",
        b"\x54\xba",
        b"\xb0\x81",
        b"\xba\x81",
    ),  # Matroska
    *(b"\0\0\x01\xb3", b"\0\0\x01\xba", b"\0\0\x01\xe0"),  # MPEG
    *(b"\xa1\xdc\xab\x8c\x47\xa9\xcf\x11", b"\xc0\xef\x19\xbc\x4d\x5b\xcf\x11"),
)


@dataclass(frozen=True)
class Mutant:
    """A damaged clip: the `kind` of its damage, the index of the one that it was made from, and its bytes."""

    kind: str
    base: int
    data: bytes


def mutant(seed: int, number: int, bases: Sequence[bytes]) -> Mutant:
    """The mutant of that number: always the same for a seed and these bases. Kinds and bases take turns."""
    rng = np.random.default_rng([seed, number])
    kind = tuple(MUTATIONS)[number % len(MUTATIONS)]
    base = int(rng.integers(len(bases)))
    other = int(rng.integers(len(bases) - 1))
    donor = bases[other + (other >= base)]
    return Mutant(kind, base, MUTATIONS[kind](bases[base], rng, donor))


def _bits(data: bytes, rng: Generator, donor: bytes) -> bytes:
    array = np.frombuffer(data, np.uint8).copy()
    for at in rng.integers(_first(rng, len(data)), len(data), _few(rng)):
        array[at] ^= 1 << rng.integers(8)
    return array.tobytes()


def _set(data: bytes, rng: Generator, donor: bytes) -> bytes:
    array = np.frombuffer(data, np.uint8).copy()
    for at in rng.integers(_first(rng, len(data)), len(data), _few(rng)):
        array[at] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.integers(256)])
    return array.tobytes()


def _zeros(data: bytes, rng: Generator, donor: bytes) -> bytes:
    start, end = _block(data, rng)
    return data[:start] + bytes(end - start) + data[end:]


def _cut(data: bytes, rng: Generator, donor: bytes) -> bytes:
    return data[: rng.integers(1, len(data))]


def _dropped(data: bytes, rng: Generator, donor: bytes) -> bytes:
    start, end = _block(data, rng)
    return data[:start] + data[end:]


def _doubled(data: bytes, rng: Generator, donor: bytes) -> bytes:
    start, end = _block(data, rng)
    return data[:end] + data[start:end] * int(rng.integers(1, 4)) + data[end:]


def _swapped(data: bytes, rng: Generator, donor: bytes) -> bytes:
    start, middle, end = sorted(int(at) for at in rng.integers(_first(rng, len(data)), len(data), 3))
    return data[:start] + data[middle:end] + data[start:middle] + data[end:]


def _spliced(data: bytes, rng: Generator, donor: bytes) -> bytes:
    start, end = _block(data, rng)
    their_start, their_end = _block(donor, rng)
    if rng.random() < 0.3:  # a head of one, all the rest of another
        return data[:end] + donor[their_start:]
    return data[:start] + donor[their_start:their_end] + data[end:]


def _extremes(data: bytes, rng: Generator, donor: bytes) -> bytes:
    array = bytearray(data)
    found = [at + len(tag) for tag in _TAGS if (at := data.find(tag)) >= 0]
    for _ in range(rng.integers(1, 4)):
        near = found and rng.random() < 0.75
        at = int(rng.choice(found)) + int(rng.integers(40)) if near else int(rng.integers(4, min(_HEAD, len(data))))
        size = int(rng.choice([1, 2, 4, 8]))
        value = int(rng.choice(_EXTREMES)) & ((1 << 8 * size) - 1)
        at = min(at, len(data) - size)
        array[at : at + size] = value.to_bytes(size, "big" if rng.random() < 0.5 else "little")
    return bytes(array)


def _garbage(data: bytes, rng: Generator, donor: bytes) -> bytes:
    head = int(rng.integers(16, max(17, min(len(data), 8 * _HEAD))))
    return data[:head] + rng.bytes(len(data) - head)


Mutation = Callable[[bytes, Generator, bytes], bytes]
MUTATIONS: dict[str, Mutation] = {
    "bits flipped": _bits,
    "bytes set": _set,
    "zeros": _zeros,
    "cut": _cut,
    "a block dropped": _dropped,
    "a block repeated": _doubled,
    "blocks swapped": _swapped,
    "spliced with another clip": _spliced,
    "extremes in the header": _extremes,
    "garbage after the head": _garbage,
}


def _few(rng: Generator) -> int:
    """How many: mostly one to ten, at times hundreds."""
    return int(2 ** rng.uniform(0, 9 if rng.random() < 0.2 else 3.5))


def _first(rng: Generator, length: int) -> int:
    """Where damage may begin: anywhere in half of the cases, else behind the header, which many codecs need whole."""
    return 0 if rng.random() < 0.5 else min(_HEAD, length // 2)


def _block(data: bytes, rng: Generator) -> tuple[int, int]:
    """A part of the clip, of one byte to a third of it."""
    length = max(1, int((len(data) / 3) ** rng.random()))
    start = int(rng.integers(_first(rng, len(data)), max(_HEAD + 1, len(data) - length + 1)))
    start = min(start, len(data) - length)
    return start, start + length
