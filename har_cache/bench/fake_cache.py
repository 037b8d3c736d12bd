"""A cache of HMDB51's size that no video is needed for: its embeddings are noise, all else is as in a real one."""

from pathlib import Path

import numpy as np

from ..cache.manifest import Plan, Splits
from ..cache.reader import FeatureCache
from ..cache.recipe import EMBEDDING, Recipe
from ..cache.record import ClipRecord
from ..cache.writer import Store
from ..data.hmdb51 import CLASSES, CLIPS, FRAMES
from ..data.splits import TEST, TRAIN
from ..files import sha256

_SHARD_CLIPS = 64
_ENCODER = b"no encoder: the embeddings are noise"


def write_standin(root: Path, seed: int = 0) -> FeatureCache:
    """Write it into an empty directory: 6,766 clips of 51 classes, about 640,000 frames, 330 MB. Half of each class's
    clips train in all splits, and the others test.
    """
    store, rng = Store(root), np.random.default_rng(seed)
    lengths = np.maximum(2, rng.gamma(3, FRAMES / CLIPS / 3, CLIPS)).astype(int)
    keys = [f"action{i % CLASSES:02d}/{i:05d}.avi" for i in range(CLIPS)]
    store.create()
    store.write_encoder(_ENCODER)
    recipe = _recipe()
    plan = Plan(recipe).extended(keys, _SHARD_CLIPS)
    store.write_plan(plan)
    length = dict(zip(keys, lengths.tolist(), strict=True))
    records = [
        store.commit(i, recipe, [_clip(key, length[key], rng) for key in shard]) for i, shard in enumerate(plan.shards)
    ]
    parts = [TRAIN if i // CLASSES % 2 else TEST for i in range(CLIPS)]
    subsets = {key: (part, part, part) for key, part in zip(keys, parts, strict=True)}
    classes = sorted({key.partition("/")[0] for key in keys})
    store.finish(plan, records, classes, Splits("drawn", subsets), {})
    return FeatureCache(root)


def _clip(key: str, frames: int, rng: np.random.Generator) -> ClipRecord:
    embeddings = rng.standard_normal((1, frames, EMBEDDING), np.float32).astype(np.float16)
    return ClipRecord(key, frames, 30.0, frames, sha256(key.encode()), embeddings=embeddings)


def _recipe() -> Recipe:
    return Recipe(
        weights="none",
        weights_sha256="",
        projection="none",
        projection_fit="none",
        encoder_sha256=sha256(_ENCODER),
        transform="none",
        views=("center",),
        precision="fp32",
        faithfulness=1.0,
        decoder="none",
        device="cpu",
        seed=0,
    )
