import errno
import itertools
import json
import os
import pickle
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from har_cache import FeatureCache, devices, system
from har_cache.cache.manifest import Plan, read_manifest
from har_cache.cache.recipe import Recipe
from har_cache.cache.record import ClipRecord, ShardRecord
from har_cache.cache.shard import ShardImage
from har_cache.cache.verify import verify
from har_cache.cache.writer import Store
from har_cache.encoder.weights import save_encoder
from har_cache.errors import CacheError, FileError, HarCacheError
from har_cache.extraction import cpu
from har_cache.extraction import extract as extraction
from har_cache.extraction.extract import extract
from har_cache.progress import Progress
from har_cache.settings.extraction import ExtractSettings as Settings
from har_cache.storage.files import seal, unseal
from har_cache.storage.locks import locked
from har_cache.system import default_workers

from ..conftest import Finished, contents
from ..helpers import fake_decoders
from ..helpers.networks import calibrated_model
from ..helpers.plain import least_faithful, plain_embeddings, plain_model
from ..helpers.videos import moving_frames, write_audio, write_video


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights with a projection: nothing has to be fitted."""
    path = tmp_path_factory.mktemp("weights") / "encoder.safetensors"
    path.write_bytes(save_encoder(calibrated_model()))
    return path


@pytest.fixture
def small(tmp_path: Path, encoder: Path) -> Settings:
    """A data set of three clips, still to be extracted into three shards."""
    for name in ("a/1.avi", "a/2.avi", "b/3.avi"):
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_video(path, moving_frames(10 + int(path.stem)))
    return Settings(
        data=tmp_path / "data",
        cache=tmp_path / "cache",
        weights=str(encoder),
        precision="fp32",
        shard_clips=1,
        workers=2,
    )


def stamps(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def shard_files(folder: Path) -> dict[str, bytes]:
    return contents(folder / "shards")


class Listener(Progress):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.totals: dict[str, int | None] = {}
        self.done: dict[str, int] = {}
        self.clips: list[ClipRecord] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def begin(self, what: str, unit: str, total: int | None, done: int = 0) -> None:
        self.totals[what], self.done[what] = total, done
        self._current = what

    def advance(self, count: int = 1, note: str = "") -> None:
        self.done[self._current] += count


# ----------------------------------------------------------------------------------- frames and embeddings


def test_sample_clips_are_cached_frame_by_frame_and_faithfully(finished: Finished) -> None:
    cache = FeatureCache(finished.cache)
    model = plain_model(finished.cache / "encoder.safetensors")
    assert len(cache) == 16
    reference = {key: plain_embeddings(finished.data / "videos" / key, model, every=3) for key in cache}
    assert least_faithful(cache, reference, every=3) >= 0.99


ODD_CLIPS = {
    "a[1]/#1_[x].avi": ("mpeg4", (320, 240)),
    "a[1]/-o out.avi": ("mjpeg", (424, 240)),
    "a[1]/a;b&c!.mp4": ("libx264", (560, 240)),
    "b & c/(HQ)_300+.mkv": ("libx264", (340, 256)),
    "b & c/~tilde.webm": ("libvpx-vp9", (240, 320)),
    "b & c/100%20.mov": ("libx264", (98, 322)),
    "b & c/日本語 '\".avi": ("mpeg4", (161, 121)),
}


@pytest.mark.parametrize("decoder", ["pyav", "decord"])
def test_odd_clips_are_cached_frame_by_frame_and_faithfully(tmp_path: Path, encoder: Path, decoder: str) -> None:
    if decoder == "decord":
        pytest.importorskip("decord")
    for i, (key, (codec, (width, height))) in enumerate(ODD_CLIPS.items()):
        path = tmp_path / "data" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = {"mjpeg": "yuvj420p"}.get(codec, "yuv420p")
        write_video(path, moving_frames(15 + i, width, height), codec, pixels)
    settings = Settings(
        data=tmp_path / "data",
        cache=tmp_path / "cache",
        weights=str(encoder),
        views=("center", "flip", "full"),
        precision="fp32",
        decoder=decoder,
        workers=2,
    )
    report = extract(settings)
    assert report.failures == {}
    assert report.manifest.recipe.decoder == decoder
    cache, model = FeatureCache(settings.cache), plain_model(settings.cache / "encoder.safetensors")
    assert cache.classes == ("a[1]", "b & c")
    assert {key: cache[key].shape[1] for key in cache} == {key: 15 + i for i, key in enumerate(ODD_CLIPS)}
    for number, view in enumerate(cache.views):
        reference = {key: plain_embeddings(settings.data / key, model, view) for key in ODD_CLIPS}
        assert least_faithful(cache, reference, number) >= 0.9999
    assert verify(settings.cache, settings.data) == []


def test_a_data_set_of_short_clips_that_declare_no_frames(small: Settings) -> None:
    shutil.rmtree(small.data)
    (small.data / "a").mkdir(parents=True)
    write_video(small.data / "a" / "1.mkv", moving_frames(3), "libx264")
    assert extract(small).manifest.counts.frames == 3


# ------------------------------------------------------------------------------------ the same bytes again


@pytest.mark.parametrize("workers", [1, 3])
def test_the_number_of_workers_changes_no_byte(finished: Finished, tmp_path: Path, workers: int) -> None:
    extract(finished.settings(cache=tmp_path / "cache", workers=workers))
    assert contents(tmp_path / "cache") == contents(finished.cache)


def test_nothing_is_done_twice(finished: Finished, tmp_path: Path) -> None:
    own = finished.copy(tmp_path)
    before = stamps(own.cache / "shards")
    listener = Listener()
    report = extract(own.settings(), listener, listener.clips.append)
    assert (report.clips, report.frames, report.finished_before) == (0, 0, 16)
    assert "Extracting" not in listener.totals and listener.clips == []
    assert contents(own.cache) == contents(finished.cache)
    assert stamps(own.cache / "shards") == before


def test_a_resumed_run_decodes_no_clip_of_a_finished_shard(finished: Finished, tmp_path: Path) -> None:
    own = finished.copy(tmp_path)
    (own.cache / "manifest.json").unlink()
    plan = json.loads((own.cache / "plan.json").read_text())["shards"]
    for i in (2, 5):
        (own.cache / "shards" / f"{i:05d}.json").unlink()
    todo = {*plan[2], *plan[5]}
    for path in (own.data / "videos").rglob("*.avi"):
        if f"{path.parent.name}/{path.name}" not in todo:
            path.write_text("this would fail")
    listener = Listener()
    report = extract(own.settings(), listener, listener.clips.append)
    assert {clip.key for clip in listener.clips} == todo
    assert (report.clips, report.finished_before) == (4, 12)
    assert contents(own.cache) == contents(finished.cache)


@pytest.mark.parametrize("damage", ["flip", "cut", "delete"])
def test_a_damaged_shard_is_made_again(finished: Finished, tmp_path: Path, damage: str) -> None:
    own = finished.copy(tmp_path)
    path = own.cache / "shards" / "00003.h5"
    data = bytearray(path.read_bytes())
    data[5000] ^= 1
    path.write_bytes({"flip": bytes(data), "cut": path.read_bytes()[:-1], "delete": b""}[damage])
    if damage == "delete":
        path.unlink()
    assert extract(own.settings()).clips == 2
    assert contents(own.cache) == contents(finished.cache)


def test_a_damaged_encoder_is_named_with_a_way_out(finished: Finished, tmp_path: Path) -> None:
    own = finished.copy(tmp_path)
    flip(own.cache / "encoder.safetensors")
    with pytest.raises(CacheError, match=r"encoder\.safetensors.* damaged.*--overwrite"):
        extract(own.settings())


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [flip, Path.unlink])
def test_a_lost_or_damaged_plan_is_recovered_and_never_replaced(
    finished: Finished, tmp_path: Path, damage: Any
) -> None:
    own, said = finished.copy(tmp_path), Listener()
    damage(own.cache / "plan.json")
    with pytest.raises(CacheError, match=r"another recipe: .*seed.*--overwrite"):
        extract(own.settings(seed=1))
    damage(own.cache / "plan.json")
    extract(own.settings(), said)
    assert [line for line in said.said if line.startswith("NOTE: ") and "manifest and records" in line]
    assert contents(own.cache) == contents(finished.cache)


@pytest.mark.parametrize("damage", [flip, Path.unlink])
def test_shards_whose_recipe_is_lost_are_refused_with_a_way_out(
    finished: Finished, tmp_path: Path, damage: Any
) -> None:
    own = finished.copy(tmp_path)
    damage(own.cache / "plan.json")
    (own.cache / "manifest.json").unlink()
    before = contents(own.cache)
    with pytest.raises(CacheError, match=r"plan\.json: lost, and no manifest .*restore one.*or .* --overwrite"):
        extract(own.settings())
    assert contents(own.cache) == before


def test_a_second_extraction_into_one_cache_is_refused_and_readers_are_not(finished: Finished, tmp_path: Path) -> None:
    own = finished.copy(tmp_path)
    with locked(own.cache, "extraction", print):
        for changes in ({}, {"seed": 1}, {"overwrite": True}):
            with pytest.raises(CacheError, match="another extraction is at work here; wait for it, or end it"):
                extract(own.settings(**changes))
        assert len(FeatureCache(own.cache).arrays()[1]) > 1 and verify(own.cache) == []
    assert contents(own.cache) == contents(finished.cache)


def test_what_a_killed_extraction_left_is_gone_with_the_next(finished: Finished, tmp_path: Path) -> None:
    own = finished.copy(tmp_path)
    for folder in (own.cache, own.cache / "shards"):
        (folder / ".tmp-abc").write_bytes(b"half")
    extract(own.settings())
    assert contents(own.cache) == contents(finished.cache)


def test_a_clip_whose_worker_is_killed_from_outside_is_tried_again(
    small: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_video(small.data / "a" / "killed.avi", moving_frames(11))
    monkeypatch.setattr(cpu, "embed", fake_decoders.embed)
    failed = extract(small).failures
    assert list(failed) == ["a/killed.avi"] and "killed from outside (SIGKILL)" in failed["a/killed.avi"]
    assert verify(small.cache, small.data) == []
    monkeypatch.undo()
    assert extract(small).failures == {}
    assert FeatureCache(small.cache)["a/killed.avi"].shape[1] == 11
    assert verify(small.cache, small.data) == []


def test_a_full_disk_keeps_what_was_finished(small: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0

    def fsync(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls > 12:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch, pytest.raises(FileError, match=r"No space left on device.*kept") as caught:
        patch.setattr(os, "fsync", fsync)
        extract(small)
    assert "\n" not in str(caught.value)
    kept = shard_files(small.cache)
    assert 2 <= len(kept) < 6
    assert not (small.cache / "manifest.json").exists()

    report = extract(small)
    assert report.finished_before == 1
    assert kept.items() < shard_files(small.cache).items()
    assert verify(small.cache, small.data) == []


# ------------------------------------------------------------------------------------------ other recipes


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        ({"weights": "imagenet"}, ["weights"]),
        ({"projection": "random"}, ["projection"]),
        ({"views": ("center", "flip")}, ["views"]),
        ({"precision": "fp16-mixed", "seed": 5}, ["precision", "seed"]),
        ({"decoder": "decord"}, ["decoder"]),
    ],
)
def test_another_recipe_is_refused(finished: Finished, change: dict[str, Any], fields: list[str]) -> None:
    if "decoder" in change:
        pytest.importorskip("decord")
    before = contents(finished.cache)
    with pytest.raises(CacheError) as caught:
        extract(finished.settings(**change))
    message = str(caught.value)
    assert str(finished.cache) in message and "\n" not in message
    assert all(f"{field}: " in message for field in fields)
    assert message.count("asked:") == len(fields)
    assert "another --cache" in message and "--overwrite" in message
    assert contents(finished.cache) == before


def test_other_weights_in_a_file_are_refused(finished: Finished, encoder: Path) -> None:
    with pytest.raises(CacheError, match=r"weights: random \(asked: file\); projection: pca \(asked: file\)"):
        extract(finished.settings(weights=str(encoder)))


def test_a_demonstration_keeps_to_what_is_there(finished: Finished, tmp_path: Path) -> None:
    own = finished.copy(tmp_path)
    assert extract(own.settings(weights="imagenet-or-random")).clips == 0
    assert contents(own.cache) == contents(finished.cache)


def test_with_nothing_to_do_torch_is_not_imported(finished: Finished, tmp_path: Path) -> None:
    own = finished.copy(tmp_path)
    code = """
