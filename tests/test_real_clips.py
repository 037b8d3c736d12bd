"""Five clips of HMDB51 as distributed: DivX packed bitstreams in AVI, which decoders count wrongly."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from har_cache import FeatureCache
from har_cache.cache.verify import verify
from har_cache.extraction.extract import extract
from har_cache.settings.extraction import ExtractSettings as Settings

from .helpers.plain import least_faithful, plain_embeddings, plain_model
from .helpers.shared import HMDB51 as DATA

FRAMES = {"climb": 242, "golf": 89, "punch": 172, "shoot_bow": 81, "swing_baseball": 140}

pytestmark = pytest.mark.skipif(not (DATA / "videos").is_dir(), reason="the real clips are not here")


def test_real_clips_are_cached_frame_by_frame_and_faithfully(tmp_path: Path) -> None:
    pytest.importorskip("decord")
    default = extracted(tmp_path / "default", weights="random")
    # With the encoder of the first: there is nothing to be fitted again.
    encoder = str(default.path / "encoder.safetensors")
    decord = extracted(tmp_path / "decord", weights=encoder, decoder="decord", precision=default.recipe.precision)
    fp32 = extracted(tmp_path / "fp32", weights=encoder, precision="fp32")

    assert default.recipe.encoder_sha256 == decord.recipe.encoder_sha256 == fp32.recipe.encoder_sha256
    for cache in (default, decord, fp32):
        assert {key.split("/")[0]: cache[key].shape[1] for key in cache} == FRAMES
        assert verify(cache.path, DATA) == []

    model = plain_model(Path(encoder))
    reference = {key: plain_embeddings(DATA / "videos" / key, model, every=4) for key in default}
    assert least_faithful(default, reference, every=4) >= 0.99
    assert least_faithful(fp32, reference, every=4) >= 0.9999
    for key in default:
        np.testing.assert_array_equal(decord[key], default[key])


def extracted(cache: Path, **wish: Any) -> FeatureCache:
    extract(Settings(data=DATA, cache=cache, **wish))
    return FeatureCache(cache)
