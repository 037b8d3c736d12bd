"""Small feature caches, written through `Store`: nothing is decoded, and torch is not imported."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from har_cache.cache.manifest import Plan, Splits
from har_cache.cache.recipe import EMBEDDING, Recipe
from har_cache.cache.record import ClipRecord
from har_cache.cache.writer import Store
from har_cache.data.keys import source_of
from har_cache.data.splits import TEST, TRAIN
from har_cache.storage.files import sha256

ENCODER = b"stands for the bytes of an encoder.safetensors"


def make_recipe(**changes: Any) -> Recipe:
    """A recipe; `changes` replaces some of its fields."""
    fields: dict[str, Any] = {
        "weights": "random",
        "weights_sha256": sha256(b"weights"),
        "projection": "pca",
        "projection_fit": "64 frames of 4 clips that no split tests on",
        "encoder_sha256": sha256(ENCODER),
        "transform": "resize and crop",
        "views": ("center",),
        "precision": "fp32",
        "faithfulness": 1.0,
        "decoder": "pyav",
        "device": "cpu",
        "seed": 0,
    }
    return Recipe(**{**fields, **changes})


def random_embeddings(lengths: Mapping[str, int], views: int = 1, seed: int = 0) -> dict[str, np.ndarray]:
    """For each key float16 (views, its length, 256) of noise."""
    rng = np.random.default_rng(seed)
    return {key: rng.standard_normal((views, n, EMBEDDING)).astype(np.float16) for key, n in lengths.items()}


def action_embeddings(
    classes: int = 4, sources: int = 6, clips: int = 2, lengths: tuple[int, int] = (12, 30), seed: int = 0
) -> dict[str, np.ndarray]:
    """Clips that a temporal model can learn: classes 2k and 2k+1 are one movement and the same backwards.

    Keys are as in HMDB51, `clips` of each source; order decides between the two classes of a pair, and no average
    of frames can. Every class has clips of its own sources only.
    """
    rng = np.random.default_rng(seed)
    starts, ends = rng.standard_normal((2, classes, EMBEDDING))
    found = {}
    for label in range(classes):
        name, pair = f"action{label}", label // 2
        for source in range(sources):
            for clip in range(clips):
                steps = np.linspace(0, 1, rng.integers(*lengths, endpoint=True))[:, None]
                steps = steps if label % 2 == 0 else 1 - steps
                frames = (1 - steps) * starts[pair] + steps * ends[pair] + 0.1 * rng.standard_normal(EMBEDDING)
                key = f"{name}/film{label}{source}_{name}_f_cm_np1_fr_med_{clip}.avi"
                found[key] = frames[None].astype(np.float16)
    return found


def subsets_by_source(keys: Iterable[str]) -> dict[str, tuple[int, int, int]]:
    """Three splits; split k tests on every third source of a class, from the k-th."""
    sources: dict[str, dict[str, int]] = {}
    found = {}
    for key in sorted(keys):
        known = sources.setdefault(key.partition("/")[0], {})
        number = known.setdefault(source_of(key), len(known))
        first, second, third = (TEST if number % 3 == split else TRAIN for split in range(3))
        found[key] = (first, second, third)
    return found


def embedded(key: str, embeddings: np.ndarray, fps: float = 30.0, declared_frames: int | None = None) -> ClipRecord:
    """The record of a clip with these embeddings, a frame each `1 / fps` seconds."""
    frames = embeddings.shape[1]
    digest, times = sha256(key.encode()), np.arange(frames) / fps
    return ClipRecord(key, frames, fps, declared_frames or frames, digest, embeddings=embeddings, times=times)


def write_cache(
    root: Path,
    embeddings: Mapping[str, np.ndarray],
    *,
    failures: Mapping[str, str] | None = None,
    subsets: Mapping[str, tuple[int, ...]] | None = None,
    sources: Mapping[str, str] | None = None,
    views: Sequence[str] = ("center",),
    shard_clips: int = 3,
    fps: float = 30.0,
    encoder: bytes = ENCODER,
    finish: bool = True,
    **changes: Any,
) -> Recipe:
    """A cache of `embeddings`, and of clips that failed, by reason; without `finish` one that was interrupted.
    `changes` replaces fields of the recipe.
    """
    failures = failures or {}
    dim = next((array.shape[2] for array in embeddings.values()), EMBEDDING)
    recipe = make_recipe(views=tuple(views), encoder_sha256=sha256(encoder), dim=dim, **changes)
    store = Store(root)
    store.create()
    store.write_encoder(encoder)
    plan = Plan(recipe).extended({*embeddings, *failures}, shard_clips)
    store.write_plan(plan)
    records = []
    for index, keys in enumerate(plan.shards):
        results = [
            ClipRecord(key, reason=failures[key]) if key in failures else embedded(key, embeddings[key], fps)
            for key in keys
        ]
        records.append(store.commit(index, recipe, results))
    if finish:
        splits = subsets_by_source(embeddings) if subsets is None else subsets
        classes = sorted({key.partition("/")[0] for key in plan.keys})
        store.finish(plan, records, classes, Splits("lists", splits), {}, sources or {})
    return recipe


def settled_files(root: Path) -> dict[str, bytes]:
    """The files of a cache by name, less what a writer that was killed may leave: locks and temporaries."""
    files = [path for path in root.rglob("*") if path.is_file() and not path.name.startswith(".")]
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(files)}
