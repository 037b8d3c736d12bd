from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from har_cache_cli.main import app
from typer.testing import CliRunner

from har_cache.cache.reader import FeatureCache
from har_cache.cache.verify import verify
from har_cache.data.splits import TEST
from har_cache.errors import CacheError, DataError
from har_cache.progress import Progress
from har_cache.sample_data.standin import Strengths, embed, make_standin, write_standin
from har_cache.settings.tools import StandinSettings as Settings

from ..conftest import contents
from ..helpers.shared import OFFICIAL_LISTS
from ..helpers.synthetic import official_subsets, small_subsets

SAME_FILM, SAME_SCENE, OTHER = "b/x_b_0.avi", "a/x_a_1.avi", "b/y_b_0.avi"
CLIP = "a/x_a_0.avi"
MOVES = Strengths(order=1.0)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Lists of 72 clips of 4 classes."""
    folder = tmp_path / "splits"
    folder.mkdir()
    for key, parts in small_subsets().items():
        action, name = key.split("/")
        for split, part in enumerate(parts, 1):
            with (folder / f"{action}_test_split{split}.txt").open("a") as file:
                file.write(f"{name} {part}\n")
    return Settings(splits=folder, cache=tmp_path / "cache")


@pytest.mark.parametrize(
    ("what", "alike"),
    [("action", {SAME_SCENE}), ("film", {SAME_FILM, SAME_SCENE}), ("scene", {SAME_SCENE}), ("clip", set())],
)
def test_what_is_shared_is_the_same_in_the_clips_that_share_it(what: str, alike: set[str]) -> None:
    strengths = Strengths(**{what: 1.0})
    here = embed(CLIP, 3, strengths)
    assert here.shape == (1, 3, 256) and here.dtype == np.float16 and 0.8 < here.std() < 1.2
    assert (here == here[:, :1]).all()
    assert {key for key in (SAME_FILM, SAME_SCENE, OTHER) if (embed(key, 3, strengths) == here).all()} == alike
    assert (embed(CLIP, 3, strengths, seed=1) != here).any()


def test_order_is_in_the_first_moment_alone() -> None:
    here = embed(CLIP, 5, MOVES).astype(np.float64)
    assert (here == embed(SAME_SCENE, 5, MOVES)).all() and (here != embed(OTHER, 5, MOVES)).any()
    assert not here.mean(1).any() and (here == -here[:, ::-1]).all() and here[:, 4].std() > 0.8
    drift = Strengths(drift=1.0)
    assert (embed(CLIP, 5, drift) == -embed(CLIP, 5, drift)[:, ::-1]).all()
    assert (embed(CLIP, 5, drift) != embed(SAME_SCENE, 5, drift)).any()
    noise = embed(CLIP, 400, Strengths(noise=1.0)).astype(np.float64)
    assert 0.95 < noise.std() < 1.05 and abs(noise.mean(1)).max() < 0.3


def test_it_is_a_sound_cache_of_the_clips_that_the_lists_name(settings: Settings) -> None:
    cache = make_standin(settings)
    assert set(cache.clip_keys) == small_subsets().keys() and verify(cache.path) == []
    assert {key: tuple(cache.subsets[i]) for i, key in enumerate(cache.clip_keys)} == small_subsets()
    assert cache.manifest.splits.from_ == "lists" and cache.recipe.weights == "made up"
    assert cache.frames.min() >= 18 and 70 < cache.frames.mean() < 120


def test_the_same_settings_give_the_same_bytes_also_after_an_interruption(settings: Settings, tmp_path: Path) -> None:
    class Stop(Progress):
        def advance(self, count: int = 1, note: str = "") -> None:
            raise KeyboardInterrupt

    whole = contents(make_standin(settings).path)
    other = replace(settings, cache=tmp_path / "other")
    with pytest.raises(KeyboardInterrupt):
        make_standin(other, Stop())
    assert contents(make_standin(other).path) == whole
    shard = other.cache / "shards" / "00000.h5"
    before = shard.stat().st_mtime_ns
    assert make_standin(other, Stop()).path == other.cache and shard.stat().st_mtime_ns == before


def test_what_is_in_the_way_is_refused(settings: Settings, tmp_path: Path) -> None:
    make_standin(settings)
    with pytest.raises(CacheError, match="holds another cache"):
        make_standin(replace(settings, seed=1))
    with pytest.raises(DataError, match="no split lists"):
        make_standin(replace(settings, splits=settings.cache))


def test_the_command_says_that_there_are_no_videos(settings: Settings) -> None:
    command = ["standin", "--splits", str(settings.splits), "--cache", str(settings.cache)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert result.stderr.startswith("72 clips of 4 classes, ") and "made up, no videos" in result.stderr
    assert len(FeatureCache(settings.cache)) == 72


@pytest.mark.skipif(not OFFICIAL_LISTS.is_dir(), reason="needs the official lists")
def test_of_the_official_lists_it_has_every_clip(tmp_path: Path) -> None:
    """The first frame of each alone."""
    subsets = official_subsets()
    assert len(subsets) == 6766 and sum(parts[0] == TEST for parts in subsets.values()) == 1530
    few = dict(list(subsets.items())[::100])
    assert set(write_standin(tmp_path, few, MOVES)) == few.keys()
