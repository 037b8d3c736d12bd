"""Code in the documentation, run."""

import re
from pathlib import Path

import pytest

from .helpers.caches import random_embeddings, write_cache

README = Path(__file__).parents[1] / "README.md"


def test_a_shard_is_read_with_h5py_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_cache(tmp_path / "cache", random_embeddings({"a/1.avi": 3, "a/2.avi": 1}), subsets={"a/1.avi": (1, 2)})
    [code] = re.findall(r"```python\n(import json\n.*?)```", README.read_text(), re.DOTALL)
    exec(code.replace("data/caches/sample", str(tmp_path / "cache")), {})
    first, second = capsys.readouterr().out.splitlines()
    assert first == "a/1.avi a [1, 2] (1, 3, 256) [0.         0.03333333 0.06666667]"
    assert second == "a/2.avi a None (1, 1, 256) [0.]"
