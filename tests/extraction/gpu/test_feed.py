import gc
import os
import pickle
import signal
import subprocess
import sys
import time
from collections import deque
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch

from har_cache.encoder import transform
from har_cache.encoder.encoder import Encoder, centred_cosine
from har_cache.encoder.folded import fold
from har_cache.encoder.transform import crop, normalise, pictures
from har_cache.encoder.weights import calibrate, random_model
from har_cache.extraction import shard_tasks as local
from har_cache.extraction.cpu import run_on_cpu
from har_cache.extraction.gpu import batches, feed
from har_cache.extraction.shard_tasks import ShardTask
from har_cache.video.pixels import Layout
from har_cache.workers.ring import Piece, Ring
from har_cache.workers.tasks import Job

from ...helpers.networks import calibrated_model
from ...helpers.videos import moving_frames, reference_frames, write_video

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="rings are made of Linux's anonymous files")

SMALL_RING = 1 << 20  # 18 frames of 160x120
SMALL_BATCH = 32


@pytest.fixture(scope="module")
def tables():
    return feed.rgb_tables()


@pytest.fixture(autouse=True)
def _small(monkeypatch, tables):
    """Rings that clips do not fit into, and batches that a few clips fill; tables of colours made once."""
    monkeypatch.setattr(feed, "rgb_tables", lambda: tables)
    monkeypatch.setattr(feed, "RING_BYTES", SMALL_RING)
    monkeypatch.setattr(batches, "BATCH", SMALL_BATCH)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    write_video(folder / "a.avi", moving_frames(50))
    write_video(folder / "b.mp4", moving_frames(9, 120, 160))
    write_video(folder / "c.mkv", moving_frames(21, 320, 240), "libx264")
    (folder / "d.avi").write_text("This is no video.\n")
    data = (folder / "a.avi").read_bytes()
    (folder / "e.avi").write_bytes(data[: len(data) // 2])
    write_video(folder / "f.avi", moving_frames(23))
    return folder


@pytest.fixture(scope="module")
def tasks(folder):
    clips = tuple((f"class/{path.name}", path) for path in sorted(folder.iterdir()))
    return [ShardTask(3, clips), ShardTask(5, clips[3:5]), ShardTask(4, clips[:2])]


@pytest.fixture(scope="module")
def job():
    model = random_model(0)
    calibrate(model, [normalise(crop(torch.from_numpy(np.stack(moving_frames(8)))))])
    return Job("pyav", fold(model), "fp32", ("center", "flip", "full"))


def run(tasks, job, workers=2, device="cpu", on_clip=lambda clip: None):
    return list(feed.run_on_device(tasks, job, device, workers, on_clip))


def all_results(shards):
    return [result for shard in shards for result in shard.results]


def facts(result):
    frames = None if result.embeddings is None else result.embeddings.shape
    return frames, result.key, result.fps, result.declared_frames, result.source_sha256, result.reason


def assert_close(shards, reference, least=0.9999):
    results, expected = all_results(shards), all_results(reference)
    assert [facts(r) for r in results] == [facts(r) for r in expected]
    found, wanted = (
        torch.from_numpy(np.concatenate([r.embeddings for r in rs if r.embeddings is not None], 1)).float()
        for rs in (results, expected)
    )
    for view in range(len(wanted)):
        assert centred_cosine(wanted[view], found[view]).min() > least


def open_rings():
    gc.collect()  # the traceback of a clip's error may hold the last views of a ring
    links = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]  # noqa: PTH208
    return [link for link in links if os.path.islink(link) and "har-cache" in os.readlink(link)]  # noqa: PTH114, PTH115


@pytest.fixture(scope="module")
def on_cpu(tasks, job):
    results = run_on_cpu(tasks, job, 2, lambda clip: None)
    by_index = {result.index: result for result in results}
    return [by_index[task.index] for task in tasks]


def test_gives_what_the_cpu_way_gives_for_any_number_of_workers(tasks, job, on_cpu, folder):
    told = []
    shards = run(tasks, job, workers=1, on_clip=told.append)

    assert [shard.index for shard in shards] == [3, 5, 4]
    assert_close(shards, on_cpu)
    for result in all_results(shards):
        if result.embeddings is not None:
            assert result.embeddings.dtype == np.float16
            assert result.embeddings.shape == (3, len(reference_frames(folder / Path(result.key).name)), 256)
    reasons = [result.reason for result in shards[0].results]
    assert reasons[3] == "a text file, not a video"
    assert "truncated" in reasons[4]

    assert told == all_results(shards)
    for result in told:
        assert sorted(result.seconds) == ([] if result.reason else ["decode", "encode", "transform"])
        assert all(value > 0 for value in result.seconds.values())
    assert not open_rings()

    for one, three in zip(all_results(shards), all_results(run(tasks, job, workers=3)), strict=True):
        assert facts(one) == facts(three)
        assert np.array_equal(one.embeddings, three.embeddings)


def test_waiting_for_the_reader_is_no_stall(tasks, job, on_cpu, monkeypatch):
    add, naps = batches.BatchEncoder.add, iter([2.5])

    def slow_add(self, *args):
        time.sleep(next(naps, 0))
        add(self, *args)

    monkeypatch.setattr(batches.BatchEncoder, "add", slow_add)
    monkeypatch.setattr("har_cache.workers.pool.STRIKES", 1)
    shards = run([ShardTask(0, tasks[0].clips[:1])], replace(job, stall_s=1))
    assert facts(shards[0].results[0]) == facts(on_cpu[0].results[0])


def test_rings_are_closed_when_the_run_breaks_off(tasks, job):
    def interrupt(clip):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tasks, job, on_clip=interrupt)
    assert not open_rings()


