import os
import sys

import numpy as np
import pytest

from har_cache.errors import HarCacheError
from har_cache.finetuning.raw_batches import FramePrefetcher
from har_cache.workers.memory import SharedArray, create_memory, open_array
from har_cache.workers.ring import Ring

linux = pytest.mark.skipif(sys.platform != "linux", reason="memory files are Linux's")


@linux
def test_an_array_is_read_elsewhere_as_it_is():
    array = np.arange(1000, dtype=np.uint32)
    with SharedArray(array, "numbers") as shared:
        there = open_array(shared.name, np.uint32)
        name = shared.name
    assert np.array_equal(there, array) and not there.flags.writeable
    assert not os.path.exists(name)  # noqa: PTH110 - pathlib would resolve it


@linux
def test_memory_is_there_only_as_it_is_written():
    file, _ = create_memory(1 << 40, "much")
    assert os.fstat(file).st_blocks == 0
    os.close(file)


def test_a_system_without_memory_files_is_told_in_one_line(monkeypatch):
    monkeypatch.delattr(os, "memfd_create", raising=False)
    with pytest.raises(HarCacheError, match="fine-tuning, its evaluation, and extraction on a GPU need Linux"):
        Ring.create(1000)
    with pytest.raises(HarCacheError, match="need Linux"), FramePrefetcher(4, 1, 2):
        pass
