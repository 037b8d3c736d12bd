import time

import pytest
import torch

from har_cache.training.batches import Batch
from har_cache.training.throughput import Stopwatch

BATCH = Batch(torch.zeros(5, 1), torch.ones(5, 1, dtype=torch.bool), torch.zeros(5, dtype=torch.long))


def test_the_throughput_is_that_of_training_alone() -> None:
    stopwatch = Stopwatch(workers=3, device="cpu")
    loader = stopwatch.loader
    assert stopwatch.throughput is None

    def batches():
        for _ in range(2):
            time.sleep(0.03)  # waiting for frames
            loader.waited_s, loader.busy_s, loader.clips = loader.waited_s + 0.03, loader.busy_s + 0.1, loader.clips + 5
            yield BATCH

    for batch in stopwatch.timed(batches()):
        assert batch is BATCH
        time.sleep(0.06)
    time.sleep(0.3)  # validation
    found = stopwatch.throughput
    assert found is not None
    assert found.decode == pytest.approx(3 * 10 / 0.2)
    assert 10 / 0.5 < found.achieved <= 10 / 0.18 and 10 / 0.4 < found.compute <= 10 / 0.12
    assert 0 < found.waited <= 0.06 / 0.18 and found.achieved < found.compute