def test_embeddings_that_float16_cannot_hold_fail_the_clip(tasks, job):
    overflowing = replace(job, encoder=replace(job.encoder, bias=job.encoder.bias + 1e6))
    shards = run([ShardTask(0, tasks[0].clips[1:2])], overflowing)
    assert "not finite" in shards[0].results[0].reason


def test_frames_that_a_device_has_no_memory_for_fail_their_clip_alone(tasks, job, monkeypatch):
    """Larger pieces are taken by halves; where not even one frame fits, the batch goes on without."""
    whole, squash, sizes = run(tasks[:1], job), transform.squash, []

    def with_little_memory(frames, *how):
        sizes.append(len(frames))
        if len(frames) > 5 or frames.shape[2] == 320:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return squash(frames, *how)

    monkeypatch.setattr(transform, "squash", with_little_memory)
    shards = run(tasks[:1], job)
    assert max(sizes) > 5
    for found, wanted in zip(all_results(shards), all_results(whole), strict=True):
        if wanted.key == "class/c.mkv":
            assert found.failed and "cpu has not even memory for one of its frames (320x240)" in found.reason
        else:
            assert facts(found) == facts(wanted) and np.array_equal(found.embeddings, wanted.embeddings)


def test_batches_begin_anew_with_each_shard_and_nothing_waits_for_their_end(tasks, job, monkeypatch):
    calls = []

    class Encoder(batches.BatchEncoder):
        def add(self, piece, *more):
            calls.append(len(piece))
            super().add(piece, *more)

        def pad(self):
            calls.append("pad")
            super().pad()

        def finish(self):
            calls.append("finish")
            super().finish()

    monkeypatch.setattr(feed, "BatchEncoder", Encoder)
    shards = run(tasks, job)
    assert [call for call in calls if isinstance(call, str)] == ["pad", "pad", "pad", "finish"]
    frames = [list(group) for text, group in groupby(calls, lambda call: isinstance(call, str)) if not text]
    sent = [sum(r.frames for r in shard.results) for shard in shards]
    assert [sum(counts) >= count for counts, count in zip(frames, sent, strict=True)] == [True] * 3


