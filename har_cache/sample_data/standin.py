"""A stand-in for the cache of a data set whose videos are not there: its clips' names and split lists, with embeddings
that are made up.

It rehearses a procedure at full size, and shows how much a figure owes to clips that a model knows. What a model
reaches on it says nothing about the data set: the strengths below were chosen so that a head is right on about 40% of
the clips of HMDB51's test lists, and then left alone.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np

from ..cache.manifest import MANIFEST, Plan, Splits
from ..cache.reader import FeatureCache
from ..cache.recipe import EMBEDDING, Recipe
from ..cache.record import ClipRecord
from ..cache.writer import Store
from ..data.hmdb51 import CLIPS, FRAMES
from ..data.keys import class_of, film_of, source_of
from ..data.splits import Subsets, by_clip, find_lists, read_lists
from ..errors import CacheError
from ..progress import Progress
from ..settings.tools import StandinSettings
from ..storage.files import sha256

WEIGHTS = "made up"  # in the recipe, where other caches say whose weights
_ENCODER = b"no encoder: the embeddings are made up"
_SHARD_CLIPS = 64
_SHORTEST = 18  # frames: as in HMDB51


@dataclass(frozen=True)
class Strengths:
    """How much of each there is in an embedding: standard deviations, in each of its dimensions.

    `action`: the same in all clips of a class; `order`: too, and it grows from -1 to 1 from the first frame to the
    last; `film`: the same in all clips of a film, whatever their class; `scene`: in those of a film and class; `clip`:
    in one clip; `drift`: too, and it grows like `order`; `noise`: in one frame.
    """

    action: float = 0.0
    order: float = 0.0
    film: float = 0.0
    scene: float = 0.0
    clip: float = 0.0
    drift: float = 0.0
    noise: float = 0.0


# A head is right on 43% of the clips of split 1's test list after `--frames 8 --epochs 20`.
LIKE_HMDB51 = Strengths(action=0.18, order=0.06, film=0.5, scene=0.5, clip=0.7, drift=0.5, noise=0.5)


def make_standin(settings: StandinSettings, progress: Progress = Progress()) -> FeatureCache:
    """A cache of all clips that the lists in `settings.splits` name, about as long as those of HMDB51.

    The same settings give the same bytes; a finished one is left alone, an interrupted one is finished. Raises
    HarCacheError: no lists; a directory that holds another cache, or other things.
    """
    settings.check()
    subsets = by_clip(read_lists(find_lists(settings.splits, settings.splits)))
    return write_standin(settings.cache, subsets, LIKE_HMDB51, settings.seed, progress)


def write_standin(
    root: Path,
    subsets: Mapping[str, Subsets],
    strengths: Strengths,
    seed: int = 0,
    progress: Progress = Progress(),
    splits_from: str = "lists",
) -> FeatureCache:
    """The same of the clips of `subsets`: key -> TRAIN, TEST or UNUSED in split 1, 2 and 3."""
    recipe, store = _recipe(strengths, seed), Store(root)
    store.create()
    plan = Plan(recipe).extended(subsets, _SHARD_CLIPS)
    if (begun := store.read_plan()) not in (None, plan):
        raise CacheError(f"{root}: holds another cache; choose another directory")
    if begun and (root / MANIFEST).exists():
        return FeatureCache(root)
    store.write_encoder(_ENCODER)
    store.write_plan(plan)
    records = []
    with progress.task("Making up embeddings", "clip", len(subsets)):
        for index, keys in enumerate(plan.shards):
            done = store.done(plan, index)
            records.append(done or store.commit(index, recipe, [_record(key, strengths, seed) for key in keys]))
            progress.advance(len(keys))
    store.finish(plan, records, sorted({class_of(key) for key in subsets}), Splits(splits_from, subsets), {})
    return FeatureCache(root)


def embed(key: str, frames: int, strengths: Strengths, seed: int = 0) -> np.ndarray:
    """The embeddings of a clip, float16 (1, frames, 256), by its key."""
    source = source_of(key)
    shared = (
        (strengths.action, f"action {class_of(key)}"),
        (strengths.film, f"film {film_of(source)}"),
        (strengths.scene, f"scene {source}"),
        (strengths.clip, f"clip {key}"),
    )
    moving = ((strengths.order, f"order {class_of(key)}"), (strengths.drift, f"drift {key}"))
    still, change = (
        sum((strength * _drawn(f"{seed} {what}") for strength, what in parts if strength), np.zeros(EMBEDDING))
        for parts in (shared, moving)
    )
    noise = strengths.noise * _drawn(f"{seed} noise {key}", frames)
    return (still + np.linspace(-1, 1, frames)[:, None] * change + noise)[None].astype(np.float16)


def _drawn(what: str, *frames: int) -> np.ndarray:
    """Normally distributed, float32 (..., 256): the same for the same words."""
    return _generator(what).standard_normal((*frames, EMBEDDING), np.float32)


def _generator(what: str) -> np.random.Generator:
    return np.random.default_rng(int.from_bytes(hashlib.sha256(what.encode()).digest()[:8], "big"))


def _record(key: str, strengths: Strengths, seed: int) -> ClipRecord:
    drawn = _generator(f"{seed} length {key}").gamma(3, (FRAMES / CLIPS - _SHORTEST) / 3)
    frames = _SHORTEST + int(drawn)
    embeddings, times = embed(key, frames, strengths, seed), np.arange(frames) / 30
    return ClipRecord(key, frames, 30.0, frames, sha256(key.encode()), embeddings=embeddings, times=times)


def _recipe(strengths: Strengths, seed: int) -> Recipe:
    return Recipe(
        weights=WEIGHTS,
        weights_sha256=sha256(repr(astuple(strengths)).encode()),
        projection="none",
        projection_fit="none",
        encoder_sha256=sha256(_ENCODER),
        transform="none",
        views=("center",),
        precision="fp32",
        faithfulness=1.0,
        decoder="none",
        device="cpu",
        seed=seed,
    )
