"""How fast the feeding of a GPU could be, in simulated time: the code as it is, everything around it played."""

from dataclasses import replace

import pytest

from har_cache.extraction.gpu import feed

from ...helpers.simulated_device import Costs, hmdb51_lengths, simulate

IDLE = replace(Costs(), transform=1e-6, encode=1e-6)
CLIPS = 1500


@pytest.mark.parametrize("shape", [3.0, 1.7])
def test_sixteen_workers_and_a_fast_gpu_embed_60_000_frames_a_second(shape):
    lengths = hmdb51_lengths(CLIPS, shape)
    seconds, busy = simulate(lengths)
    assert sum(lengths) / seconds > 60_000
    assert busy > 0.95  # the device is what bounds it


@pytest.mark.parametrize("shape", [3.0, 1.7])
def test_a_device_that_waits_for_nothing_gets_what_workers_decode(shape):
    lengths = hmdb51_lengths(CLIPS, shape)
    decoding = sum(IDLE.call + length * IDLE.decode for length in lengths) / 16
    seconds, _ = simulate(lengths, IDLE)
    assert decoding / seconds > 0.85


def test_a_long_clip_costs_its_own_time_alone():
    """Meanwhile the others decode ahead."""
    others = [90] * 40
    long = IDLE.call + 1000 * IDLE.decode
    alone, _ = simulate(others, IDLE)
    seconds, _ = simulate([1000, *others], IDLE)
    assert seconds < max(long, alone) + 2 * len(others) * IDLE.add


def test_a_small_machine_has_small_rings(monkeypatch):
    assert feed.ring_bytes(49) <= feed.RING_BYTES
    monkeypatch.setattr(feed.system, "memory_bytes", lambda: 8 << 30)
    assert 49 * feed.ring_bytes(49) <= 2 << 30
    assert feed.ring_bytes(4) == feed.RING_BYTES