def test_a_ring_goes_to_another_clip_when_all_its_frames_are_released(tasks, job, on_cpu, monkeypatch):
    """Also where the device takes its time to read them."""
    waits, reset = [], Ring.reset

    class Encoder(batches.BatchEncoder):
        held: ClassVar = deque()
        polls = 0

        def add(self, piece, rows, release):
            super().add(Piece(piece.layout, piece.data.copy()), rows)
            self.held.append(release)
            self.polls = 0

        def poll(self):
            super().poll()
            self.polls += 1
            while self.held and (len(self.held) > 2 or self.polls > 20):
                self.held.popleft()()

        def wait(self):
            waits.append(len(self.held))
            while self.held:
                self.held.popleft()()

    def checked_reset(ring):
        assert not ring.held
        reset(ring)

    monkeypatch.setattr(feed, "BatchEncoder", Encoder)
    monkeypatch.setattr(Ring, "reset", checked_reset)
    assert_close(run(tasks, job, workers=1), on_cpu)
    assert len(waits) > 1


def test_workers_decode_while_the_device_gets_ready(tasks, job, monkeypatch):
    begun = []

    class Encoder(batches.BatchEncoder):
        def __init__(self, *args):
            deadline = time.monotonic() + 20
            rings = [np.frombuffer(memory, np.int64, 1) for memory in args[-1]]
            while not any(ring[0] for ring in rings) and time.monotonic() < deadline:
                time.sleep(0.01)
            begun.append(any(ring[0] for ring in rings))
            del rings
            super().__init__(*args)

    monkeypatch.setattr(feed, "BatchEncoder", Encoder)
    assert run(tasks[2:], job) and begun == [True]


def test_a_device_that_does_not_start_leaves_nothing(tasks, job, monkeypatch):
    def refuse(*args):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(feed, "BatchEncoder", refuse)
    with pytest.raises(torch.OutOfMemoryError):
        run(tasks, job)
    assert not open_rings()


def test_frames_too_large_to_hand_over_fail_the_clip(tasks, job, monkeypatch):
    monkeypatch.setattr(feed, "RING_BYTES", 100_000)  # one of 160x120, none of 320x240
    shards = run([ShardTask(0, tasks[0].clips[1:3])], job)
    fits, large = shards[0].results
    assert fits.embeddings.shape[1] == 9
    assert "320x240" in large.reason


@pytest.mark.parametrize("views", [("center",), ("center", "full")])
@pytest.mark.parametrize("pieces", [[32, 32, 9], [1, 31, 20, 12, 9], [9, 20, 3, 32, 9]])
def test_batches_do_not_depend_on_how_frames_come(job, pieces, views):
    frames = np.stack(moving_frames(sum(pieces)))
    encoder = batches.BatchEncoder(job.encoder, "fp32", views, "cpu")
    rows, start = batches.Rows(), 0
    for count in pieces:
        encoder.add(Piece(Layout(120, 160), frames[start : start + count].reshape(count, -1)), rows)
        start += count
    assert not rows.complete
    encoder.pad()
    encoder.finish()
    assert rows.complete

    seen = pictures(torch.from_numpy(frames), views)
    padded = [torch.cat([picture, torch.zeros(23, 3, 224, 224)]) for picture in seen]
    expected = Encoder(job.encoder, "fp32", views)(*padded)[:, : len(frames)].half().numpy()
    assert np.array_equal(np.concatenate(rows.parts, 1), expected)


@pytest.mark.gpu
@pytest.mark.parametrize(("precision", "least"), [("fp32", 0.9999), ("fp16", 0.99)])
def test_a_gpu_gives_what_the_cpu_gives_of_the_same_pixels(tasks, job, folder, precision, least, device="cuda"):
    """Of the same pixels: whether they are the CPU's, `make gpu-check` counts. Of clips as small as these an embedding
    shows each: with torch's own resize on an H100 its cosine to what the CPU made of its own pixels was 0.9967.
    """
    job = replace(job, encoder=fold(calibrated_model()), precision=precision)
    shards = run(tasks, job, device=device)
    encoder = Encoder(job.encoder, "fp32", job.views)
    for result in all_results(shards):
        if result.embeddings is None:
            continue
        frames = torch.from_numpy(reference_frames(folder / Path(result.key).name))
        expected = encoder(*(shown.cpu() for shown in pictures(frames.to(device), ("center", "full"))))
        for found, wanted in zip(result.embeddings, expected, strict=True):
            assert centred_cosine(wanted, torch.from_numpy(found).float()).min() > least
    for one, two in zip(all_results(shards), all_results(run(tasks, job, device=device, workers=1)), strict=True):
        assert np.array_equal(one.embeddings, two.embeddings)  # two that failed have none


