import tomllib
from pathlib import Path

import pytest

import har_cache

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


def test_every_name_is_there_and_shown_before_it_is_used() -> None:
    assert har_cache.__all__ == sorted(har_cache.__all__)
    assert set(har_cache.__all__) <= set(dir(har_cache))
    for name in har_cache.__all__:
        assert getattr(har_cache, name) is not None


def test_there_is_nothing_else() -> None:
    with pytest.raises(AttributeError, match="module 'har_cache' has no attribute 'Cache'"):
        har_cache.Cache  # noqa: B018


def test_functions_stay_functions_when_their_stages_are_imported() -> None:
    import har_cache.extraction.extract
    import har_cache.training.train_head

    assert callable(har_cache.extract) and callable(har_cache.train_head)


def test_the_version_is_that_of_the_package() -> None:
    assert har_cache.__version__ == tomllib.loads(PYPROJECT.read_text())["project"]["version"]
