import time

import pytest

from har_cache.training.pace import Pacer
from har_cache.workers.prefetch import LoaderStats as Clock


def test_the_pace_is_that_of_training_alone() -> None:
    clock = Clock()
    pacer = Pacer(clock, workers=3, device="cpu")
    assert pacer.pace is None
    pacer.on_train_epoch_start()
    for _ in range(2):
        time.sleep(0.03)  # waiting for frames
        clock.waited_s, clock.busy_s, clock.clips = clock.waited_s + 0.03, clock.busy_s + 0.1, clock.clips + 5
        pacer.on_train_batch_start()
        time.sleep(0.06)
        pacer.on_train_batch_end()
    pacer.on_validation_start()
    time.sleep(0.3)  # validation
    pace = pacer.pace
    assert pace is not None
    assert pace.decode == pytest.approx(3 * 10 / 0.2)
    assert 10 / 0.5 < pace.achieved <= 10 / 0.18 and 10 / 0.4 < pace.compute <= 10 / 0.12
    assert 0 < pace.waited <= 0.06 / 0.18 and pace.achieved < pace.compute
