import pytest

from har_cache.encoder.folded import fold

from ..helpers.networks import calibrated_model


@pytest.fixture(scope="module")
def model():
    return calibrated_model()


@pytest.fixture(scope="module")
def folded(model):
    return fold(model)
