"""The cache that belongs to a run: the one that it learnt from, or one that its own encoder has written."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..cache.reader import FeatureCache
from ..encoder.weights import save_encoder
from ..errors import CacheError
from ..files import sha256
from .load import load_run_encoder
from .run import FINETUNED, Run


def open_cache(runs: Sequence[Run], path: Path | None) -> FeatureCache:
    """The cache at `path`, or where the runs had it. Raises CacheError where it is not what they were trained on, nor
    made with what came of it.
    """
    wanted = path or Path(runs[0].config["cache"])
    if path is None and not wanted.exists():
        raise CacheError(f"{wanted}: the run's cache is not there any more; say with --cache where it is")
    cache = FeatureCache(wanted)
    for run in runs:
        if cache.fingerprint != run.config["fingerprint"] and not made_with(cache, run):
            raise CacheError(
                f"{wanted} has fingerprint {cache.fingerprint[:12]}, but {run.path} was trained on "
                f"{run.config['fingerprint'][:12]}: other embeddings than the model knows; choose its own with --cache"
            )
    return cache


def made_with(cache: FeatureCache, run: Run) -> bool:
    """Whether the embeddings are those of a fine-tuned run's own encoder."""
    if run.config["stage"] != FINETUNED:
        return False
    return sha256(save_encoder(load_run_encoder(run))) == cache.recipe.encoder_sha256


def labels_for(run: Run, cache: FeatureCache) -> np.ndarray:
    """int64 (clips of the cache): their classes in the order that the run knows; -1 for others."""
    place = {name: i for i, name in enumerate(run.config["classes"])}
    return np.array([place.get(name, -1) for name in cache.classes], np.int64)[cache.labels]