import pickle, sys
from har_cache.extraction.extract import extract
assert extract(pickle.loads(bytes.fromhex(sys.argv[1]))).clips == 0
sys.exit(any(name in sys.modules for name in ("torch", "torchvision", "sklearn", "av")))
"""
    arguments = [sys.executable, "-c", code, pickle.dumps(own.settings()).hex()]
    assert subprocess.run(arguments, check=False, timeout=60).returncode == 0


def test_without_ray_it_is_said_how_to_get_it(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = finished.copy(tmp_path)
    (own.cache / "shards" / "00003.h5").unlink()
    monkeypatch.delitem(sys.modules, "har_cache.extraction.ray", raising=False)
    monkeypatch.setitem(sys.modules, "ray", None)  # as if it were not installed
    with pytest.raises(HarCacheError) as caught:
        extract(own.settings(executor="ray"))
    assert str(caught.value) == "--executor ray needs ray: pip install ray"


@pytest.mark.parametrize("key", ["../../../etc/passwd", "a", "a/..", "/a", "a/b/c", 7])
def test_a_plan_that_names_other_files_is_not_followed(finished: Finished, tmp_path: Path, key: Any) -> None:
    own = finished.copy(tmp_path)
    path = own.cache / "plan.json"
    plan = unseal(path.read_bytes(), path)
    plan["shards"][0][0] = key
    path.write_bytes(seal(plan))
    extract(own.settings())
    assert contents(own.cache) == contents(finished.cache)
    path.write_bytes(seal(plan))
    (own.cache / "manifest.json").unlink()
    with pytest.raises(CacheError, match=r"plan\.json: .*--overwrite"):
        extract(own.settings())


def test_overwriting_leaves_nothing_of_the_old_cache(small: Settings) -> None:
    old = extract(small).manifest
    with_flip = Settings(**{**vars(small), "views": ("center", "flip"), "shard_clips": 64, "overwrite": True})
    new = extract(with_flip).manifest
    assert new.fingerprint != old.fingerprint
    assert FeatureCache(small.cache)["a/1.avi"].shape == (2, 11, 256)
    assert sorted(shard_files(small.cache)) == ["00000.h5", "00000.json"]
    assert verify(small.cache, small.data) == []


def test_overwriting_with_an_impossible_wish_keeps_the_cache(finished: Finished, tmp_path: Path) -> None:
    own = finished.copy(tmp_path)
    with pytest.raises(HarCacheError, match="no such file"):
        extract(own.settings(weights=str(tmp_path / "nothing.pth"), overwrite=True))
    assert contents(own.cache) == contents(finished.cache)


def test_a_directory_with_other_files_is_refused(small: Settings) -> None:
    small.cache.mkdir()
    (small.cache / "thesis.txt").write_text("precious")
    with pytest.raises(CacheError, match=r"thesis.txt.*empty directory"):
        extract(Settings(**{**vars(small), "overwrite": True}))
    assert (small.cache / "thesis.txt").read_text() == "precious"


# ------------------------------------------------------------------------- data sets that change, and bad clips


def test_new_clips_become_new_shards(finished: Finished, tmp_path: Path) -> None:
    own = finished.copy(tmp_path)
    cache = FeatureCache(own.cache)
    new = {}
    for i, old in enumerate(cache.clip_keys[:3]):
        # Names that sort before, between and after those that are there.
        new[f"sit/{i * 'z'}{Path(old).name}"[:200] + f"{i}.avi"] = old
    for key, old in new.items():
        shutil.copy(own.data / "videos" / old, own.data / "videos" / key)
    before, when = shard_files(own.cache), stamps(own.cache / "shards")
    report = extract(own.settings())
    assert (report.clips, report.finished_before) == (3, 16)
    assert before.items() < shard_files(own.cache).items()
    assert when.items() < stamps(own.cache / "shards").items()
    grown = FeatureCache(own.cache)
    assert set(grown.clip_keys) == {*cache.clip_keys, *new}
    for key, old in new.items():
        np.testing.assert_array_equal(grown[key], cache[old])
    assert verify(own.cache, own.data) == []


def test_clips_that_are_gone_stay_in_the_cache(finished: Finished, tmp_path: Path) -> None:
    own = finished.copy(tmp_path)
    gone = FeatureCache(own.cache).clip_keys[0]
    (own.data / "videos" / gone).unlink()
    assert extract(own.settings()).clips == 0
    assert gone in FeatureCache(own.cache)


def test_a_mended_clip_is_tried_again_and_no_failure_any_more(small: Settings) -> None:
    bad = small.data / "a" / "2.avi"
    good = bad.read_bytes()
    bad.write_bytes(good[: len(good) // 2])
    first = extract(small)
    assert list(first.failures) == ["a/2.avi"]
    before = shard_files(small.cache)

    again = extract(small)
    assert (again.clips, again.failures, shard_files(small.cache)) == (0, first.failures, before)

    bad.write_bytes(good)
    mended = extract(small)
    assert (mended.clips, mended.failures) == (1, {})
    assert (small.cache / "failures.csv").read_text() == "key,reason\n"
    assert before.items() < shard_files(small.cache).items()
    assert FeatureCache(small.cache)["a/2.avi"].shape[1] == 12
    assert verify(small.cache, small.data) == []


def test_clips_that_failed_for_no_fault_of_their_own_are_tried_again_when_asked(small: Settings) -> None:
    extract(small)
    folder = small.data / "a"
    (folder / "late.avi").write_bytes((folder / "1.avi").read_bytes())
    hurried = extract(replace(small, stall_s=1e-4))
    assert list(hurried.failures) == ["a/late.avi"] and "hangs" in hurried.failures["a/late.avi"]
    assert extract(small).failures == hurried.failures
    assert extract(replace(small, retry_failed=True)).failures == {}
    assert verify(small.cache, small.data) == []


def test_a_mended_clip_is_not_doubled_when_its_first_shard_is_redone(small: Settings) -> None:
    bad = small.data / "a" / "2.avi"
    good = bad.read_bytes()
    bad.write_bytes(b"")
    extract(small)
    bad.write_bytes(good)
    extract(small)
    keys = sorted(FeatureCache(small.cache).clip_keys)

    for shard in (small.cache / "shards").glob("*.h5"):
        shard.write_bytes(b"damaged")
    extract(small)
    assert sorted(FeatureCache(small.cache).clip_keys) == keys
    assert verify(small.cache, small.data) == []


def test_bad_files_are_rows_with_a_reason_and_harm_no_other_clip(small: Settings, tmp_path: Path) -> None:
    folder = small.data / "a"
    whole = write_video(tmp_path / "whole.avi", moving_frames(60, 320, 240)).read_bytes()
    (folder / "truncated.avi").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.avi").touch()
    (folder / "text.avi").write_text("Not found. Please log in to download this video.\n" * 40)
    (folder / "playlist.avi").write_text(
        f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{folder / '1.avi'}\n#EXT-X-ENDLIST\n"
    )
    (folder / "dangling.avi").symlink_to(tmp_path / "nothing.avi")
    (folder / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(5000))
    write_audio(folder / "audio.avi")
    listener = Listener()
    report = extract(small, listener, listener.clips.append)
    reasons = dict(report.failures)
    assert reasons.pop("a/truncated.avi").startswith("truncated")
    assert reasons == {
        "a/audio.avi": "no video stream (audio only)",
        "a/dangling.avi": "dangling link: what it points to is not there",
        "a/empty.avi": "empty file",
        "a/noise.mp4": "not a video container (AVI, MP4, MOV, MKV, WebM, MPEG, TS, ASF, FLV, Ogg)",
        "a/playlist.avi": "a playlist, not a video",
        "a/text.avi": "a text file, not a video",
    }
    rows = (small.cache / "failures.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["key", *sorted(report.failures)]
    assert {r.key: r.reason for r in listener.clips if r.reason} == report.failures
    cache = FeatureCache(small.cache)
    assert {key: cache[key].shape[1] for key in cache} == {"a/1.avi": 11, "a/2.avi": 12, "b/3.avi": 13}
    assert verify(small.cache) == []


def test_nothing_but_bad_clips_is_an_error_with_a_reason(small: Settings) -> None:
    for path in small.data.rglob("*.avi"):
        path.write_bytes(b"")
    with pytest.raises(HarCacheError, match=r"none of the 3 clips.*empty file"):
        extract(small)


# ------------------------------------------------------------------------------------------------ commits


def test_the_error_of_a_commit_ends_the_run_and_earlier_shards_are_kept(
    small: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, tried = Store.commit, list[int]()

    def failing(self: Store, index: int, recipe: Recipe, clips: Sequence[ClipRecord]) -> ShardRecord:
        tried.append(index)
        if len(tried) == 2:
            raise FileError("no space")
        return commit(self, index, recipe, clips)

    with monkeypatch.context() as patch, pytest.raises(FileError, match="no space"):
        patch.setattr(Store, "commit", failing)
        extract(small)
    assert len(tried) == 2
    kept = shard_files(small.cache)
    assert sorted(kept) == [f"{tried[0]:05d}.h5", f"{tried[0]:05d}.json"]
    assert extract(small).finished_before == 1
    assert kept.items() < shard_files(small.cache).items()


def test_a_commit_that_fails_ends_the_run_with_the_next_clip(small: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    write_video(small.data / "b" / "4.avi", moving_frames(14))
    begun, failed = threading.Event(), threading.Event()

    def failing(self: Store, index: int, recipe: Recipe, clips: Sequence[ClipRecord]) -> ShardRecord:
        assert begun.wait(60)
        failed.set()
        raise FileError("no space")

    told: list[str] = []

    def on_clip(clip: ClipRecord) -> None:
        told.append(clip.key)
        if len(told) == 3:  # the first of the second shard
            begun.set()
            assert failed.wait(60)
            time.sleep(0.5)

    monkeypatch.setattr(Store, "commit", failing)
    with pytest.raises(FileError, match="no space"):
        extract(replace(small, shard_clips=2, workers=1), on_clip=on_clip)
    assert len(told) == 3


def test_an_interrupt_leaves_whole_shards_and_no_thread(small: Settings) -> None:
    told: list[str] = []

    def interrupt(clip: ClipRecord) -> None:
        told.append(clip.key)
        if len(told) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract(small, on_clip=interrupt)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("commit")]
    assert len(shard_files(small.cache)) == 2  # the first, done when the interrupt came
    assert extract(small).finished_before == 1
    assert verify(small.cache, small.data) == []


def test_all_is_told_in_the_thread_that_extracts(small: Settings) -> None:
    threads = set()

    class Threads(Progress):
        def say(self, text: str) -> None:
            threads.add(threading.current_thread())

        def advance(self, count: int = 1, note: str = "") -> None:
            threads.add(threading.current_thread())

    (small.data / "a" / "bad.avi").write_bytes(b"")
    extract(small, Threads(), lambda clip: threads.add(threading.current_thread()))
    assert threads == {threading.current_thread()}


# ------------------------------------------------------------------------------------------------ devices


@pytest.fixture
def of_a_gpu(small: Settings) -> Settings:
    """A finished cache that says that a GPU made it."""
    extract(small)
    relabel(small.cache, gpu="A", torch="2.11")
    return small


def relabel(cache: Path, **machine: str) -> None:
    """Have a finished cache say that such a GPU made it."""
    store = Store(cache)
    plan, manifest = store.read_plan(), read_manifest(cache)
    assert plan
    records = [store.done(plan, i) for i in range(len(plan.shards))]
    plan = Plan(replace(plan.recipe, device="cuda"), plan.shards, machine)
    store.write_plan(plan)
    again = []
    for i, record in enumerate(records):
        assert record
        with ShardImage(store.shard_path(i).read_bytes(), "") as image:
            shard = image.read()
        clips = [
            replace(clip, embeddings=shard.embeddings[:, a:b])
            for clip, (a, b) in zip(record.clips, itertools.pairwise(shard.offsets), strict=True)
        ]
        again.append(store.commit(i, plan.recipe, [*clips, *record.failures]))
    store.finish(plan, again, manifest.classes, manifest.splits, {"torch": "2.11", **machine})


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The GPU of this machine, by what `device_versions` tells of it; where there is one, the CPU is it."""
    told: dict[str, str] = {}

    def run_on_cpu(tasks: Any, job: Any, on: list[str], workers: int, on_clip: Any) -> Any:
        return cpu.run_on_cpu(tasks, job, workers, on_clip)

    monkeypatch.setattr(devices, "_visible", lambda: ["cuda:0"] if told else [])
    monkeypatch.setattr(devices, "_fault", lambda device: None)
    monkeypatch.setattr(extraction, "device_versions", lambda *on: {} if on == ("cpu",) else told)
    monkeypatch.setattr("har_cache.extraction.gpu.processes.run_on_devices", run_on_cpu)
    return told


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:3"])
def test_a_finished_cache_of_a_gpu_is_up_to_date_wherever(
    of_a_gpu: Settings, gpus: dict[str, str], device: str
) -> None:
    before = contents(of_a_gpu.cache)
    report = extract(replace(of_a_gpu, device=device))
    assert report.clips == 0 and report.finished_before == 3
    assert report.manifest.versions["gpu"] == "A"
    after = contents(of_a_gpu.cache)
    assert {name for name in after if after[name] != before[name]} <= {"manifest.json"}
    assert verify(of_a_gpu.cache) == []


