"""Extractions of some frames of each clip, and of caches that were begun before there were timestamps."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from har_cache import FeatureCache
from har_cache.cache.manifest import read_manifest
from har_cache.cache.verify import verify
from har_cache.encoder.weights import save_encoder
from har_cache.errors import CacheError, SettingError
from har_cache.extraction.extract import extract
from har_cache.settings.extraction import ExtractSettings

from ..helpers.fake_extraction import GOOD, fake_extraction, made_with
from ..helpers.networks import calibrated_model
from ..helpers.videos import RATE, moving_frames, write_video


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> ExtractSettings:
    """What a cache of every frame of two clips was made with."""
    root = tmp_path_factory.mktemp("whole")
    for key, count in (("a/1.mp4", 21), ("b/2.avi", 12)):
        (root / "data" / key).parent.mkdir(parents=True)
        write_video(root / "data" / key, moving_frames(count), "h264" if key.endswith("mp4") else "mpeg4")
    (root / "encoder.safetensors").write_bytes(save_encoder(calibrated_model()))
    settings = ExtractSettings(
        data=root / "data",
        cache=root / "cache",
        weights=str(root / "encoder.safetensors"),
        precision="fp32",
        workers=1,
    )
    extract(settings)
    return settings


def test_every_frame_has_its_time(whole: ExtractSettings) -> None:
    cache = FeatureCache(whole.cache)
    assert cache.recipe.frames is None
    assert cache.times("a/1.mp4") == pytest.approx(np.arange(21) / RATE)
    assert cache.times("b/2.avi") == pytest.approx(np.arange(12) / RATE)


@pytest.mark.parametrize(("asked", "words", "step"), [({"every": 2}, "every 2", 2), ({"fps": 10.0}, "10 fps", 3)])
def test_of_frames_that_are_left_out_nothing_else_changes(
    whole: ExtractSettings, tmp_path: Path, asked: dict[str, float], words: str, step: int
) -> None:
    settings = replace(whole, cache=tmp_path / "cache", **asked)
    extract(settings)
    everything, some = FeatureCache(whole.cache), FeatureCache(settings.cache)
    assert some.recipe == replace(everything.recipe, frames=words)
    for key in everything:
        assert np.array_equal(some[key], everything[key][:, ::step])
        assert np.array_equal(some.times(key), everything.times(key)[::step])
    assert verify(settings.cache, settings.data) == []
    assert extract(settings).clips == 0
    with pytest.raises(CacheError, match=rf"another recipe: frames: {words} \(asked: every one\)"):
        extract(replace(whole, cache=settings.cache))


def test_frames_are_counted_or_timed() -> None:
    with pytest.raises(SettingError, match="--every counts frames, --fps goes by their time: give one of them"):
        ExtractSettings(data=Path("d"), cache=Path("c"), every=2, fps=5.0).check()


def test_a_cache_of_before_timestamps_is_extended_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = made_with(tmp_path)

    def add(name: str) -> None:
        (tmp_path / "data" / "a").mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / "a" / name).write_bytes(GOOD + name.encode())

    with fake_extraction():
        prepared = sys.modules["har_cache.extraction.prepare"]
        prepare = prepared.prepare

        def as_before(*args: object) -> object:
            recipe, encoder = prepare(*args)
            return replace(recipe, schema="har-cache/1"), encoder

        monkeypatch.setattr(prepared, "prepare", as_before)
        add("1.avi")
        extract(settings)
        monkeypatch.undo()
        add("2.avi")
        assert extract(settings).clips == 1
    manifest = read_manifest(settings.cache)
    assert (manifest.schema, len(manifest.shards)) == ("har-cache/1", 2)
    assert verify(settings.cache) == []
    cache = FeatureCache(settings.cache)
    assert all(cache[key].shape[2] == 256 for key in ("a/1.avi", "a/2.avi"))
    with pytest.raises(CacheError, match="before there were timestamps"):
        cache.times("a/2.avi")