FAKE_DECORD = '''
"""Decodes as PyAV does; kills its process at frame 20 of some files, of "once" only the first time."""
import os, pathlib, signal
import av

class logging:
    QUIET = 0
    set_level = staticmethod(lambda level: None)

def cpu(index):
    return None

class Frame:
    def __init__(self, array):
        self.asnumpy = lambda: array

class VideoReader:
    def __init__(self, path, ctx, num_threads):
        self.path = pathlib.Path(path)
        self.frames = av.open(path).decode(video=0)
        self.count = 0

    def next(self):
        self.count += 1
        marker = self.path.with_suffix(".marker")
        if self.count == 20 and ("segfault" in self.path.name or "once" in self.path.name and not marker.exists()):
            marker.touch()
            os.kill(os.getpid(), signal.SIGSEGV)
        return Frame(next(self.frames).to_ndarray(format="rgb24"))
'''

SCRIPT = """
import multiprocessing, pathlib, pickle, sys, time
import torch
from har_cache.extraction.gpu import batches, feed
from har_cache.extraction import shard_tasks as local

if __name__ == "__main__":
    torch.set_num_threads(1)
    feed.RING_BYTES, batches.BATCH = {ring}, {batch}
    workers, job, clips, out = pickle.loads(pathlib.Path(sys.argv[1]).read_bytes())

    def on_clip(clip):
        if out is None:
            print(*[process.pid for process in multiprocessing.active_children()], flush=True)
            time.sleep(100)

    shards = list(feed.run_on_device([local.ShardTask(0, clips)], job, "cpu", workers, on_clip))
    out.write_bytes(pickle.dumps(shards))
"""


def start(folder, workers, job, clips, out):
    """`run` in a process of its own, where `decord` is the fake one."""
    (folder / "decord").mkdir()
    (folder / "decord" / "__init__.py").write_text(FAKE_DECORD)
    (folder / "script.py").write_text(SCRIPT.format(ring=SMALL_RING, batch=SMALL_BATCH))
    (folder / "arguments").write_bytes(pickle.dumps((workers, job, clips, out)))
    return subprocess.Popen(
        [sys.executable, folder / "script.py", folder / "arguments"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(Path(feed.__file__).parents[3])])},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_crash_costs_its_clip_after_a_second_try(tmp_path, job):
    paths = [tmp_path / f"{name}.mp4" for name in ("good", "segfault", "once", "long", "longer")]
    for i, path in enumerate(paths):
        write_video(path, moving_frames(30 + 8 * i), "libx264")
    clips = tuple((path.name, path) for path in paths)
    out = tmp_path / "out"
    with start(tmp_path, 1, replace(job, decoder="decord", views=("center",)), clips, out) as process:
        assert process.wait(60) == 0

    # With one worker: while a clip is tried again, the next one waits in its full ring.
    results = pickle.loads(out.read_bytes())[0].results
    assert [r.key for r in results] == [key for key, _ in clips]
    assert results[1].reason == "the decoder crashes: SIGSEGV (tried twice)"
    good = ShardTask(0, (clips[0], *clips[2:]))
    expected = run([good], replace(job, views=("center",)))
    assert_close([local.ShardResult(0, (results[0], *results[2:]))], expected)


def test_workers_end_when_the_run_is_killed(tmp_path, job):
    short, long = tmp_path / "short.avi", tmp_path / "long.avi"
    write_video(short, moving_frames(SMALL_BATCH))
    write_video(long, moving_frames(60))
    with start(tmp_path, 2, job, (("short", short), ("long", long)), None) as process:
        workers = [int(word) for word in process.stdout.readline().split()]
        assert len(workers) == 2
        time.sleep(0.5)  # the long clip's worker now waits, its ring full
        process.send_signal(signal.SIGKILL)
        process.wait()
    deadline = time.monotonic() + 10
    while any(map(runs, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(runs, workers))


def runs(pid):
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
