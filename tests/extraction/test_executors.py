import sys

import pytest

from har_cache.errors import HarCacheError
from har_cache.extraction import executors
from har_cache.extraction import shards as local


def test_local_is_an_executor_and_others_are_named() -> None:
    assert executors.find("local") is local.run
    with pytest.raises(HarCacheError, match="--executor dask: expected one of local, ray"):
        executors.find("dask")


def test_without_ray_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "har_cache.extraction.ray", raising=False)
    monkeypatch.setitem(sys.modules, "ray", None)  # as if it were not installed
    with pytest.raises(HarCacheError) as caught:
        executors.find("ray")
    assert str(caught.value) == "--executor ray needs ray: pip install 'har-cache[ray]'"
