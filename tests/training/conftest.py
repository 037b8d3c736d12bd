from pathlib import Path

import pytest

from har_cache.cache.reader import FeatureCache
from har_cache.settings.training import HeadSettings, TrainHeadSettings, TrainSettings

from ..helpers.caches import action_embeddings, write_cache


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> FeatureCache:
    path = tmp_path_factory.mktemp("cache") / "cache"
    write_cache(path, action_embeddings())
    return FeatureCache(path)


@pytest.fixture
def settings(cache: FeatureCache, tmp_path: Path) -> TrainHeadSettings:
    """Small and quick, but enough to learn."""
    return TrainHeadSettings(
        cache=cache.path,
        run=tmp_path / "run",
        head=HeadSettings(hidden=16, width=16),
        training=TrainSettings(epochs=30, frames=8, batch_size=8, lr=5e-3),
        device="cpu",
    )
