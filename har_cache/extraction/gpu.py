"""Shard tasks on one device: worker processes decode, and hand their frames over to this process, which encodes them.

Clips are encoded in the plan's order, in batches that begin anew with each shard: so what is in a batch follows from
the plan alone, whatever the number of workers and whichever is fastest.
"""

import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import numpy as np

from ..cache.record import ClipRecord
from ..errors import ClipError
from ..workers.pool import WorkerPool
from ..workers.prefetch import Decoding, decode_ahead
from ..workers.ring import RING_BYTES, Ring
from ..workers.tasks import Job, check_finite, decode
from .gpu_batches import BatchEncoder, Rows
from .shard_tasks import OnClip, ShardResult, ShardTask, to_record

# A worker that has filled the ring of a short clip goes on to the next clip.
_RINGS_A_WORKER = 2
_POLL_S = 0.0005


# A clip that is being decoded, tagged with its shard, and its key and file.
_Clip = Decoding[tuple[int, tuple[str, Path]]]


def run_on_device(
    tasks: Iterable[ShardTask], job: Job, device: str, workers: int, on_clip: OnClip
) -> Generator[ShardResult, None, None]:
    """Do the tasks with `workers` decoding processes, and the encoder of `job` on `device`; yield each shard when done.

    A clip's seconds by stage are `decode` in the worker, without its waiting for room; `transform` and `encode`
    as BatchEncoder has them. They overlap: their sum is not the time that has passed.
    """
    assert job.encoder is not None
    encoder = BatchEncoder(job.encoder, job.precision, job.views, device)
    with ExitStack() as stack:
        rings = [stack.enter_context(Ring.create(RING_BYTES)) for _ in range(_RINGS_A_WORKER * workers)]
        job = replace(job, encoder=None, rings=tuple(ring.name for ring in rings))
        pool = stack.enter_context(WorkerPool(job, workers))
        calls = (((task.index, clip), clip) for task in tasks for clip in task.clips)
        for shard, clips in groupby(decode_ahead(pool, decode, calls, rings), lambda clip: clip.tag[0]):
            yield ShardResult(shard, tuple(_results(clips, encoder, pool, on_clip)))


def _results(clips: Iterable[_Clip], encoder: BatchEncoder, pool: WorkerPool, on_clip: OnClip) -> Iterator[ClipRecord]:
    """A shard's results, in order, as soon as they are known."""
    pending: deque[tuple[_Clip, Rows, ClipRecord | ClipError]] = deque()

    def finished() -> Iterator[ClipRecord]:
        while pending and pending[0][1].complete:
            clip, rows, decoded = pending.popleft()
            result = to_record(clip.tag[1], _outcome(rows, decoded))
            on_clip(result)
            yield result

    for clip in clips:
        pending.append((clip, *_encode(clip, pool, encoder)))
        yield from finished()
    encoder.flush()
    yield from finished()


def _encode(clip: _Clip, pool: WorkerPool, encoder: BatchEncoder) -> tuple[Rows, ClipRecord | ClipError]:
    """Send a clip's frames to the encoder as they come. All of them, even if decoding has failed meanwhile: so that
    the batches do not depend on when this is noticed.
    """
    rows = Rows()
    while True:
        over = clip.future.done()  # asked first: all that was written before is then seen
        frames = clip.ring.read(encoder.room)
        if len(frames):
            encoder.add(frames, rows)
            clip.ring.release(len(frames))
        elif over:
            return rows, pool.outcome(clip.future)
        else:
            time.sleep(_POLL_S)


def _outcome(rows: Rows, decoded: ClipRecord | ClipError) -> ClipRecord | ClipError:
    if isinstance(decoded, ClipError):
        return decoded
    assert rows.sent == decoded.frames
    embeddings = np.concatenate(rows.parts, axis=1)
    try:
        check_finite(embeddings)
    except ClipError as error:
        return error
    return replace(decoded, embeddings=embeddings, seconds={**decoded.seconds, **rows.seconds})
