import os
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from har_cache.errors import ClipError
from har_cache.video.pixels import Layout, Pixels
from har_cache.workers.ring import Ring

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="rings are made of Linux's anonymous files")

HEIGHT, WIDTH = 6, 7
RGB = Layout(HEIGHT, WIDTH)
PLANES = Layout(HEIGHT, WIDTH, Pixels.BT601)
FRAME = RGB.frame_bytes


@pytest.fixture
def ring():
    with Ring.create(10 * FRAME + 1) as ring:
        yield ring


def frames(count, layout=RGB, seed=0):
    return np.random.default_rng((count, seed)).integers(0, 255, (count, layout.frame_bytes), np.uint8)


def never():
    raise AssertionError("the ring is full")


def write(ring, frames, layout=RGB, when_full=never):
    for frame in frames:
        ends = np.cumsum([rows * width for rows, width in layout.planes])
        planes = [part.reshape(shape) for part, shape in zip(np.split(frame, ends[:-1]), layout.planes, strict=True)]
        ring.write((layout, planes), when_full)


def read(ring, most=100):
    piece = ring.read(most)
    assert len(piece) <= most and piece.data.flags.c_contiguous
    return piece.data


@pytest.mark.parametrize("layout", [RGB, PLANES])
@pytest.mark.parametrize("most", [1, 4, 100])
def test_frames_arrive_once_and_in_order_through_a_smaller_ring(ring, layout, most):
    sent = frames(100, layout)
    writer = Ring(ring.name)
    thread = threading.Thread(target=write, args=(writer, sent, layout, lambda: None))
    thread.start()
    received, deadline = [], time.monotonic() + 20
    while len(received) < len(sent) and time.monotonic() < deadline:
        if (piece := ring.read(most)) is not None:
            assert piece.layout == layout and 0 < len(piece) <= most
            received.extend(piece.data.copy())
            ring.release(len(piece))
    thread.join()
    assert np.array_equal(received, sent)


@given(
    runs=st.lists(
        st.tuples(st.sampled_from([RGB, PLANES, Layout(3, 5), Layout(4, 3, Pixels.BT709)]), st.integers(1, 25))
    ),
    most=st.integers(1, 12),
    late=st.integers(0, 3),
)
@settings(max_examples=30, deadline=None)
def test_layouts_may_change_within_a_clip(runs, most, late):
    """Whatever comes in whatever layout arrives so, also where what was read is released a few pieces later."""
    sent = [(layout, frame) for i, (layout, count) in enumerate(runs) for frame in frames(count, layout, i)]
    with Ring.create(10 * FRAME + 1) as ring:
        writer = Ring(ring.name)

        def write_all():
            for layout, frame in sent:
                write(writer, [frame], layout, lambda: None)

        thread = threading.Thread(target=write_all)
        thread.start()
        received, unreleased = [], []
        deadline = time.monotonic() + 20
        while len(received) < len(sent) and time.monotonic() < deadline:
            piece = ring.read(most)
            if piece is not None:
                received += [(piece.layout, frame) for frame in piece.data.copy()]
                unreleased.append(len(piece))
            while len(unreleased) > (late if piece is not None else 0):
                ring.release(unreleased.pop(0))
            piece = None
        thread.join()
    assert [layout for layout, _ in received] == [layout for layout, _ in sent]
    assert all(np.array_equal(got, wanted) for (_, got), (_, wanted) in zip(received, sent, strict=True))


def test_frames_stay_until_they_are_released(ring):
    writer, sent = Ring(ring.name), frames(12)
    assert writer.written == 0
    write(writer, sent[:10])
    first = read(ring, 3)
    rest = read(ring)
    assert np.array_equal(first, sent[:3]) and np.array_equal(rest, sent[3:10])
    assert ring.read(100) is None and ring.held == 10
    with pytest.raises(AssertionError, match="full"):
        write(writer, sent[10:])
    ring.release(3)
    assert ring.held == 7
    write(writer, sent[10:])
    assert np.array_equal(first[:2], sent[10:]) and np.array_equal(rest, sent[3:10])
    assert np.array_equal(read(ring), sent[10:])
    assert Ring(ring.name).written == 12
    del first, rest
    ring.reset()
    assert Ring(ring.name).written == 0 and ring.held == 0


def test_a_writer_says_that_it_waits(ring):
    waits = []

    def read_late():
        waits.append(len(waits))
        if len(waits) == 3:
            ring.release(1)

    write(Ring(ring.name), frames(11), RGB, read_late)
    assert waits == [0, 1, 2]


def test_after_a_reset_frames_may_have_another_size(ring):
    writer = Ring(ring.name)
    write(writer, frames(4))
    ring.reset()
    assert ring.read(100) is None
    other = Layout(11, 2)
    write(writer, frames(3, other), other)
    piece = ring.read(100)
    assert piece.layout == other and np.array_equal(piece.data, frames(3, other))
    assert np.array_equal(piece.rgb(), piece.data.reshape(3, 11, 2, 3))


def test_an_empty_ring_has_no_frames(ring):
    assert ring.read(100) is None


def test_a_frame_larger_than_the_ring_is_refused(ring):
    large = Layout(20, 40)
    with pytest.raises(ClipError, match=r"frames of 40x20: .* --device cpu"):
        write(ring, frames(1, large), large)


def test_a_piece_and_a_frame_are_bounded(ring, monkeypatch):
    monkeypatch.setattr("har_cache.workers.ring.PIECE_BYTES", 4 * FRAME + 1)
    write(ring, frames(10))
    assert [len(read(ring)) for _ in range(3)] == [4, 4, 2]
    large = Layout(HEIGHT, 5 * WIDTH)
    with pytest.raises(ClipError, match=r"frames of 35x6"):
        write(ring, frames(1, large), large)


def test_nothing_is_left_behind():
    with Ring.create(FRAME) as ring:
        assert os.path.exists(ring.name)  # noqa: PTH110 - pathlib would resolve it
    assert not os.path.exists(ring.name)  # noqa: PTH110


def mapped_rings():
    return Path("/proc/self/maps").read_text().count("har-cache frames")


def descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


def test_nothing_is_open_and_nothing_mapped_afterwards():
    open_before, maps = descriptors(), mapped_rings()
    with Ring.create(10 * FRAME) as ring:
        write(ring, frames(5))
        copy = read(ring, 5).copy()
        assert mapped_rings() == maps + 1
    assert descriptors() == open_before and mapped_rings() == maps
    assert np.array_equal(copy, frames(5))


def test_an_error_whose_traceback_holds_frames_keeps_nothing_mapped():
    def fail(ring):
        held = read(ring, 5)
        raise KeyboardInterrupt(len(held))

    maps = mapped_rings()
    with pytest.raises(KeyboardInterrupt) as caught, Ring.create(10 * FRAME) as ring:
        write(ring, frames(5))
        fail(ring)
    assert caught.value.args == (5,) and mapped_rings() == maps


def test_frames_that_are_still_held_are_an_error_and_no_crash():
    with pytest.raises(BufferError), Ring.create(10 * FRAME) as ring:
        write(ring, frames(5))
        held = read(ring, 5)
    assert np.array_equal(held, frames(5))