@pytest.mark.parametrize(
    ("device", "why"),
    [
        ("auto", "but torch sees no CUDA device here: go on where there is one, or extract into another --cache"),
        ("cpu", "leave --device cpu away, or extract into another --cache directory"),
    ],
)
def test_a_cache_of_a_gpu_does_not_go_on_without_one_and_stays_as_it_is(
    of_a_gpu: Settings, gpus: dict[str, str], device: str, why: str
) -> None:
    write_video(of_a_gpu.data / "a" / "new.avi", moving_frames(8))
    before = contents(of_a_gpu.cache)
    with pytest.raises(
        CacheError, match=f"{of_a_gpu.cache} was made on a GPU, and goes on only on one.*{why}"
    ) as caught:
        extract(replace(of_a_gpu, device=device))
    assert "\n" not in str(caught.value)
    assert contents(of_a_gpu.cache) == before
    assert verify(of_a_gpu.cache) == []


def test_another_device_is_named_beside_other_differences(of_a_gpu: Settings, gpus: dict[str, str]) -> None:
    with pytest.raises(CacheError, match=r"device: cuda \(asked: cpu\); seed: 0 \(asked: 7\)"):
        extract(replace(of_a_gpu, device="cpu", seed=7))


@pytest.mark.parametrize(
    ("machine", "warning", "noted"),
    [
        ({"gpu": "A"}, "", "A"),
        ({"gpu": "A", "cudnn": "9"}, "", "A"),
        ({"gpu": "B"}, "gpu A, now B", "A / B"),
    ],
)
def test_going_on_with_another_gpu_is_told_and_noted(
    of_a_gpu: Settings, gpus: dict[str, str], monkeypatch: pytest.MonkeyPatch, machine: dict[str, str], warning: str,
    noted: str,
) -> None:  # fmt: skip
    gpus.update(machine)
    monkeypatch.setattr(extraction.system, "versions", lambda names=(): {"torch": "2.11"})
    kept = shard_files(of_a_gpu.cache)
    write_video(of_a_gpu.data / "a" / "new.avi", moving_frames(8))
    listener = Listener()
    report = extract(of_a_gpu, listener)
    assert report.clips == 1 and report.manifest.versions["gpu"] == noted
    assert kept.items() < shard_files(of_a_gpu.cache).items()
    assert verify(of_a_gpu.cache, of_a_gpu.data) == []
    made_with = f"WARNING: {of_a_gpu.cache} was made with"
    warnings = [line for line in listener.said if line.startswith(made_with)]
    expected = f"{made_with} {warning}: its new shards may differ in their last bits"
    assert [line[: len(expected)] for line in warnings] == ([expected] if warning else [])

    write_video(of_a_gpu.data / "a" / "newer.avi", moving_frames(8))
    extract(of_a_gpu, again := Listener())  # it is told once
    assert not any(line.startswith(made_with) for line in again.said)


