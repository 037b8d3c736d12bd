"""Whole extractions by ray, each on a cluster of its own that it starts itself; or on none."""

import csv
import os
import shutil
import signal
from pathlib import Path

import pytest

from har_cache import FeatureCache
from har_cache.cache.verify import verify
from har_cache.encoder.weights import save_encoder
from har_cache.errors import HarCacheError
from har_cache.extraction.extract import extract

from ..conftest import Finished, settled
from ..helpers import fake_decoders
from ..helpers.commands import shards_done, started
from ..helpers.networks import calibrated_model
from ..helpers.videos import moving_frames, write_video

ray = pytest.importorskip("ray")


def extraction(made: Finished, weights: str | Path) -> list[str]:
    """The arguments that `made.cache` is made with."""
    paths = ["--data", str(made.data), "--cache", str(made.cache), "--weights", str(weights)]
    return ["extract", *paths, "--shard-clips", "2", "--workers", "2", "--executor", "ray"]


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "nonsense"])
def test_no_cluster_is_one_line_with_its_address(
    finished: Finished, tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = finished.copy(tmp_path)
    (own.cache / "shards" / "00003.h5").unlink()
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(HarCacheError, match=f"--executor ray: no cluster at {address}: .*RAY_ADDRESS") as caught:
        extract(own.settings(executor="ray"))
    assert "\n" not in str(caught.value)
    assert not ray.is_initialized()


def test_killed_and_resumed_the_bytes_are_the_same(finished: Finished, tmp_path: Path) -> None:
    own = Finished(finished.data, tmp_path / "cache")
    with started(extraction(own, "random"), tmp_path) as command:
        command.wait_until(lambda: shards_done(own.cache) >= 2)
        command.process.kill()
        command.process.wait()
        assert command.all_gone(60)
    left = shards_done(own.cache)
    assert 2 <= left < 8
    report = extract(own.settings(executor="ray"))
    assert not ray.is_initialized()
    assert report.finished_before == 2 * left
    assert settled(own.cache) == settled(finished.cache)


def test_ctrl_c_exits_with_130_and_keeps_finished_shards(finished: Finished, tmp_path: Path) -> None:
    own = Finished(finished.data, tmp_path / "cache")
    with started(extraction(own, "random"), tmp_path) as command:
        command.wait_until(lambda: shards_done(own.cache) >= 1)
        os.killpg(command.process.pid, signal.SIGINT)  # as a terminal does
        assert command.process.wait(60) == 130
        assert command.all_gone(60)
    errors = command.errors.read_text()
    assert "Traceback" not in errors and errors.splitlines()[-1].startswith("Interrupted")
    kept = settled(own.cache / "shards")
    assert len(kept) >= 2 and kept.items() <= settled(finished.cache / "shards").items()


def test_clips_that_break_the_decoder_cost_nothing_but_themselves(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "a"
    folder.mkdir(parents=True)
    for i in range(3):
        write_video(folder / f"good{i}.avi", moving_frames(10 + i))
    for name in ("segfault", "hang", "hog"):
        shutil.copy(folder / "good0.avi", folder / f"{name}.avi")
    (tmp_path / "encoder.safetensors").write_bytes(save_encoder(calibrated_model()))
    own = Finished(tmp_path / "data", tmp_path / "cache")
    wish = [*extraction(own, tmp_path / "encoder.safetensors"), "--clip-timeout", "2"]
    with started(wish, tmp_path, env=fake_decoders.on_path(tmp_path)) as command:
        assert command.process.wait(240) == 3, command.errors.read_text()
        assert command.all_gone(60)
    with (own.cache / "failures.csv").open() as file:
        assert {row["key"]: row["reason"] for row in csv.DictReader(file)} == {
            "a/hang.avi": "the decoder hangs: no frame for 2 s (tried twice)",
            "a/hog.avi": "decoding it takes more than the 2 GiB of memory a worker may use (tried twice)",
            "a/segfault.avi": "the decoder crashes: SIGSEGV (tried twice)",
        }
    cache = FeatureCache(own.cache)
    assert {key: cache[key].shape[1] for key in cache} == {f"a/good{i}.avi": 10 + i for i in range(3)}
    assert verify(own.cache) == []
