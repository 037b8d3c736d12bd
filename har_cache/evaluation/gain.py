"""What fine-tuning has changed: a run against the run of stage two that it came from, clip by clip."""

from pathlib import Path
from typing import Any

import numpy as np

from ..cache.reader import FeatureCache
from ..errors import HarCacheError
from ..model.run import Run
from ..training.batches import Sequences, predict


def compare(run: Run, keys: list[str], right: np.ndarray, cache: FeatureCache, sequences: Sequences) -> dict[str, Any]:
    """The stage-two run's accuracy on these clips, and how many clips fine-tuning put right and wrong.

    `right`, bool (clips): what the fine-tuned `run` has right. `cache`, `sequences`: used where they are of the
    embeddings that stage two learnt from, else its own cache is opened. Gives run, top1, fixed, broken; or run and
    `unknown`, the reason why there is nothing to compare with.
    """
    assert run.config.started_from is not None  # of a fine-tuned run
    name = run.config.started_from.run
    try:
        before = _right_before(run, keys, cache, sequences)
    except HarCacheError as error:
        return {"run": name, "unknown": str(error)}
    return {
        "run": name,
        "top1": float(before.mean()),
        "fixed": int((right & ~before).sum()),
        "broken": int((before & ~right).sum()),
    }


def _right_before(run: Run, keys: list[str], cache: FeatureCache, sequences: Sequences) -> np.ndarray:
    """Which clips the stage-two run has right, bool (clips)."""
    start = run.config.started_from
    assert start is not None
    source = Run.open(Path(start.run))
    if source.model_sha256 != start.model_sha256:
        raise HarCacheError(f"{start.run} has been trained again since")
    if cache.fingerprint != source.config.fingerprint:
        cache = FeatureCache(Path(source.config.cache))
        if cache.fingerprint != source.config.fingerprint:
            raise HarCacheError(f"{cache.path} is not the cache of {start.run} any more")
        sequences = Sequences.from_cache(cache, sequences.device.type)
    place = {key: i for i, key in enumerate(cache.keys)}
    lost = [key for key in keys if key not in place]
    if lost:
        raise HarCacheError(f"{cache.path} lacks {len(lost)} of these clips")
    clips = np.array([place[key] for key in keys])
    probabilities = predict(source.load_head(), sequences, clips, source.config.training.frames)
    names = np.array(source.config.classes)[probabilities.argmax(1)]
    return names == np.array([key.partition("/")[0] for key in keys])
