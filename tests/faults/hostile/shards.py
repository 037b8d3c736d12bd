"""Hostile shards: HDF5 files with links, storage elsewhere, filters, lies about sizes, wrong types, flipped bits."""

import random
import struct
from collections.abc import Iterator
from dataclasses import replace as changed
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from har_cache.cache.shard import Shard, ShardImage, to_image

from ...helpers.shards import Change, forge, replace
from .caches import cache_calls
from .case import Calls, Case
from .place import Place

_NAMES = ("embeddings", "offsets", "keys", "fps", "source_sha256")
_KIND = "shards"


def cases(rng: random.Random) -> Iterator[Case]:
    """All made by hand, then such with flipped bits, without end."""
    made = [Case(_KIND, name, _forged(change)) for name, change in _changes()]
    made += [Case(_KIND, name, _spoilt(spoil)) for name, spoil in _SPOILT.items()]
    rng.shuffle(made)
    yield from made
    while True:
        seed = rng.randrange(1 << 32)
        yield Case(_KIND, f"flipped bits, {seed}", _spoilt(lambda data, seed=seed: _flipped(data, seed)))


def _first(place: Place) -> Shard:
    path = place.world / "cache" / "shards" / "00000.h5"
    with ShardImage(path.read_bytes(), path.name) as image:
        return image.read()


def _forged(change: Any) -> Any:
    """A case's `make`: `change` takes the file, the shard and the outside."""

    def make(place: Place) -> Calls:
        shard = _first(place)
        return cache_calls(place.cache_with(forge(lambda file: change(file, shard, place.outside), shard)))

    return make


def _spoilt(spoil: Any) -> Any:
    def make(place: Place) -> Calls:
        return cache_calls(place.cache_with(spoil(to_image(_first(place)))))

    return make


def _flipped(data: bytes, seed: int) -> bytes:
    """Most of the bits in the file's structure, not in its numbers."""
    rng, found = random.Random(seed), bytearray(data)
    for _ in range(rng.choice((1, 1, 3, 30))):
        at = rng.randrange(min(len(data), rng.choice((100, 2048, 6000, len(data)))))
        found[at] = rng.choice((found[at] ^ 1 << rng.randrange(8), 0, 255))
    return bytes(found)


