"""The program that compares a cache with its clips: `python -m tests.faults.decoding.judge DATA CACHE [SHARE]`.

Writes JSON: for every clip what `examine` has seen of it, or the reason why that failed. One in SHARE clips has its
embeddings compared too.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from har_cache import FeatureCache
from har_cache.errors import ClipError
from har_cache.workers.pool import WorkerPool

from .examine import Examiner, compare, decode_alone

_PROCESSES = 2


def judge(data: Path, cache: Path, share: int) -> dict[str, Any]:
    """What is seen of each clip of a data set, by its key."""
    reader = FeatureCache(cache)
    paths = {f"{path.parent.name}/{path.name}": path for path in sorted(data.glob("*/*"))}
    seen: dict[str, Any] = {}
    with WorkerPool(Examiner(encoder=cache / "encoder.safetensors", stall_s=30.0), _PROCESSES) as pool:
        alone = ((key, (paths[key],)) for key in paths if key not in reader)
        for function, calls in ((decode_alone, alone), (compare, _of_cached(reader, paths, share))):
            for key, outcome in pool.run(function, calls):
                seen[key] = {"error": str(outcome)} if isinstance(outcome, ClipError) else asdict(outcome)
    return seen


def _of_cached(reader: FeatureCache, paths: dict[str, Path], share: int) -> Iterator[tuple[str, tuple[Any, ...]]]:
    for i, key in enumerate(reader.clip_keys):
        if key in paths:
            yield key, (paths[key], reader[key][0], i % share == 0)


if __name__ == "__main__":
    json.dump(judge(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])), sys.stdout)
