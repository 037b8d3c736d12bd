import time

import pytest
import torch

from har_cache.finetuning.throughput import Stopwatch
from har_cache.training.batches import Batch

BATCH = Batch(torch.zeros(5, 1), torch.ones(5, 1, dtype=torch.bool), torch.zeros(5, dtype=torch.long))


def test_the_throughput_is_that_of_training_alone() -> None:
    stopwatch = Stopwatch(workers=3, device=torch.device("cpu"))
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


def test_on_a_gpu_steps_take_the_time_of_that_gpu_s_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever it is: `cuda:1` has a clock of its own."""
    device, asked = torch.device("cuda:1"), []
    clock = iter(range(100))

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self, stream: str) -> None:
            assert stream == "stream of cuda:1"
            self.time_ms = 10.0 * next(clock)

        def elapsed_time(self, later: "Event") -> float:
            assert asked == [device]  # before, there is no time yet
            return later.time_ms - self.time_ms

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda of: f"stream of {of}")
    monkeypatch.setattr(torch.cuda, "synchronize", asked.append)
    stopwatch = Stopwatch(2, device)
    stopwatch.loader.busy_s, stopwatch.loader.clips = 0.1, 15
    assert len(list(stopwatch.timed([BATCH] * 3))) == 3
    found = stopwatch.throughput
    assert found is not None and found.compute == pytest.approx(15 / 0.03)
