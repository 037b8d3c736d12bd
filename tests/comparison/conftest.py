from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from har_cache.cache.reader import FeatureCache

from ..helpers.evaluations import write_evaluation
from ..helpers.synthetic import small_subsets, write_cache, write_run

KEYS = sorted(key for key, parts in small_subsets(sources=36).items() if parts[0] == 2)  # of split 1: 12 films


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> FeatureCache:
    return write_cache(tmp_path_factory.mktemp("comparison") / "cache", small_subsets(sources=36), frames=1)


@pytest.fixture
def evaluated(tmp_path: Path, cache: FeatureCache) -> Callable[..., Path]:
    """Makes a run of split 1 of this name, with an evaluation; the rest is as `write_evaluation` takes it."""

    def make(name: str, wrong: Any = (), keys: Any = KEYS, classes: Any = None, **more: Any) -> Path:
        run = write_run(tmp_path / name, cache, classes=classes)
        write_evaluation(run, keys, wrong, **more)
        return run

    return make
