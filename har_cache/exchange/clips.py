"""The clips of a cache as other tools take them: features of one view, and what is known of each."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..cache.reader import FeatureCache
from ..cache.recipe import SCHEMA_1
from ..data.splits import TEST, TRAIN, UNUSED, VALIDATE

SUBSET_WORDS = {UNUSED: "", TRAIN: "train", VALIDATE: "val", TEST: "test"}


@dataclass(frozen=True)
class ClipFeatures:
    """One clip. `embeddings`: float16 (frames, dim); `times`: float64 (frames), in seconds, NaN where unknown, None in
    a cache that has none; `fps`: 0 where unknown; `subsets`: train, val, test or nothing, in split 1, 2, ...
    """

    key: str
    label: str
    source: str
    subsets: tuple[str, ...]
    fps: float
    embeddings: np.ndarray
    times: np.ndarray | None


def clips_of(cache: FeatureCache, shard: int, view: str) -> Iterator[ClipFeatures]:
    """The clips of a shard, in its order, as this view shows them. Raises CacheError where it is damaged."""
    number, timed = cache.views.index(view), cache.recipe.schema != SCHEMA_1
    for place in cache.clips_of_shard(shard):
        key = cache.clip_keys[place]
        yield ClipFeatures(
            key=key,
            label=cache.classes[cache.labels[place]],
            source=cache.sources[place].partition("/")[2],
            subsets=tuple(SUBSET_WORDS[int(subset)] for subset in cache.subsets[place]),
            fps=float(cache.fps[place]),
            embeddings=cache[key][number],
            times=cache.times(key) if timed else None,
        )
