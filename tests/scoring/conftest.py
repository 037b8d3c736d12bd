from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from har_cache.cache.reader import FeatureCache
from har_cache.data.splits import TEST, TRAIN
from har_cache.scoring.score import Score, score
from har_cache.settings.evaluation import ScoreSettings
from har_cache.storage.files import to_csv

from ..helpers.synthetic import small_subsets, write_cache

Scored = Callable[..., Score]
SUBSETS = small_subsets(classes=3, sources=6, clips=2)


@pytest.fixture(scope="session")
def small_cache(tmp_path_factory: pytest.TempPathFactory) -> FeatureCache:
    """36 clips of three classes, 12 of them on each test list."""
    return write_cache(tmp_path_factory.mktemp("scoring") / "cache", SUBSETS)


def listed(part: int, split: int = 1) -> list[str]:
    """The keys of a list of a split."""
    return [key for key, parts in SUBSETS.items() if parts[split - 1] == part]


def write_table(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> Path:
    path.write_bytes(to_csv(header, rows))
    return path


@pytest.fixture
def scored(tmp_path: Path, small_cache: FeatureCache) -> Scored:
    """Scores rows of predictions; the model learnt from the training list of split 1."""
    trained = write_table(tmp_path / "trained.csv", ["key"], [[key] for key in listed(TRAIN)])

    def run(header: Sequence[str], rows: Sequence[Sequence[Any]], **settings: Any) -> Score:
        table = write_table(tmp_path / "predictions.csv", header, rows)
        given = {"cache": small_cache.path, "trained_on": trained, "predictions": table, **settings}
        return score(ScoreSettings(**given))

    return run


def right_rows(split: int = 1) -> list[list[str]]:
    """Each clip of a test list, predicted as it is."""
    return [[key, key.partition("/")[0]] for key in listed(TEST, split)]