_SPOILT = {
    "no bytes": lambda data: b"",
    "one byte": lambda data: data[:1],
    "the signature": lambda data: data[:8],
    "half": lambda data: data[: len(data) // 2],
    "all but a byte": lambda data: data[:-1],
    "after other bytes": lambda data: bytes(512) + data,
    "before other bytes": lambda data: data + bytes(10_000_000),
    "twice": lambda data: data + data,
    "a text": lambda data: b"key,subset\n" * 100,
    "ones": lambda data: b"\xff" * len(data),
    "an end of file of 2^63": lambda data: data[:40] + struct.pack("<Q", 1 << 63) + data[48:],
    "an object header elsewhere": lambda data: data[:64] + struct.pack("<Q", len(data) - 8) + data[72:],
}


def _changes() -> Iterator[tuple[str, Any]]:
    yield from _elsewhere()
    for name, options in (
        ("gzip", {"compression": "gzip"}),
        ("lzf", {"compression": "lzf"}),
        ("shuffle", {"shuffle": True}),
    ):
        yield f"embeddings with {name}", _with_embeddings(chunks=(1, 64, 256), **options)
    yield (
        "embeddings with a scale",
        lambda f, s, o: replace("embeddings", data=s.embeddings.astype("<f4"), scaleoffset=2)(f),
    )
    for kind in ("<f4", ">f2", "<i2", "S2", "?", "<c8", "V2", h5py.string_dtype(), h5py.ref_dtype, [("a", "<f2")]):
        yield f"embeddings of {kind}"[:60], _of_type("embeddings", kind, 3)
        yield f"offsets of {kind}"[:60], _of_type("offsets", kind, 1)
    for shape in (
        (1, 2**40, 256),
        (2**40, 2**40, 256),
        (2**24, 2**32, 256),
        (0, 2**60, 256),
        (1, 0, 256),
        (1, 1, 1, 1),
        (),
    ):
        chunks = (1, 256, 256) if len(shape) == 3 else None
        most = (None,) * 3 if len(shape) == 3 else None
        yield (
            f"embeddings of shape {shape}",
            _lift(replace("embeddings", shape=shape, dtype="<f2", chunks=chunks, maxshape=most)),
        )
    for name in _NAMES:
        yield f"{name} without a shape", _lift(replace(name, data=h5py.Empty("<f2")))
        yield f"no {name}", _lift(lambda f, name=name: f.__delitem__(name))
        yield f"{name}: 2^40 of them", _lift(replace(name, shape=2**40, dtype="<i8", chunks=(1024,)))
    for text, data in (
        ("negative", [-5, 3, 9]),
        ("falling", [0, 1 << 62, 5]),
        ("beyond", [0, 5, 1 << 62]),
        ("overflowing", [0, -(1 << 63), (1 << 63) - 1]),
        ("NaN", [0, float("nan"), 9]),
    ):
        yield f"offsets: {text}", _lift(replace("offsets", data=np.array(data, "<f8" if text == "NaN" else "<i8")))
    for value in (np.nan, np.inf, -1.0):
        yield f"fps of {value}", lambda f, s, o, v=value: f["fps"].__setitem__(slice(None), v)
        yield f"embeddings of {value}", lambda f, s, o, v=value: f["embeddings"].__setitem__(slice(None), v)
    for keys in (["../../outside/x", "b/c"], ["a/b", "a/b"], ["", ""], ["sit/\0x", "/etc/passwd"]):
        yield f"keys {keys}", lambda f, s, o, k=keys: replace("keys", data=np.array([x.encode() for x in k], "S40"))(f)
    yield "keys that are no UTF-8", _lift(replace("keys", data=np.array([b"\xff\xfe", b"\x80"], "S4")))
    yield "keys of a mebibyte", _lift(replace("keys", data=np.array([b"x" * (1 << 20)] * 2)))
    for name in ("schema", "fingerprint"):
        for value in (7, b"\xff", "x" * 60_000, [1, 2, 3], h5py.Empty("f4"), "", "\x1b[2J\n"):
            yield f"{name}: {str(value)[:20]!r}", lambda f, s, o, n=name, v=value: f.attrs.__setitem__(n, v)
        yield f"no {name}", lambda f, s, o, n=name: f.attrs.__delitem__(n)
    yield "10,000 attributes", lambda f, s, o: [f.attrs.create(f"a{i}", i) for i in range(10_000)]
    yield "a group in itself", lambda f, s, o: f.__setitem__("loop", f["/"])
    yield "rows of zeros without data", _without_data


def _elsewhere() -> Iterator[tuple[str, Any]]:
    for name in _NAMES:
        yield f"{name}: an external link", lambda f, s, o, n=name: _linked(f, n, h5py.ExternalLink(o / "secret.h5", n))
        yield f"{name}: a soft link", lambda f, s, o, n=name: _linked(f, n, h5py.SoftLink("/moved"))
        yield f"{name}: a link in circles", lambda f, s, o, n=name: _linked(f, n, h5py.SoftLink(f"/{n}"))
        yield f"{name}: data in another file", lambda f, s, o, n=name: _external(f, n, o)
        yield f"{name}: virtual data", lambda f, s, o, n=name: _virtual(f, n, o)
        yield f"{name}: a group", lambda f, s, o, n=name: (f.__delitem__(n), f.create_group(n))
        yield f"{name}: a type", lambda f, s, o, n=name: (f.__delitem__(n), f.__setitem__(n, np.dtype("<f2")))


def _linked(file: h5py.File, name: str, link: Any) -> None:
    file.move(name, "moved")
    file[name] = link


def _external(file: h5py.File, name: str, outside: Path) -> None:
    shape, kind = file[name].shape, file[name].dtype
    del file[name]
    file.create_dataset(name, shape=shape, dtype=kind, external=[(outside / "secret.h5", 0, h5py.h5f.UNLIMITED)])


def _virtual(file: h5py.File, name: str, outside: Path) -> None:
    shape, kind = file[name].shape, file[name].dtype
    layout = h5py.VirtualLayout(shape=shape, dtype=kind)
    layout[:] = h5py.VirtualSource(outside / "secret.h5", name, shape=shape)
    del file[name]
    file.create_virtual_dataset(name, layout)


def _with_embeddings(**options: Any) -> Any:
    return lambda file, shard, outside: replace("embeddings", data=shard.embeddings, **options)(file)


def _of_type(name: str, kind: Any, ndim: int) -> Any:
    def change(file: h5py.File, shard: Shard, outside: Path) -> None:
        shape = getattr(shard, name).shape
        replace(name, shape=shape, dtype=kind, **({"chunks": (1, 64, 256)} if ndim == 3 else {}))(file)

    return change


def _lift(change: Change) -> Any:
    return lambda file, shard, outside: change(file)


def _without_data(file: h5py.File, shard: Shard, outside: Path) -> None:
    """A chunk is there for some of the rows alone."""
    other = changed(shard, embeddings=np.zeros_like(shard.embeddings))
    del file["embeddings"]
    file.create_dataset("embeddings", shape=other.embeddings.shape, dtype="<f2", chunks=(1, 8, 256))[0, :8] = 1
