"""Caches without videos: embeddings that carry a class signal, a source signal and noise; and runs made by hand."""

import csv
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from har_cache.cache.reader import FeatureCache
from har_cache.data.splits import TEST, TRAIN, Subsets, by_clip, find_lists, read_lists
from har_cache.sample_data.standin import Strengths, embed

from . import caches
from .shared import OFFICIAL_LISTS

_SHARD_CLIPS = 256


def official_subsets(folder: Path = OFFICIAL_LISTS) -> dict[str, Subsets]:
    """HMDB51's lists as key -> its part in splits 1, 2, 3."""
    return by_clip(read_lists(find_lists(folder, folder)))


def small_subsets(classes: int = 4, sources: int = 6, clips: int = 3) -> dict[str, tuple[int, ...]]:
    """Names as in HMDB51, with tags; source i of a class tests in split i % 3 + 1, and trains in the others."""
    return {
        f"act{c}/film{s}_act{c}_{'fuhl'[s % 4]}_{'cm' if n else 'nm'}_np{n + 1}_fr_med_{n}.avi": tuple(
            TEST if s % 3 == split else TRAIN for split in range(3)
        )
        for c in range(classes)
        for s in range(sources)
        for n in range(clips)
    }


def write_cache(
    root: Path,
    subsets: Mapping[str, Subsets],
    *,
    frames: int = 4,
    class_signal: float = 1.0,
    source_signal: float = 1.0,
    noise: float = 1.0,
    failed: Mapping[str, str] = {},
    absent: Iterable[str] = (),
    encoder: bytes = caches.ENCODER,
) -> FeatureCache:
    """A finished cache of all clips of `subsets` but the `failed` and `absent` ones."""

    strengths = Strengths(action=class_signal, scene=source_signal, noise=noise)
    embeddings = {key: embed(key, frames, strengths) for key in subsets if key not in {*failed, *absent}}
    caches.write_cache(root, embeddings, failures=failed, subsets=subsets, shard_clips=_SHARD_CLIPS, encoder=encoder)
    return FeatureCache(root)


def write_run(path: Path, cache: FeatureCache, split: int = 1, classes: Sequence[str] | None = None) -> Path:
    """The files of a run that evaluation reads, all but the weights; every fifth source of the list validates."""
    path.mkdir(parents=True)
    config = {
        "schema": "har-run/1",
        "stage": "head",
        "split": split,
        "cache": str(cache.path),
        "fingerprint": cache.fingerprint,
        "recipe": cache.recipe.to_dict(),
        "classes": list(classes or cache.classes),
        "head": {"cell": "gru", "hidden": 128},
        "training": {"epochs": 3, "frames": 16, "batch_size": 64, "lr": 0.001, "seed": 0},
        "projection_fit": cache.recipe.projection_fit,
        "versions": {"torch": "2.15.0"},
        "best": {"epoch": 2, "val_loss": 1.0, "val_accuracy": 0.5},
        "model_sha256": "0" * 64,
    }
    (path / "config.json").write_text(json.dumps(config))
    with (path / "clips.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["key", "subset"])
        for i in np.flatnonzero(cache.subsets[:, split - 1] == TRAIN):
            rows.writerow([cache.clip_keys[i], "val" if _number(cache.sources[i]) % 5 == 0 else "train"])
    (path / "metrics.csv").write_text(
        "epoch,train_loss,train_accuracy,val_loss,val_accuracy,lr,seconds\n"
        "1,1.4,0.3,1.3,0.35,0.001,0.5\n2,0.9,0.7,1.0,0.5,0.001,0.5\n3,0.5,0.9,1.1,0.45,0.0001,0.5\n"
    )
    return path


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