def test_another_torch_on_a_gpu_is_told(
    of_a_gpu: Settings, gpus: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus["gpu"] = "A"
    monkeypatch.setattr(extraction.system, "versions", lambda names=(): {"torch": "3.0"})
    write_video(of_a_gpu.data / "a" / "new.avi", moving_frames(8))
    extract(of_a_gpu, listener := Listener())
    assert any("was made with torch 2.11, now 3.0: " in line for line in listener.said)


def test_an_unfinished_cache_of_a_gpu_knows_its_machine(
    small: Settings, gpus: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus["gpu"] = "A"

    def interrupt(clip: ClipRecord) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("har_cache.extraction.prepare.choose_precision", lambda *asked: ("fp32", 1.0))
    with pytest.raises(KeyboardInterrupt):
        extract(replace(small, device="cuda:0"), on_clip=interrupt)
    plan = Store(small.cache).read_plan()
    assert plan and plan.recipe.device == "cuda"
    assert plan.machine == {"gpu": "A", **system.versions(["torch"])}

    gpus["gpu"] = "B"
    extract(small, listener := Listener())
    assert any("was made with gpu A, now B: " in line for line in listener.said)
    assert read_manifest(small.cache).versions["gpu"] == "A / B"


def test_a_cache_of_the_cpu_says_nothing_of_machines(finished: Finished) -> None:
    plan = Store(finished.cache).read_plan()
    assert plan and plan.machine == {}
    assert "gpu" not in read_manifest(finished.cache).versions


# ------------------------------------------------------------------------------------------------ settings


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"views": ("flip",)}, "--views flip"),
        ({"views": ("center", "middle")}, "center,flip"),
        ({"views": ("",)}, "--views"),
        ({"precision": "fp8"}, "--precision fp8"),
        ({"decoder": "opencv"}, "opencv"),
        ({"device": "tpu"}, "--device tpu"),
        ({"executor": "dask"}, "--executor dask"),
        ({"workers": 0}, "--workers 0"),
        ({"shard_clips": 0}, "--shard-clips 0"),
        ({"stall_s": 0.0}, "--stall-timeout 0"),
        ({"stall_s": -1.0}, "--stall-timeout -1"),
        ({"stall_s": float("nan")}, "--stall-timeout nan"),
        ({"stall_s": float("inf")}, "--stall-timeout inf"),
    ],
)
def test_impossible_settings_are_named(small: Settings, change: dict[str, Any], named: str) -> None:
    with pytest.raises(HarCacheError, match=named) as caught:
        extract(replace(small, **change))
    assert "\n" not in str(caught.value)
    assert not (small.cache / "plan.json").exists()


def test_there_is_at_least_one_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("har_cache.system.memory_bytes", lambda: 1 << 20)
    assert default_workers() == 1


def test_the_listener_hears_of_every_clip(small: Settings) -> None:
    listener = Listener()
    report = extract(small, listener, listener.clips.append)
    assert listener.totals["Extracting"] == listener.done["Extracting"] == len(listener.clips) == report.clips == 3
    assert report.frames == sum(r.embeddings.shape[1] for r in listener.clips if r.embeddings is not None) == 36
    assert set(report.busy_s) == {"decode", "transform", "encode", "write"}
    assert report.seconds > 0
