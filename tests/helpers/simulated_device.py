"""The feeding of a GPU in simulated time: the code of `extraction.gpu.feed` as it is, all around it played.

What a part costs is given in `Costs`. `python -m tests.helpers.simulated_device` prints what follows from those of one
machine for stage one over a data set like HMDB51.
"""

import math
from collections import deque
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np

from har_cache.cache.record import ClipRecord
from har_cache.extraction.gpu import feed
from har_cache.extraction.gpu.batches import BATCH
from har_cache.extraction.shard_tasks import ShardTask
from har_cache.workers.ring import PIECE_BYTES
from har_cache.workers.tasks import Job

_AHEAD, _PLACES = 2, 4


@dataclass(frozen=True)
class Costs:
    """Seconds, and bytes a frame. `call`: from one clip's end to the next one's first frame, in a worker; `add`: of
    the feeding process, a piece of frames, and `copy` of it a frame, where it copies them; `upload`, `transform`,
    `encode`: of the device, a frame; `shard`: of the feeding process, for each that is done.
    """

    decode: float = 140e-6
    call: float = 1.0e-3
    add: float = 250e-6
    copy: float = 0.0
    shard: float = 1e-3
    upload: float = 2.4e-6
    transform: float = 6e-6
    encode: float = 1 / 110_000
    frame_bytes: int = 320 * 240 * 3 // 2


class World:
    """The time, and what happens in it: `workers` processes that decode clips of these lengths, by name."""

    def __init__(self, costs, workers, lengths):
        self.costs, self.lengths, self.now = costs, lengths, 0.0
        self.free = [0.0] * workers  # since when each worker has nothing to do
        self.waiting = deque()
        self.calls = []

    def sleep(self, seconds):
        self.now += seconds

    def advance(self):
        """Everything that workers have done by now."""
        again = True
        while again:
            again = False
            for call in [call for call in self.calls if call.advance(self.now)]:
                self.calls.remove(call)
                self.free.append(call.ended)
                again = True
            while self.free and self.waiting:
                call = self.waiting.popleft()
                idle = min(self.free)
                self.free.remove(idle)
                call.start(max(idle, call.submitted))
                self.calls.append(call)
                again = True


class Call:
    """A clip that is decoded into a ring, and the future of that."""

    def __init__(self, world, length, ring):
        self.world, self.length, self.ring, self.submitted = world, length, ring, world.now
        self.written, self.ended, self.begun = 0, math.inf, math.inf
        ring.call = self

    def start(self, now):
        self.begun = now + self.world.costs.call
        self.base = 0

    def advance(self, now):
        """Decode until now, as far as there is room; gives whether the clip is over."""
        if now < self.begun:
            return False
        could = self.base + int((now - self.begun) / self.world.costs.decode + 1e-9)
        room = self.ring.taken + self.ring.slots
        self.written = max(self.written, min(could, room, self.length))
        if self.written == self.length:
            self.ended = self.begun + (self.length - self.base) * self.world.costs.decode
            return True
        if could > room:  # full: it goes on from where it is when there is room again
            self.base, self.begun = self.written, now
        return False

    def done(self):
        self.world.advance()
        return self.world.now >= self.ended

    def record(self):
        return ClipRecord("k", self.length, 30.0, None, "", "", None, {})


class SimulatedRing:
    def __init__(self, world, size):
        self.world, self.name, self.slots = world, self, size // world.costs.frame_bytes
        self.memory = None
        self.most = PIECE_BYTES // world.costs.frame_bytes
        self.reset()

    def reset(self):
        self.seen = self.taken = 0
        self.call = None

    @property
    def held(self):
        return self.seen - self.taken

    def read(self, most):
        self.world.advance()
        at = self.seen % self.slots
        count = min(self.call.written - self.seen, most, self.slots - at, self.most)
        if not count:
            return None
        self.seen += count
        return range(count)

    def release(self, count):
        self.taken += count


