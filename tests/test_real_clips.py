"""Five clips of HMDB51 as distributed: DivX packed bitstreams in AVI, which decoders count wrongly."""

from pathlib import Path

import numpy as np
import pytest
from plain import least_faithful, plain_embeddings, plain_model

from har_cache import FeatureCache
from har_cache.extract import Settings, extract
from har_cache.verify import verify

DATA = Path(__file__).parents[2] / "shared" / "hmdb51"
FRAMES = {"climb": 242, "golf": 89, "punch": 172, "shoot_bow": 81, "swing_baseball": 140}

pytestmark = pytest.mark.skipif(not (DATA / "videos").is_dir(), reason="the real clips are not here")


@pytest.fixture(scope="module")
def caches(tmp_path_factory: pytest.TempPathFactory) -> dict[str, FeatureCache]:
    """One cache as by default, one by decord, and one in fp32."""
    pytest.importorskip("decord")
    wishes = {
        "default": {},
        "decord": {"decoder": "decord"},
        "fp32": {"precision": "fp32", "decoder": "pyav"},
    }
    folder = tmp_path_factory.mktemp("real")
    for name, wish in wishes.items():
        extract(Settings(DATA, folder / name, weights="random", **wish))
    return {name: FeatureCache(folder / name) for name in wishes}


@pytest.mark.parametrize("name", ["default", "decord", "fp32"])
def test_every_frame_is_cached_once(caches: dict[str, FeatureCache], name: str) -> None:
    cache = caches[name]
    assert {key.split("/")[0]: cache[key].shape[1] for key in cache} == FRAMES
    assert verify(cache.path, DATA) == []


def test_both_decoders_give_the_same_embeddings(caches: dict[str, FeatureCache]) -> None:
    a, b = caches["default"], caches["decord"]
    assert {a.recipe.decoder, b.recipe.decoder} == {"pyav", "decord"}
    for key in a:
        np.testing.assert_array_equal(a[key], b[key])


def test_every_frame_is_faithful(caches: dict[str, FeatureCache]) -> None:
    assert len({cache.recipe.encoder_sha256 for cache in caches.values()}) == 1
    model = plain_model(caches["fp32"].path / "encoder.safetensors")
    reference = {key: plain_embeddings(DATA / "videos" / key, model) for key in caches["fp32"]}
    assert least_faithful(caches["default"], reference) >= 0.99
    assert least_faithful(caches["decord"], reference) >= 0.99
    assert least_faithful(caches["fp32"], reference) >= 0.9999
