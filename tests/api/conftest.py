from pathlib import Path

import pytest

from ..conftest import Finished


@pytest.fixture
def place(finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current directory in which the documentation's paths are there: the sample and its cache."""
    (tmp_path / "data" / "caches").mkdir(parents=True)
    (tmp_path / "data" / "sample").symlink_to(finished.data)
    (tmp_path / "data" / "caches" / "sample").symlink_to(finished.cache)
    monkeypatch.chdir(tmp_path)
    return tmp_path