class SimulatedDevice:
    """In place of BatchEncoder: the same waits, at the times that a device of these costs would end them."""

    def __init__(self, world):
        self.world, self.filled, self.shares, self.behind = world, 0, [], deque()
        self.copied = self.computed = 0.0  # until when the copy engine, and the rest, are busy
        self.places = deque((0.0, 0.0, None) for _ in range(_PLACES))  # uploaded, used, release
        self.busy = 0.0

    room = property(lambda self: BATCH - self.filled)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def add(self, piece, rows, release):
        costs, world, count = self.world.costs, self.world, len(piece)
        self.places.rotate(-1)
        uploaded, used, before = self.places[0]
        world.now = max(world.now, uploaded) + costs.add + count * costs.copy
        if before:
            before()
        if costs.copy:
            release()
            release = None
        self.copied = max(self.copied, world.now, used) + count * costs.upload
        self._compute(count * costs.transform, self.copied)
        self.places[0] = (self.copied, self.computed, release)
        self.shares.append((rows, count))
        rows.sent += count
        self.filled += count
        if self.filled == BATCH:
            self._encode()

    def _compute(self, seconds, after):
        self.computed = max(self.computed, self.world.now, after) + seconds
        self.busy += seconds

    def _encode(self):
        self._compute(BATCH * self.world.costs.encode, 0)
        self.behind.append((self.computed, self.shares))
        self.shares, self.filled = [], 0
        while len(self.behind) > _AHEAD:
            self._hand_out()

    def _hand_out(self):
        at, shares = self.behind.popleft()
        self.world.now = max(self.world.now, at)
        for rows, count in shares:
            rows.parts.append(np.empty((1, count, 0), np.float16))

    def poll(self):
        self._release(lambda uploaded: uploaded <= self.world.now)
        while self.behind and self.behind[0][0] <= self.world.now:
            self._hand_out()

    def wait(self):
        self.world.now = max(self.world.now, *(uploaded for uploaded, _, release in self.places if release), 0)
        self._release(lambda uploaded: True)

    def _release(self, is_over):
        for i in [*range(1, _PLACES), 0]:
            uploaded, used, release = self.places[i]
            if release:
                if not is_over(uploaded):
                    return
                release()
                self.places[i] = (uploaded, used, None)

    def pad(self):
        if self.filled:
            self._encode()

    def finish(self):
        while self.behind:
            self._hand_out()


class SimulatedPool:
    def __init__(self, world):
        self.world = world

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def submit(self, function, key, path, ring):
        call = Call(self.world, self.world.lengths[key], ring)
        self.world.waiting.append(call)
        self.world.advance()
        return call

    def outcome(self, call):
        return call.record()


@contextmanager
def _played(world, memory):
    devices = []

    def device(*args):
        devices.append(SimulatedDevice(world))
        return devices[-1]

    with ExitStack() as stack:
        for name, value in {
            "time": SimpleNamespace(sleep=world.sleep),
            "rgb_tables": dict,
            "Ring": SimpleNamespace(create=lambda size: nullcontext(SimulatedRing(world, size))),
            "WorkerPool": lambda job, workers: SimulatedPool(world),
            "BatchEncoder": device,
            "system": SimpleNamespace(memory_bytes=lambda: memory),
            "to_record": lambda clip, outcome: outcome,
        }.items():
            stack.enter_context(mock.patch.object(feed, name, value))
        yield devices


def simulate(lengths, costs=Costs(), workers=16, shard_clips=64, memory=128 << 30):
    """Seconds that clips of these lengths take, and the share of them that the device was busy."""
    keys = [str(i) for i in range(len(lengths))]
    world = World(costs, workers, dict(zip(keys, lengths, strict=True)))
    clips = [(key, Path(key)) for key in keys]
    starts = range(0, len(clips), shard_clips)
    tasks = [ShardTask(i, tuple(clips[at : at + shard_clips])) for i, at in enumerate(starts)]
    done = []
    with _played(world, memory) as devices:
        job = replace(Job("pyav"), encoder=object())
        for shard in feed.run_on_device(tasks, job, "simulated", workers, lambda clip: None):
            world.now += costs.shard
            done.append(shard.index)
            frames = [result.frames for result in shard.results]
            assert frames == [world.lengths[key] for key, _ in tasks[shard.index].clips]
    assert done == list(range(len(tasks)))
    return world.now, devices[0].busy / world.now


def hmdb51_lengths(clips=6766, shape=3.0, seed=0):
    """Numbers of frames as HMDB51's clips have them: 18 at least, 95 on average."""
    drawn = np.random.default_rng(seed).gamma(shape, 77 / shape, clips)
    return [int(18 + length) for length in drawn]


def main():
    cost, as_rgb = Costs(), {"decode": 175e-6, "upload": 4.8e-6, "frame_bytes": 230_400}
    print(f"{'':58}{'frames/s':>10}{'640,000 in':>12}{'device busy':>13}")
    for name, costs, workers in (
        ("16 workers, 140 us a frame", cost, 16),
        ("the same, spread more (gamma 1.7)", cost, 16),
        ("encoder of 55,000 frames/s (two views)", replace(cost, encode=1 / 55_000), 16),
        ("frames copied into pinned memory (11 us a frame)", replace(cost, copy=11e-6), 16),
        ("frames that go as RGB (175 us, 230,400 bytes)", replace(cost, **as_rgb), 16),
        ("a device that costs next to nothing", replace(cost, transform=1e-6, encode=1e-6), 16),
        ("8 workers", cost, 8),
    ):
        lengths = hmdb51_lengths(shape=1.7 if "1.7" in name else 3.0)
        seconds, busy = simulate(lengths, costs, workers)
        rate = sum(lengths) / seconds
        print(f"{name:58}{rate:10,.0f}{640_000 / rate:10.1f} s{busy:13.0%}")


if __name__ == "__main__":
    main()
