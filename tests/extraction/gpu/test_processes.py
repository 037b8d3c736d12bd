"""Several devices: here all of them are the CPU, each with processes of its own."""

import multiprocessing
import os
import pickle
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from har_cache import devices
from har_cache.cache.record import ClipRecord
from har_cache.cache.verify import verify
from har_cache.encoder.folded import fold
from har_cache.encoder.weights import save_encoder
from har_cache.errors import HarCacheError
from har_cache.extraction import cpu
from har_cache.extraction.extract import extract
from har_cache.extraction.gpu import batches, processes
from har_cache.extraction.shard_tasks import ShardResult, ShardTask
from har_cache.settings.extraction import ExtractSettings
from har_cache.workers.tasks import Job

from ...conftest import contents
from ...helpers.commands import Run, shards_done, started
from ...helpers.devices import SMALL_BATCH, serve
from ...helpers.networks import calibrated_model
from ...helpers.videos import moving_frames, write_video

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="rings are made of Linux's anonymous files")


def device_processes() -> list[BaseProcess]:
    """Those of this process that are no daemons: other tests' workers are."""
    return [process for process in multiprocessing.active_children() if not process.daemon]


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "BATCH", SMALL_BATCH)
    monkeypatch.setattr(processes, "_serve", serve)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five clips of which one is none, and weights with a projection: nothing has to be fitted."""
    folder = tmp_path_factory.mktemp("gpus")
    for i in range(4):
        path = folder / "data" / "ab"[i % 2] / f"{i}.avi"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_video(path, moving_frames(6 + 5 * i))
    (folder / "data" / "a" / "bad.avi").write_text("This is no video.\n")
    (folder / "encoder.safetensors").write_bytes(save_encoder(calibrated_model()))
    return folder


@pytest.fixture
def settings(folder: Path, tmp_path: Path) -> ExtractSettings:
    return ExtractSettings(
        data=folder / "data",
        cache=tmp_path / "cache",
        weights=str(folder / "encoder.safetensors"),
        precision="fp32",
        shard_clips=1,
        workers=2,
    )


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The devices that there are; one alone does what a GPU does, not what a CPU does."""
    there: list[str] = []

    def run_on_one(tasks, job, workers, on_clip):
        return processes.run_on_devices(tasks, job, there, workers, on_clip)

    monkeypatch.setattr(devices, "resolve_devices", lambda name, say: there)
    monkeypatch.setattr(cpu, "run_on_cpu", run_on_one)
    yield there
    assert not device_processes()


def shards(cache: Path) -> dict[str, bytes]:
    return contents(cache / "shards")


@pytest.fixture(scope="module")
def job() -> Job:
    return Job("pyav", fold(calibrated_model()), "fp32", ("center",))


def test_any_number_of_devices_gives_the_same_bytes(
    settings: ExtractSettings, machine: list[str], tmp_path: Path
) -> None:
    found = []
    for count in (1, 2, 4):
        machine[:] = ["cpu"] * count
        told: list[ClipRecord] = []
        own = replace(settings, cache=tmp_path / str(count), shard_clips=2)
        report = extract(own, on_clip=told.append)
        assert (report.clips, report.failed, len(told)) == (4, 1, 5)
        assert set(report.busy_s) == {"decode", "transform", "encode", "write"}
        assert verify(own.cache, own.data) == []
        found.append(contents(own.cache))
    assert found[0] == found[1] == found[2]


def test_a_process_that_is_killed_is_named_and_finished_shards_are_kept(
    settings: ExtractSettings, machine: list[str]
) -> None:
    machine[:] = ["cpu", "cpu"]
    told: list[str] = []

    def kill(clip: ClipRecord) -> None:
        told.append(clip.key)
        if len(told) == 3:  # so that two shards are there
            os.kill(device_processes()[0].pid or 0, signal.SIGKILL)

    with pytest.raises(HarCacheError) as caught:
        extract(settings, on_clip=kill)
    assert str(caught.value) == (
        "cpu: the process that computes on it was ended by SIGKILL; what was finished is kept: run again to go on"
    )
    assert not device_processes()
    kept = shards(settings.cache)
    assert len(kept) >= 4 and not (settings.cache / "manifest.json").exists()
    assert extract(settings).clips + len(kept) // 2 in (4, 5)  # the clip that fails is in one shard
    assert kept.items() < shards(settings.cache).items()
    assert verify(settings.cache, settings.data) == []


