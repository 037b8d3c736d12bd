"""One shard: arrays <-> an HDF5 file image, schema `har-cache/2` or `/1`. Reading distrusts the file."""

import io
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np

from ..errors import CacheError
from .recipe import SCHEMA, SCHEMA_1, SCHEMAS

_CHUNK_FRAMES = 256


@dataclass(frozen=True)
class Shard:
    """The content of a shard; row offsets[i] + t of each view is frame t of clip i.

    embeddings: float16 (views, frames, dim); offsets: int64 (clips + 1); keys: (clips); fps: float32 (clips);
    source_sha256: (clips), hex; times: float64 (frames), in seconds, NaN where unknown; None in `har-cache/1`.
    """

    fingerprint: str
    embeddings: np.ndarray
    offsets: np.ndarray
    keys: tuple[str, ...]
    fps: np.ndarray
    source_sha256: tuple[str, ...]
    times: np.ndarray | None = None

    @property
    def schema(self) -> str:
        """The schema that has all of this, and no more."""
        return SCHEMA_1 if self.times is None else SCHEMA


def to_image(shard: Shard) -> bytes:
    """The bytes of the shard's HDF5 file: the same for the same content."""
    views, frames, dim = shard.embeddings.shape
    with h5py.File.in_memory() as file:
        file.attrs["schema"] = shard.schema
        file.attrs["fingerprint"] = shard.fingerprint
        file.create_dataset(
            "embeddings",
            data=shard.embeddings.astype(np.float16, copy=False),
            chunks=(1, max(1, min(frames, _CHUNK_FRAMES)), dim),
            maxshape=(views, None, dim),
            fletcher32=True,
        )
        file["offsets"] = shard.offsets.astype(np.int64)
        file["keys"] = _fixed_text(shard.keys)
        file["fps"] = shard.fps.astype(np.float32)
        file["source_sha256"] = _fixed_text(shard.source_sha256)
        if shard.times is not None:
            file["times"] = shard.times.astype(np.float64)
        file.flush()
        return bytes(file.id.get_file_image())


class ShardImage:
    """A shard's HDF5 image opened read-only: `fingerprint` and `shape`, that of its embeddings, are read at once.

    This and every method raise CacheError on anything but a well-formed shard: external or soft links, virtual or
    external storage, filters other than the checksum, wrong types or shapes, sizes larger than the file itself.
    """

    def __init__(self, image: bytes, name: str) -> None:
        self._name, self._image = name, image
        try:
            # Not `File.in_memory`: HDF5 would copy the image, which costs more than all else here.
            self._file = h5py.File(io.BytesIO(image), "r")
        except (OSError, ValueError) as error:
            raise CacheError(f"{name}: is no HDF5 file") from error
        with self._refusing():
            schema = self._file.attrs["schema"]
            if not isinstance(schema, str) or schema not in SCHEMAS:
                raise CacheError(f"{name}: schema {str(schema)[:40]!r}, this version reads {' and '.join(SCHEMAS)}")
            self.schema = schema
            self.fingerprint = str(self._file.attrs["fingerprint"])
            self._embeddings = self._dataset("embeddings", "<f2", 3)
            self.shape: tuple[int, int, int] = self._embeddings.shape
            views, frames, dim = self.shape
            if self._embeddings.chunks is None or self._embeddings.chunks[::2] != (1, dim):
                raise ValueError("its embeddings are not chunked by view")
            if not views:
                raise ValueError("its arrays do not belong together")
            if self._embeddings.id.get_num_chunks() != views * math.ceil(frames / self._embeddings.chunks[1]):
                raise ValueError("it lacks some of its embeddings")

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        """Turn what a malformed file makes h5py and this class raise into a CacheError."""
        try:
            yield
        except (KeyError, OSError, ValueError, TypeError, RuntimeError) as error:
            raise CacheError(f"{self._name}: is no well-formed shard: {error}") from error

    def _dataset(self, name: str, kind: str, ndim: int) -> h5py.Dataset:
        """The dataset of this name, if it stores its own data here and is no larger than the file."""
        if not isinstance(self._file.get(name, getlink=True), h5py.HardLink):
            raise ValueError(f"{name} is a link, or missing")
        data = self._file[name]
        if not isinstance(data, h5py.Dataset) or data.is_virtual or data.external:
            raise ValueError(f"{name} stores its data elsewhere")
        plan = data.id.get_create_plist()
        filters = {plan.get_filter(i)[0] for i in range(plan.get_nfilters())}
        if filters - {h5py.h5z.FILTER_FLETCHER32}:
            raise ValueError(f"{name} is filtered")
        wanted = data.dtype.kind == "S" if kind == "S" else data.dtype == np.dtype(kind)
        if data.ndim != ndim or not wanted:
            raise ValueError(f"{name} is {data.dtype} with {data.ndim} dimensions")
        claimed = math.prod(data.shape) * data.dtype.itemsize  # data.nbytes overflows
        if claimed > len(self._image) or data.id.get_storage_size() < claimed:
            raise ValueError(f"{name} claims {claimed} bytes and does not hold them")
        return data

    def parts(self, out: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """What is to be copied where, to have all embeddings in `out`; both are views, which outlive this image.

        Straight from the chunks' bytes: HDF5's own path costs four times as much, mostly for a checksum that
        the sha256 of the whole file has made redundant.
        """
        deep, dim = self._embeddings.chunks[1:]
        found: list[tuple[np.ndarray, np.ndarray]] = []

        def add(chunk: Any) -> None:
            view, first, _ = chunk.chunk_offset
            rows = out[view, first : first + deep]
            if chunk.byte_offset + rows.nbytes > len(self._image):
                raise ValueError("its embeddings lie outside of it")
            stored = np.frombuffer(self._image, "<f2", rows.size, chunk.byte_offset)
            found.append((rows, stored.reshape(len(rows), dim)))

        with self._refusing():
            self._embeddings.id.chunk_iter(add)
        return found

    def read(self) -> Shard:
        """The whole shard as arrays."""
        with self._refusing():
            offsets = self._dataset("offsets", "<i8", 1)[()]
            keys = self._dataset("keys", "S", 1)[()]
            fps = self._dataset("fps", "<f4", 1)[()]
            digests = self._dataset("source_sha256", "S", 1)[()]
            if {len(fps), len(digests), len(offsets) - 1} != {len(keys)}:
                raise ValueError("its arrays do not belong together")
            if offsets[0] != 0 or offsets[-1] != self.shape[1] or (np.diff(offsets) < 0).any():
                raise ValueError("its offsets do not cover its frames")
            embeddings = np.empty(self.shape, np.float16)
            copy_parts(self.parts(embeddings))
            return Shard(self.fingerprint, embeddings, offsets, _decoded(keys), fps, _decoded(digests), self._times())

    def _times(self) -> np.ndarray | None:
        if self.schema == SCHEMA_1:
            return None
        times: np.ndarray = self._dataset("times", "<f8", 1)[()]
        if len(times) != self.shape[1]:
            raise ValueError("it has not a time for each frame")
        return times

    def __enter__(self) -> "ShardImage":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def copy_parts(parts: Iterable[tuple[np.ndarray, np.ndarray]]) -> None:
    """Copy each second array into the first."""
    for place, stored in parts:
        place[:] = stored


def _fixed_text(words: Sequence[str]) -> np.ndarray:
    data = [word.encode() for word in words]
    width = max([1, *map(len, data)])
    return np.array(data, dtype=h5py.string_dtype("utf-8", width))


def _decoded(words: np.ndarray) -> tuple[str, ...]:
    return tuple(bytes(word).decode() for word in words)
