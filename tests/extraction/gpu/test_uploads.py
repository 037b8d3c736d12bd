"""Frames on their way to a device that does nothing before it must: with any of the synchronisations left out, some
embeddings are of other frames.
"""

import numpy as np
import pytest

from har_cache.extraction.gpu import batches
from har_cache.video.pixels import Layout, Pixels, from_table, rgb_table
from har_cache.workers.ring import Piece

from ...helpers.late_cuda import LateCuda, expected, late_cuda

BATCH = 16
SEEDS = range(6)
PLANES = Layout(60, 80, Pixels.BT601)
CLIPS = [[9, 5], [16, 16, 3], [2] * 12, [16, 7], [1, 1, 1, 1, 1, 1, 4], [11, 13]]
SHARDS_AFTER = {1, 3}  # clips


@pytest.fixture(scope="module")
def table():
    return rgb_table(Pixels.BT601)


@pytest.fixture(scope="module")
def clips(table):
    """Pieces of frames of each clip, and what their embeddings are; every second clip comes as planes."""
    rng, found = np.random.default_rng(0), []
    for i, counts in enumerate(CLIPS):
        layout = PLANES if i % 2 else Layout(60, 80)
        pieces = [rng.integers(0, 256, (count, layout.frame_bytes), np.uint8) for count in counts]
        found.append((layout, pieces, expected([_rgb(piece, layout, table) for piece in pieces])))
    return found


def _rgb(data, layout, table):
    if layout.pixels == Pixels.RGB:
        return data.reshape(-1, layout.height, layout.width, 3)
    ends = np.cumsum([rows * width for rows, width in layout.planes])[:-1]
    parts = [[p.reshape(s) for p, s in zip(np.split(f, ends), layout.planes, strict=True)] for f in data]
    return np.stack([from_table(planes, table) for planes in parts])


class Source:
    """Memory that frames come in, as a ring's: what has been released is overwritten at once."""

    def __init__(self, clips):
        self.memory = np.zeros(sum(piece.size for _, pieces, _ in clips for piece in pieces), np.uint8)
        self.used = self.held = 0

    def piece(self, frames, layout):
        data = self.memory[self.used : self.used + frames.size].reshape(frames.shape)
        data[:] = frames
        self.used += frames.size
        self.held += 1
        return Piece(layout, data)

    def release(self, piece):
        piece.data[:] = 99
        self.held -= 1


def run(clips, table, seed, registers=True, without=None):
    """Embeddings of each clip, float16 (2, frames, 256), and the device that they come from."""
    late, source, all_rows = LateCuda(seed, registers, without), Source(clips), []
    with late_cuda(late, BATCH, {Pixels.BT601: table}, [source.memory]) as encoder:
        for i, (layout, pieces, _) in enumerate(clips):
            rows = batches.Rows()
            all_rows.append(rows)
            for frames in pieces:
                start = 0
                while start < len(frames):
                    piece = source.piece(frames[start : start + encoder.room], layout)
                    start += len(piece)
                    encoder.add(piece, rows, lambda piece=piece: source.release(piece))
                    late.chance()
                    encoder.poll()
            if i in SHARDS_AFTER:
                encoder.pad()
            if i == 2:
                encoder.wait()
                assert not source.held
        encoder.pad()
        encoder.wait()
        encoder.finish()
        assert not source.held and all(rows.complete for rows in all_rows)
        assert bool(late.registered) == registers
    assert not late.registered
    return [np.concatenate(rows.parts, axis=1) for rows in all_rows], late


def are_right(found, clips):
    return all(np.array_equal(rows, wanted) for rows, (_, _, wanted) in zip(found, clips, strict=True))


@pytest.mark.parametrize("registers", [True, False])
@pytest.mark.parametrize("seed", SEEDS)
def test_embeddings_are_right_however_late_the_device_is(clips, table, seed, registers):
    found, _ = run(clips, table, seed, registers)
    assert are_right(found, clips)


SYNCHRONISATIONS = [
    (False, "__call__", "place.uploaded.synchronize()"),  # the pinned copy is overwritten while it is read
    (True, "__call__", "place.uploaded.synchronize()"),  # frames are released while they are read
    (True, "poll", "place.uploaded.query()"),
    (True, "wait", "place.uploaded.synchronize()"),
    (True, "__call__", "self._stream.wait_event(place.used)"),  # a place is overwritten before its use
    (False, "__call__", "self._stream.wait_event(place.used)"),
    (True, "__call__", "here.wait_event(place.uploaded)"),  # frames are used before they are there
    (True, "__call__", "place.used.record(here)"),
    (True, "hand_out", "self.encode[1].synchronize()"),  # embeddings are read before they are there
]


@pytest.mark.parametrize(("registers", "function", "text"), SYNCHRONISATIONS)
def test_without_any_synchronisation_some_embeddings_are_wrong(clips, table, registers, function, text):
    for seed in SEEDS:
        try:
            found, late = run(clips, table, seed, registers, (function, text))
        except AssertionError:  # a time is asked for that has not come
            return
        assert late.left_out, "no such line"
        if not are_right(found, clips):
            return
    raise AssertionError("nothing was wrong")
