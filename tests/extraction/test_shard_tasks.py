import hashlib
from pathlib import Path

import pytest

from har_cache.cache.record import ClipRecord
from har_cache.encoder.folded import fold
from har_cache.extraction.cpu import run_on_cpu
from har_cache.extraction.shard_tasks import ShardResult, ShardTask
from har_cache.workers.tasks import Job

from ..helpers.networks import calibrated_model
from ..helpers.videos import moving_frames, write_video


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Five clips, the second empty and the last not there."""
    folder = tmp_path_factory.mktemp("clips")
    good = {f"a/{n}.avi": write_video(folder / f"{n}.avi", moving_frames(n)) for n in (4, 20, 9)}
    (folder / "empty.avi").touch()
    paths = {**good, "a/empty.avi": folder / "empty.avi", "a/missing.avi": folder / "missing.avi"}
    return {key: paths[key] for key in ("a/4.avi", "a/empty.avi", "a/20.avi", "a/9.avi", "a/missing.avi")}


def shards(clips: dict[str, Path], workers: int) -> tuple[dict[int, ShardResult], list[ClipRecord]]:
    pairs = tuple(clips.items())
    tasks = [ShardTask(3, pairs[:3]), ShardTask(7, pairs[3:])]
    told: list[ClipRecord] = []
    job = Job("pyav", fold(calibrated_model()))
    results = run_on_cpu(tasks, job, workers, told.append)
    return {shard.index: shard for shard in results}, told


def test_each_shard_comes_once_with_its_clips_in_order(clips: dict[str, Path]) -> None:
    done, told = shards(clips, workers=2)
    assert sorted(done) == [3, 7]
    results = [*done[3].results, *done[7].results]
    assert [r.key for r in results] == list(clips)
    assert [None if r.embeddings is None else r.embeddings.shape for r in results] == [
        (1, 4, 256),
        None,
        (1, 20, 256),
        (1, 9, 256),
        None,
    ]
    assert [r.reason for r in results] == ["", "empty file", "", "", "no such file"]
    assert {r.key for r in told} == set(clips) and len(told) == len(clips)
    assert all(set(r.seconds) == ({"decode", "transform", "encode"} if not r.reason else set()) for r in told)


def test_failed_clips_carry_the_sha256_of_their_file(clips: dict[str, Path]) -> None:
    done, _ = shards(clips, workers=1)
    digests = {r.key: r.source_sha256 for shard in done.values() for r in shard.results if r.reason}
    assert digests == {"a/empty.avi": hashlib.sha256(b"").hexdigest(), "a/missing.avi": ""}


def test_no_tasks_no_shards(clips: dict[str, Path]) -> None:
    assert list(run_on_cpu([], Job("pyav", fold(calibrated_model())), 2, lambda clip: None)) == []