def run(job: Job, folder: Path, on: list[str], workers: int = 2, on_clip=lambda clip: None) -> list[ShardResult]:
    clips = [(f"{path.parent.name}/{path.name}", path) for path in sorted(folder.rglob("*.avi"))]
    tasks = [ShardTask(i, (clip,)) for i, clip in enumerate(clips)]
    return list(processes.run_on_devices(iter(tasks), job, on, workers, on_clip))


def test_an_error_of_a_device_is_one_line_that_names_it(job: Job, folder: Path) -> None:
    with pytest.raises(HarCacheError, match=r"^cuda:97: \w+: .+; what was finished is kept$") as caught:
        run(job, folder, ["cpu", "cuda:97"])
    assert "\n" not in str(caught.value)
    assert not device_processes()


def test_each_process_does_what_it_has_room_for_and_no_shard_is_done_twice(job: Job, folder: Path) -> None:
    told: list[str] = []
    found = run(job, folder, ["cpu", "cpu", "cpu"], 1, lambda clip: told.append(clip.key))
    assert sorted(shard.index for shard in found) == list(range(5))
    assert sorted(told) == sorted(clip.key for shard in found for clip in shard.results)
    assert [clip.reason for shard in found for clip in shard.results if clip.failed] == ["a text file, not a video"]


def test_breaking_off_ends_all_processes(job: Job, folder: Path) -> None:
    def interrupt(clip: ClipRecord) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(job, folder, ["cpu", "cpu"], on_clip=interrupt)
    assert not device_processes()


@pytest.mark.parametrize(
    ("workers", "count", "shares"), [(8, 2, [4, 4]), (7, 3, [3, 2, 2]), (1, 3, [1, 1, 1]), (3, 1, [3])]
)
def test_workers_are_split_evenly_and_each_device_has_one(workers: int, count: int, shares: list[int]) -> None:
    assert processes._shares(workers, count) == shares


SCRIPT = """
import pathlib, pickle, sys, time
from multiprocessing import forkserver
from har_cache import devices
from har_cache.extraction.gpu import processes
from har_cache.extraction.extract import extract
from tests.helpers import devices as helper

if __name__ == "__main__":
    forkserver.set_forkserver_preload(["har_cache.workers.tasks"])
    forkserver.ensure_running()  # as a program may have done for itself: what it forks gets Ctrl-C
    processes._serve = getattr(helper, sys.argv[2])
    devices.resolve_devices = lambda name, say: ["cpu", "cpu"]
    settings, shards = pickle.loads(pathlib.Path(sys.argv[1]).read_bytes())
    told = []

    def on_clip(clip):
        told.append(clip)
        if len(told) > shards:
            (settings.cache / "there").touch()
            time.sleep(100)

    extract(settings, on_clip=on_clip)
"""


@contextmanager
def script(settings: ExtractSettings, folder: Path, serve: str) -> Iterator[Run]:
    """An extraction on two devices that stands still when it has told of four clips."""
    (folder / "script.py").write_text(SCRIPT)
    (folder / "arguments").write_bytes(pickle.dumps((settings, 3)))
    root = str(Path(processes.__file__).parents[3])
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, str(folder / "script.py"), str(folder / "arguments"), serve]
    with started([], folder, env=env, command=command) as run:
        yield run


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_process_outlives_the_run(settings: ExtractSettings, tmp_path: Path, how: signal.Signals) -> None:
    with script(settings, tmp_path, "serve") as command:
        command.wait_until(lambda: len(command.members()) >= 1 + 2 + 2)  # with a decoder each, until all is decoded
        command.wait_until((settings.cache / "there").exists)
        assert command.process.poll() is None, command.errors.read_text()
        if how == signal.SIGINT:
            os.killpg(command.process.pid, how)  # as a terminal does
        else:
            command.process.send_signal(how)
        command.process.wait(30)
        assert command.all_gone()
    if how == signal.SIGINT:  # the others may come in the middle of a commit
        assert "ForkServerProcess" not in command.errors.read_text()  # in whose traceback it is
        assert len(shards(settings.cache)) == 2 * shards_done(settings.cache) > 0


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_process_whose_device_does_not_answer_ends_with_the_run(
    settings: ExtractSettings, tmp_path: Path, how: signal.Signals
) -> None:
    with script(settings, tmp_path, "stuck") as command:
        # Once there is a plan, no others run but this one, a fork server, what tracks its resources, and the devices'.
        command.wait_until(lambda: (settings.cache / "plan.json").exists() and len(command.members()) >= 1 + 2 + 2)
        command.process.send_signal(how)
        command.process.wait(30)
        assert command.all_gone()
