"""Shards of noise, and shards that somebody has changed."""

from collections.abc import Callable, Sequence
from typing import Any

import h5py
import numpy as np

from har_cache.cache.shard import Shard, to_image

Change = Callable[[h5py.File], object]


def make_shard(
    lengths: Sequence[int] = (3, 0, 300),
    views: int = 2,
    keys: Sequence[str] | None = None,
    seed: int = 0,
    dim: int = 256,
    timed: bool = True,
) -> Shard:
    """A shard of clips of these lengths; one that is not `timed` is of `har-cache/1`."""
    rng = np.random.default_rng(seed)
    return Shard(
        fingerprint="f" * 64,
        embeddings=rng.standard_normal((views, sum(lengths), dim)).astype(np.float16),
        offsets=np.cumsum([0, *lengths]),
        keys=tuple(keys or (f"jump/{i}.avi" for i in range(len(lengths)))),
        fps=rng.uniform(0, 60, len(lengths)).astype(np.float32),
        source_sha256=tuple(f"{i:064x}" for i in range(len(lengths))),
        times=rng.uniform(0, 10, sum(lengths)) if timed else None,
    )


def forge(change: Change, shard: Shard | None = None) -> bytes:
    """The image of a shard that somebody has changed."""
    with h5py.File.in_memory(to_image(shard or make_shard())) as file:
        change(file)
        file.flush()
        return bytes(file.id.get_file_image())


def replace(name: str, *args: Any, **kwargs: Any) -> Change:
    """Put another dataset in the place of one."""

    def change(file: h5py.File) -> None:
        del file[name]
        file.create_dataset(name, *args, **kwargs)

    return change
