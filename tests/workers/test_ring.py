import os
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from har_cache.errors import ClipError
from har_cache.workers.ring import Ring

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="rings are made of Linux's anonymous files")

HEIGHT, WIDTH = 5, 7
FRAME = HEIGHT * WIDTH * 3


@pytest.fixture
def ring():
    with Ring.create(10 * FRAME + 1) as ring:
        yield ring


def frames(count, height=HEIGHT, width=WIDTH):
    return np.random.default_rng(count).integers(0, 255, (count, height, width, 3), np.uint8)


def never():
    raise AssertionError("the ring is full")


@pytest.mark.parametrize("chunk", [1, 3, 10, 16, 100])
@pytest.mark.parametrize("most", [1, 4, 100])
def test_frames_arrive_once_and_in_order_through_a_smaller_ring(ring, chunk, most):
    sent = frames(100)
    writer = Ring(ring.name)

    def write():
        for start in range(0, len(sent), chunk):
            writer.write(sent[start : start + chunk], lambda: None)

    thread = threading.Thread(target=write)
    thread.start()
    received, deadline = [], time.monotonic() + 20
    while sum(map(len, received)) < len(sent) and time.monotonic() < deadline:
        piece = ring.read(most)
        assert len(piece) <= most
        assert piece.flags.c_contiguous
        received.append(piece.copy())
        ring.release(len(piece))
    thread.join()
    assert np.array_equal(np.concatenate(received), sent)


def test_frames_stay_until_they_are_released(ring):
    writer, sent = Ring(ring.name), frames(12)
    assert writer.written == 0
    writer.write(sent[:10], never)
    assert np.array_equal(ring.read(100), sent[:10])
    assert np.array_equal(ring.read(100), sent[:10])
    ring.release(3)
    writer.write(sent[10:], never)
    assert np.array_equal(ring.read(100), sent[3:10])
    ring.release(7)
    assert np.array_equal(ring.read(100), sent[10:])
    assert Ring(ring.name).written == 12
    ring.reset()
    assert Ring(ring.name).written == 0


def test_a_writer_says_that_it_waits(ring):
    waits = []

    def read_late():
        waits.append(len(waits))
        if len(waits) == 3:
            ring.release(1)

    Ring(ring.name).write(frames(11), read_late)
    assert waits == [0, 1, 2]


def test_after_a_reset_frames_may_have_another_size(ring):
    writer = Ring(ring.name)
    writer.write(frames(4), never)
    ring.reset()
    assert len(ring.read(100)) == 0
    other = frames(3, height=11, width=2)
    writer.write(other, never)
    assert np.array_equal(ring.read(100), other)


def test_an_empty_ring_has_no_frames(ring):
    assert len(ring.read(100)) == 0


def test_a_frame_larger_than_the_ring_is_refused():
    with Ring.create() as ring, pytest.raises(ClipError, match=r"frames of 8192x8192: .* 32 MiB .* --device cpu"):
        ring.write(np.broadcast_to(np.uint8(0), (1, 8192, 8192, 3)), never)


def test_nothing_is_left_behind():
    with Ring.create() as ring:
        assert os.path.exists(ring.name)  # noqa: PTH110 - pathlib would resolve it
    assert not os.path.exists(ring.name)  # noqa: PTH110


def mapped_rings():
    return Path("/proc/self/maps").read_text().count("har-cache frames")


def descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


def test_nothing_is_open_and_nothing_mapped_afterwards():
    open_before, maps = descriptors(), mapped_rings()
    with Ring.create(10 * FRAME) as ring:
        ring.write(frames(5), never)
        copy = ring.read(5).copy()
        assert mapped_rings() == maps + 1
    assert descriptors() == open_before and mapped_rings() == maps
    assert np.array_equal(copy, frames(5))


def test_an_error_whose_traceback_holds_frames_keeps_nothing_mapped():
    def fail(ring):
        held = ring.read(5)
        raise KeyboardInterrupt(len(held))

    maps = mapped_rings()
    with pytest.raises(KeyboardInterrupt) as caught, Ring.create(10 * FRAME) as ring:
        ring.write(frames(5), never)
        fail(ring)
    assert caught.value.args == (5,) and mapped_rings() == maps


def test_frames_that_are_still_held_are_an_error_and_no_crash():
    with pytest.raises(BufferError), Ring.create(10 * FRAME) as ring:
        ring.write(frames(5), never)
        held = ring.read(5)
    assert np.array_equal(held, frames(5))
