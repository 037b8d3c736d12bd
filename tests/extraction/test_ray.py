import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from har_cache.cache.record import ClipRecord
from har_cache.encoder.folded import fold
from har_cache.errors import HarCacheError
from har_cache.extraction.cpu import run_on_cpu
from har_cache.extraction.extract import extract
from har_cache.extraction.shard_tasks import ShardTask
from har_cache.workers.tasks import Job

from ..conftest import Finished, settled
from ..helpers.networks import calibrated_model
from ..helpers.videos import moving_frames, write_video

ray = pytest.importorskip("ray")

from har_cache.extraction import ray as on_ray  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def _cluster() -> Iterator[None]:
    """A cluster of two CPUs that this process is connected to."""
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def job() -> Job:
    return Job("pyav", fold(calibrated_model()))


@pytest.fixture
def tasks(tmp_path: Path) -> list[ShardTask]:
    """Three shards of two clips; one clip is empty, another is not there."""
    clips = [(f"a/{n}.avi", write_video(tmp_path / f"{n}.avi", moving_frames(n))) for n in (4, 20, 9, 12)]
    (tmp_path / "empty.avi").touch()
    clips += [("a/empty.avi", tmp_path / "empty.avi"), ("a/missing.avi", tmp_path / "missing.avi")]
    return [ShardTask(i, tuple(clips[i::3])) for i in range(3)]


def results(run: Any, tasks: list[ShardTask], job: Job, workers: int | None) -> dict[str, ClipRecord]:
    return {r.key: r for shard in run(tasks, job, workers, lambda clip: None) for r in shard.results}


# ------------------------------------------------------------------------------------------------ what it gives


@pytest.mark.parametrize("workers", [1, None])
def test_each_shard_comes_once_and_is_what_one_machine_gives(
    workers: int | None, tasks: list[ShardTask], job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = {shard.index: shard for shard in run_on_cpu(tasks, job, 1, lambda clip: None)}
    monkeypatch.chdir(tasks[0].clips[0][1].parent)  # actors are elsewhere: paths must not depend on it
    relative = [ShardTask(t.index, tuple((key, Path(path.name)) for key, path in t.clips)) for t in tasks]
    told: list[ClipRecord] = []
    done = list(on_ray.run_on_cluster(relative, job, workers, told.append))
    assert sorted(shard.index for shard in done) == [0, 1, 2]
    for shard in done:
        for one, two in zip(shard.results, expected[shard.index].results, strict=True):
            assert one == two
            assert (one.embeddings is None) == (two.embeddings is None)
            assert one.embeddings is None or one.embeddings.tobytes() == two.embeddings.tobytes()
    assert sorted(clip.key for clip in told) == sorted(key for task in tasks for key, _ in task.clips)
    assert all(set(r.seconds) == ({"decode", "transform", "encode"} if not r.reason else set()) for r in told)
    assert ray.is_initialized()  # the cluster was there before


@pytest.mark.parametrize("workers", [1, 2])
def test_the_executor_changes_no_byte_of_a_cache(finished: Finished, tmp_path: Path, workers: int) -> None:
    extract(finished.settings(cache=tmp_path / "cache", executor="ray", workers=workers))
    assert settled(tmp_path / "cache") == settled(finished.cache)


def test_more_workers_than_the_cluster_has_room_for_hold_nothing_up(tasks: list[ShardTask], job: Job) -> None:
    assert len(results(on_ray.run_on_cluster, tasks, job, 5)) == 6


def test_no_tasks_no_shards(job: Job) -> None:
    assert list(on_ray.run_on_cluster([], job, 2, lambda clip: None)) == []


# --------------------------------------------------------------------------------------------- clusters that fail


def test_an_actor_that_is_lost_costs_its_clip_a_strike(
    tasks: list[ShardTask], job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Fragile(on_ray._Node):
        """Ends its process over one clip always, over another the first time."""

        def embed(self, key: str, path: Path) -> Any:
            marker = path.with_suffix(".marker")
            if path.name == "9.avi" or (path.name == "20.avi" and not marker.exists()):
                marker.touch()
                os._exit(1)
            return super().embed(key, path)

    monkeypatch.setattr(on_ray, "_Node", Fragile)
    done = results(on_ray.run_on_cluster, tasks, job, 2)
    assert (tmp_path / "20.marker").exists()
    assert {key: r.embeddings.shape[1] for key, r in done.items() if r.embeddings is not None} == {
        "a/4.avi": 4,
        "a/20.avi": 20,
        "a/12.avi": 12,
    }
    assert done["a/9.avi"].reason == "the node that decodes it is lost (tried twice)"


def test_a_surprise_on_a_node_ends_the_run_with_one_line(
    tasks: list[ShardTask], job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Surprising(on_ray._Node):
        def embed(self, key: str, path: Path) -> Any:
            raise OSError("no more processes")

    monkeypatch.setattr(on_ray, "_Node", Surprising)
    with pytest.raises(HarCacheError, match="no more processes") as caught:
        results(on_ray.run_on_cluster, tasks, job, 2)
    assert "\n" not in str(caught.value)


def test_a_node_that_cannot_start_har_cache_is_one_line(
    tasks: list[ShardTask], job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Absent(on_ray._Node):
        def __init__(self, job: Job) -> None:
            raise ModuleNotFoundError("No module named 'har_cache'")

    monkeypatch.setattr(on_ray, "_Node", Absent)
    with pytest.raises(HarCacheError, match=r"does not start on a node: .*No module named 'har_cache'") as caught:
        results(on_ray.run_on_cluster, tasks, job, 2)
    assert "\n" not in str(caught.value)


def test_a_node_with_another_torch_is_refused(
    tasks: list[ShardTask], job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_ray.system, "versions", lambda names: {"torch": "0.1"})
    with pytest.raises(HarCacheError, match=r"node \S+ has .* this machine has"):
        results(on_ray.run_on_cluster, tasks, job, 2)


def test_a_node_names_the_package_that_is_another_one(job: Job) -> None:
    versions = on_ray.system.versions(on_ray._SAME)
    objection = on_ray._Node(job).objection({**versions, "torch": "0.1"}, ())
    assert f"has torch {versions['torch']}, this machine has 0.1" in objection
    assert on_ray._Node(job).objection(versions, ()) == ""


def test_a_node_that_does_not_see_the_clips_says_so(job: Job, tmp_path: Path) -> None:
    versions = on_ray.system.versions(on_ray._SAME)
    objection = on_ray._Node(job).objection(versions, (tmp_path, tmp_path / "a"))
    assert f"does not see {tmp_path / 'a'}" in objection and "--data" in objection


def test_a_gpu_is_refused(finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("har_cache.devices.resolve_devices", lambda name, say: ["cuda:0"])
    with pytest.raises(HarCacheError, match="--executor ray runs on CPUs alone: add --device cpu"):
        extract(finished.settings(cache=tmp_path / "cache", executor="ray"))
    assert not (tmp_path / "cache" / "plan.json").exists()
