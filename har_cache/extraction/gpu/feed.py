"""Shard tasks on one device: worker processes decode, and hand their frames over to this process, which encodes them.

Clips are encoded in the plan's order, in batches that begin anew with each shard: so what is in a batch follows from
the plan alone, whatever the number of workers and whichever is fastest.
"""

import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, islice
from pathlib import Path

import numpy as np

from ... import system
from ...cache.record import ClipRecord
from ...errors import ClipError
from ...video.pixels import Pixels, Tables, rgb_table
from ...workers.memory import SharedArray
from ...workers.pool import WorkerPool
from ...workers.prefetch import Decoding, decode_ahead
from ...workers.ring import Ring
from ...workers.tasks import Job, check_finite, decode
from ..shard_tasks import OnClip, ShardResult, ShardTask, to_record
from .batches import BatchEncoder, Rows

# Clips are used in the plan's order, each at its worker's speed if it is not there yet: so workers go ahead by some
# clips, most of which fit into a ring (simulated: 2 rings of 32 MiB a worker cost a tenth to a fifth of the speed). One
# ring more is still being read when another clip gets its own.
_RINGS_A_WORKER, _SPARE_RINGS = 3, 1
RING_BYTES = 64 << 20
_RINGS_OF_MEMORY = 0.25  # of the machine's, at most, by all rings
_POLL_S = 0.0005
_NICE = 5  # of workers: the process that feeds the device comes first


# A clip that is being decoded, tagged with its task, and its key and file.
_Clip = Decoding[tuple[ShardTask, tuple[str, Path]]]


def run_on_device(
    tasks: Iterable[ShardTask], job: Job, device: str, workers: int, on_clip: OnClip, devices: int = 1
) -> Generator[ShardResult, None, None]:
    """Do the tasks with `workers` decoding processes, and the encoder of `job` on `device`, one of so many `devices`
    that share the machine's memory; yield each shard when done.

    A clip's seconds by stage are `decode` in the worker, without its waiting for room; `transform` and `encode`
    as BatchEncoder has them. They overlap: their sum is not the time that has passed.
    """
    assert job.encoder is not None
    with ExitStack() as stack:
        tables = rgb_tables()
        names = share_tables(tables, stack)
        count = _RINGS_A_WORKER * workers + _SPARE_RINGS
        rings = [stack.enter_context(Ring.create(ring_bytes(devices * count))) for _ in range(count)]
        decoding = replace(job, encoder=None, rings=tuple(ring.name for ring in rings), tables=names, nice=_NICE)
        pool = stack.enter_context(WorkerPool(decoding, workers))
        calls = (((task, clip), clip) for task in tasks for clip in task.clips)
        clips = decode_ahead(pool, decode, calls, rings, _SPARE_RINGS)
        first = list(islice(clips, 1))  # workers start while the device gets ready
        memories = [ring.memory for ring in rings]
        encoder = BatchEncoder(job.encoder, job.precision, job.views, device, tables, memories)
        del memories
        yield from _Feed(stack.enter_context(encoder), pool, on_clip).run(chain(first, clips))


def ring_bytes(rings: int) -> int:
    """Bytes of a ring, where there are so many: as many as clips fill, as far as the machine's memory goes."""
    return min(RING_BYTES, int(_RINGS_OF_MEMORY * system.memory_bytes() / rings))


def share_tables(tables: Tables, stack: ExitStack) -> tuple[tuple[Pixels, str], ...]:
    """The tables as workers get them, by name, until `stack` is closed: see `Job.tables`."""
    return tuple((pixels, stack.enter_context(SharedArray(table, "colours")).name) for pixels, table in tables.items())


def rgb_tables() -> Tables:
    """The tables of all kinds of pixels that have one."""
    kinds = [pixels for pixels in Pixels if pixels != Pixels.RGB]
    with ThreadPoolExecutor(len(kinds)) as threads:
        return dict(zip(kinds, threads.map(rgb_table, kinds), strict=True))


@dataclass
class _Feed:
    """The way of clips through the encoder: their frames go in as they come, their embeddings come back later."""

    encoder: BatchEncoder
    pool: WorkerPool
    on_clip: OnClip
    pending: deque[tuple[_Clip, Rows, ClipRecord | ClipError]] = field(default_factory=deque)
    done: list[ClipRecord] = field(default_factory=list)  # of the first shard that is not finished

    def run(self, clips: Iterable[_Clip]) -> Iterator[ShardResult]:
        """Yield shards as they are done. The next one's frames go in while the last ones of a shard come back."""
        shard: ShardTask | None = None
        before: Ring | None = None
        for clip in clips:
            if shard not in (None, clip.tag[0]):
                self.encoder.pad()
            shard = clip.tag[0]
            self.pending.append((clip, *self._encode(clip)))
            if before is not None and before.held:  # the clip after the next gets its ring
                self.encoder.wait()
            before = clip.ring
            yield from self._finished()
        self.encoder.pad()
        self.encoder.wait()
        self.encoder.finish()
        yield from self._finished()

    def _encode(self, clip: _Clip) -> tuple[Rows, ClipRecord | ClipError]:
        """Send a clip's frames to the encoder as they come. All of them, even if decoding has failed meanwhile: so that
        the batches do not depend on when this is noticed.
        """
        rows = Rows()
        while True:
            over = clip.future.done()  # asked first: all that was written before is then seen
            piece = clip.ring.read(self.encoder.room)
            if piece is not None:
                self.encoder.add(piece, rows, partial(clip.ring.release, len(piece)))
            elif over:
                return rows, self.pool.outcome(clip.future)
            else:
                time.sleep(_POLL_S)
            self.encoder.poll()

    def _finished(self) -> Iterator[ShardResult]:
        """Shards of which all clips have their embeddings."""
        while self.pending and self.pending[0][1].complete:
            clip, rows, decoded = self.pending.popleft()
            task, key_and_path = clip.tag
            self.done.append(to_record(key_and_path, _outcome(rows, decoded)))
            self.on_clip(self.done[-1])
            if len(self.done) == len(task.clips):
                yield ShardResult(task.index, tuple(self.done))
                self.done = []


def _outcome(rows: Rows, decoded: ClipRecord | ClipError) -> ClipRecord | ClipError:
    if isinstance(decoded, ClipError):
        return decoded
    if rows.error:
        return rows.error
    assert rows.sent == decoded.frames
    embeddings = np.concatenate(rows.parts, axis=1)
    try:
        check_finite(embeddings)
    except ClipError as error:
        return error
    return replace(decoded, embeddings=embeddings, seconds={**decoded.seconds, **rows.seconds})
