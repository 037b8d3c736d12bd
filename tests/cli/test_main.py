import csv
import ctypes
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from har_cache_cli import console
from har_cache_cli.main import app
from typer.testing import CliRunner

from har_cache import FeatureCache
from har_cache.cache.record import ClipRecord
from har_cache.cache.verify import verify
from har_cache.encoder.weights import save_encoder
from har_cache.extraction.extract import extract
from har_cache.extraction.update import ExtractReport

from ..conftest import Finished, contents, settled
from ..helpers import fake_decoders
from ..helpers.commands import COMMAND, shards_done, started
from ..helpers.networks import calibrated_model
from ..helpers.videos import moving_frames, write_video

_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH, _PR_CAPBSET_DROP = 1, 2, 24  # of Linux's capability.h and prctl.h


def run(*arguments: Any) -> Any:
    """The command in this process."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def extraction(made: Finished) -> list[str]:
    """The arguments that `made.cache` is made with."""
    wish = ["--weights", "random", "--shard-clips", "2", "--workers", "2"]
    return ["extract", "--data", str(made.data), "--cache", str(made.cache), *wish]


def only_line(result: Any, status: int = 1) -> str:
    """The one line of an error."""
    assert result.exit_code == status, result.output
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    [error] = [line for line in lines if line.startswith("Error: ")]
    assert lines[-1] == error and "Traceback" not in result.stderr
    return error


@pytest.fixture
def small(tmp_path: Path) -> list[str]:
    """Arguments to extract three short clips, `a/good0.avi` and so on: none is tested on."""
    folder = tmp_path / "data" / "videos" / "a"
    folder.mkdir(parents=True)
    for i in range(3):
        write_video(folder / f"good{i}.avi", moving_frames(10 + i))
    (tmp_path / "encoder.safetensors").write_bytes(save_encoder(calibrated_model()))
    write_lists(tmp_path / "data" / "splits", {f"good{i}.avi": 1 for i in range(3)})
    options = {"data": "data", "cache": "cache", "weights": "encoder.safetensors"}
    paths = [word for name, value in options.items() for word in (f"--{name}", str(tmp_path / value))]
    return ["extract", *paths, "--precision", "fp32", "--workers", "2", "--shard-clips", "1"]


def write_lists(folder: Path, subsets: dict[str, int]) -> None:
    folder.mkdir(exist_ok=True)
    for k in (1, 2, 3):
        text = "".join(f"{name} {subset}\n" for name, subset in subsets.items())
        (folder / f"a_test_split{k}.txt").write_text(text)


# ---------------------------------------------------------------------------------------------- what it prints


def test_help_is_had_without_torch() -> None:
    script = (
        "import sys\n"
        "from har_cache_cli.main import app\n"
        "try: app(['--help'])\n"
        "finally: print(sorted({'torch', 'numpy', 'h5py', 'av', 'ray'} & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert done.stderr == "[]\n"
    assert all(command in done.stdout for command in ("sample", "extract", "info", "verify"))


@pytest.mark.parametrize(("given", "found"), [(None, ":4096:8"), (":16:8", ":16:8")])
def test_products_on_a_gpu_are_the_same_every_time_in_child_processes_too(given: str | None, found: str) -> None:
    code = """
import os, subprocess, sys
import har_cache_cli.main
assert "torch" not in sys.modules
child = [sys.executable, "-c", "import os; print(os.environ['CUBLAS_WORKSPACE_CONFIG'])"]
print(os.environ["CUBLAS_WORKSPACE_CONFIG"], subprocess.check_output(child, text=True).strip())
"""
    env = {name: value for name, value in os.environ.items() if name != "CUBLAS_WORKSPACE_CONFIG"}
    env |= {"CUBLAS_WORKSPACE_CONFIG": given} if given else {}
    assert subprocess.check_output([sys.executable, "-c", code], env=env, text=True).split() == [found, found]


@pytest.mark.parametrize("command", ["sample", "extract", "info", "verify"])
def test_every_command_explains_itself(command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0 and "Usage:" in result.stdout and "--debug" in result.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["extarct"],
        ["extract"],
        ["extract", "--data", "x"],
        ["extract", "--data", "x", "--cache", "y", "--colour"],
        ["extract", "--data", "x", "--cache", "y", "--workers", "many"],
        ["info"],
        ["verify", "a", "b"],
        ["sample", "--out", "x", "--classes", "two"],
    ],
)
def test_wrong_usage_exits_with_2(arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert "Usage:" in result.stderr and result.stdout == ""


def test_extract_tells_what_it_did_on_stderr(small: list[str], tmp_path: Path) -> None:
    result = run(*small)
    assert (result.exit_code, result.stdout) == (0, "")
    assert f"3 clips of 1 classes in {tmp_path / 'data' / 'videos'}; split lists: found on disk" in result.stderr
    assert "Extracted 3 clips, 33 frames" in result.stderr and "frames/s" in result.stderr
    assert all(stage in result.stderr for stage in ("decode", "transform", "encode", "write"))
    assert f"{tmp_path / 'cache'}: 3 clips, 33 frames in 3 shards" in result.stderr


def test_extract_again_has_nothing_to_do(finished: Finished, tmp_path: Path) -> None:
    own = finished.copy(tmp_path)
    result = run(*extraction(own))
    assert result.exit_code == 0
    assert "Nothing to do" in result.stderr and "16 clips" in result.stderr
    assert contents(own.cache) == contents(finished.cache)


def test_extract_with_another_recipe_is_refused_unless_overwriting(finished: Finished, tmp_path: Path) -> None:
    own = finished.copy(tmp_path)
    other = [*extraction(own), "--views", "center,flip", "--projection", "random", "--precision", "fp32"]
    error = only_line(run(*other))
    assert all(word in error for word in ("projection: pca (asked: random)", "views: center (asked: center,flip)"))
    assert "another --cache" in error and "--overwrite" in error
    assert contents(own.cache) == contents(finished.cache)


def test_overwrite_replaces_a_cache(small: list[str], tmp_path: Path) -> None:
    assert run(*small).exit_code == 0
    assert run(*small, "--views", "center,flip", "--overwrite").exit_code == 0
    assert FeatureCache(tmp_path / "cache").views == ("center", "flip")


def test_info_describes_a_cache(finished: Finished) -> None:
    result = run("info", finished.cache)
    recipe = FeatureCache(finished.cache).recipe
    assert (result.exit_code, result.stderr) == (0, "")
    assert "16 clips of 2 classes" in result.stdout and "8 shards" in result.stdout
    rows = [line.split(maxsplit=1) for line in result.stdout.splitlines()[1:]]
    found = dict(rows)
    assert found["fingerprint"] == recipe.fingerprint
    assert (found["weights"], found["projection"], found["views"]) == ("random", "pca", "center")
    assert found["failures"] == "0"


def test_info_as_json_is_one_object(finished: Finished) -> None:
    result = run("info", finished.cache, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    summary = json.loads(result.stdout)
    assert summary["counts"]["clips"] == 16 and summary["classes"] == ["sit", "stand"]
    assert summary["recipe"]["weights"] == "random"


def test_verify_tells_a_sound_cache_from_a_damaged_one(finished: Finished, tmp_path: Path) -> None:
    own = finished.copy(tmp_path)
    sound = run("verify", own.cache, "--data", own.data)
    assert (sound.exit_code, sound.stderr) == (0, "")
    (own.cache / "shards" / "00001.h5").unlink()
    damaged = run("verify", own.cache)
    assert damaged.exit_code == 1
    assert "00001.h5" in damaged.stdout and len(damaged.stdout.splitlines()) == 1


def test_verify_as_json_is_one_object(finished: Finished, tmp_path: Path) -> None:
    own = finished.copy(tmp_path)
    result = run("verify", own.cache, "--json")
    assert json.loads(result.stdout) == {"cache": str(own.cache), "ok": True, "problems": []}
    (own.cache / "failures.csv").write_text("")
    result = run("verify", own.cache, "--json")
    assert (result.exit_code, result.stderr) == (1, "")
    problems = json.loads(result.stdout)["problems"]
    assert len(problems) == 1 and "failures.csv" in problems[0]


def test_sample_draws_a_data_set(tmp_path: Path) -> None:
    result = run("sample", "--out", tmp_path / "s", "--classes", 2, "--clips", 8, "--workers", 1)
    assert (result.exit_code, result.stdout) == (0, "")
    assert "16 clips of 2 actions" in result.stderr
    assert len(list((tmp_path / "s" / "videos").rglob("*.avi"))) == 16
    assert "classes" in only_line(run("sample", "--out", tmp_path / "t", "--classes", 3), 2)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


CLIPS = [ClipRecord("a/1.avi", 30), ClipRecord("a/2.avi", reason="empty file"), ClipRecord("a/3.avi", 12)]


def watched(progress: console.Bar) -> None:
    """Three clips, as `extract` tells of them."""
    report = ExtractReport()
    with progress.task("Extracting", "clip", 3):
        for clip in CLIPS:
            report.add(clip)
            if clip.reason:
                progress.say(f"Failed: {clip.key}: {clip.reason}")
            progress.advance(note=report.rate(1.0))


def test_progress_on_a_terminal_is_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    watched(console.Bar())
    assert all(word in terminal.getvalue() for word in ("Extracting", "3/3", "frames/s", "1 failed"))
    assert "Failed: a/2.avi: empty file\n" in terminal.getvalue()


def test_progress_elsewhere_is_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console, "_LOG_EVERY_S", 0.0)
    watched(console.Bar())
    lines = capsys.readouterr().err.splitlines()
    assert lines[1] == "Failed: a/2.avi: empty file"
    assert lines[3].startswith("Extracting: 3 of 3 clips, ") and lines[3].endswith(" frames/s, 1 failed, 0 s left")


# ----------------------------------------------------------------------------------------- errors in one line


def change(arguments: list[str], option: str, value: Any) -> list[str]:
    at = arguments.index(option)
    return [*arguments[: at + 1], str(value), *arguments[at + 2 :]]


@pytest.mark.parametrize(
    ("option", "value", "named"),
    [
        ("--precision", "fp8", "--precision fp8"),
        ("--decoder", "opencv", "opencv"),
        ("--views", "flip", "--views flip"),
        ("--device", "tpu", "--device tpu"),
        ("--executor", "dask", "--executor dask: expected one of local, ray"),
        ("--workers", "0", "--workers 0"),
        ("--clip-timeout", "0", "--stall-timeout 0"),
    ],
)
def test_bad_values_of_options_are_one_line_of_usage(small: list[str], option: str, value: str, named: str) -> None:
    assert named in only_line(run(*small, option, value), 2)


@pytest.mark.parametrize(
    ("option", "value", "named"),
    [
        ("--weights", "imagnet", "imagnet"),
        ("--projection", "pcaa", "--projection: no such file: pcaa"),
        ("--splits", "/nonexistent", "/nonexistent"),
        ("--data", "/nonexistent", "/nonexistent"),
        ("--cache", "/proc/har-cache", "/proc/har-cache"),
    ],
)
def test_settings_that_cannot_be_are_one_line(small: list[str], option: str, value: str, named: str) -> None:
    assert named in only_line(run(*small, option, value))


def test_cuda_without_a_gpu_is_one_line(small: list[str]) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    assert "--device cuda" in only_line(run(*small, "--device", "cuda"))


def test_a_folder_without_videos_is_one_line(small: list[str], tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    assert "no videos" in only_line(run(*change(small, "--data", tmp_path / "nothing")))


def test_a_cache_below_a_file_is_one_line(small: list[str], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in ("file", "file/cache"):
        assert str(tmp_path / "file") in only_line(run(*change(small, "--cache", tmp_path / place)))


@pytest.mark.parametrize(
    ("line", "named"), [("good1.avi train", "good1.avi train"), ("../good1.avi 1", "../good1.avi"), ("2", "2")]
)
def test_a_malformed_split_list_is_one_line_with_file_and_line(
    small: list[str], tmp_path: Path, line: str, named: str
) -> None:
    path = tmp_path / "data" / "splits" / "a_test_split2.txt"
    path.write_text(f"good0.avi 1\n{line}\ngood2.avi 1\n")
    error = only_line(run(*small))
    assert f"{path}, line 2" in error and named in error


def test_a_full_disk_is_one_line(small: list[str], tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no disk can be mounted here")
    try:
        error = only_line(run(*change(small, "--cache", disk / "cache")))
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    assert "No space left on device" in error


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    plain, debug = (
        subprocess.run(
            [*COMMAND, "info", str(tmp_path / "nothing"), *flags], capture_output=True, text=True, timeout=60
        )
        for flags in ([], ["--debug"])
    )
    assert (plain.returncode, debug.returncode) == (1, 1)
    assert plain.stderr.startswith("Error: ") and plain.stderr.count("\n") == 1
    assert "Traceback" in debug.stderr and "CacheError" in debug.stderr


# ------------------------------------------------------------------------------------------------- processes


def test_killed_at_random_moments_and_resumed_the_bytes_are_the_same(finished: Finished, tmp_path: Path) -> None:
    own = Finished(finished.data, tmp_path / "cache")
    moments = [random.randint(0, 2), random.randint(3, 4), random.randint(5, 7)]
    statuses = []
    for shards in moments:
        with started(extraction(own), tmp_path) as command:
            command.wait_until(lambda shards=shards: shards_done(own.cache) >= shards)
            time.sleep(0.2 * random.random())
            os.killpg(command.process.pid, signal.SIGKILL)
            statuses.append(command.process.wait())
    assert -signal.SIGKILL in statuses
    left = shards_done(own.cache)
    report = extract(own.settings())
    assert report.finished_before == 2 * left
    assert settled(own.cache) == contents(finished.cache), moments


def test_ctrl_c_exits_with_130_and_keeps_finished_shards(finished: Finished, tmp_path: Path) -> None:
    own = Finished(finished.data, tmp_path / "cache")
    with started(extraction(own), tmp_path) as command:
        command.wait_until(lambda: shards_done(own.cache) >= 2)
        os.killpg(command.process.pid, signal.SIGINT)  # as a terminal does
        assert command.process.wait(30) == 130
        assert command.all_gone()
    errors = command.errors.read_text()
    assert "Traceback" not in errors and errors.splitlines()[-1].startswith("Interrupted")
    kept = contents(own.cache / "shards")
    assert len(kept) >= 4 and kept.items() <= contents(finished.cache / "shards").items()


def test_ctrl_c_at_the_start_prints_no_traceback(small: list[str], tmp_path: Path) -> None:
    with started(small, tmp_path) as command:
        command.wait_until(lambda: len(command.members()) >= 3)  # the server that imports torch is one
        time.sleep(0.5)
        os.killpg(command.process.pid, signal.SIGINT)
        assert command.process.wait(30) == 130
        assert command.all_gone()
    assert "Traceback" not in command.errors.read_text()


def test_no_process_outlives_a_killed_run(small: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "data" / "videos" / "a"
    shutil.copy(folder / "good0.avi", folder / "hang.avi")
    write_lists(tmp_path / "data" / "splits", {**{f"good{i}.avi": 1 for i in range(3)}, "hang.avi": 2})
    with started(small, tmp_path, env=fake_decoders.on_path(tmp_path)) as command:
        command.wait_until(lambda: shards_done(tmp_path / "cache") == 3)
        assert command.process.poll() is None  # busy with the one that hangs
        assert len(command.members()) >= 4
        os.kill(command.process.pid, signal.SIGKILL)
        command.process.wait()
        assert command.all_gone()


def drop_privileges() -> None:
    """Have file permissions hold for root too."""
    for capability in (_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH):
        ctypes.CDLL(None).prctl(_PR_CAPBSET_DROP, capability)


def test_clips_that_break_the_decoder_cost_nothing_but_themselves(small: list[str], tmp_path: Path) -> None:
    """They are in no split list, so that they are sampled, too, before the first shard."""
    folder = tmp_path / "data" / "videos" / "a"
    for name in ("segfault", "hang", "hog", "unreadable"):
        shutil.copy(folder / "good0.avi", folder / f"{name}.avi")
    (folder / "unreadable.avi").chmod(0)
    if (
        os.geteuid() == 0
        and subprocess.run(
            ["cat", folder / "unreadable.avi"], preexec_fn=drop_privileges, capture_output=True
        ).returncode
        == 0
    ):
        (folder / "unreadable.avi").unlink()
    with started(
        [*small, "--clip-timeout", "2"],
        tmp_path,
        env=fake_decoders.on_path(tmp_path),
        preexec_fn=drop_privileges if os.geteuid() == 0 else None,
    ) as command:
        # Were sampling to wait the default 60 s for the one that hangs, twice, this would not do.
        assert command.process.wait(100) == 3, command.errors.read_text()
        assert command.all_gone()
    errors = command.errors.read_text()
    assert "Traceback" not in errors
    reasons = {
        "a/hang.avi": "the decoder hangs: no frame for 2 s (tried twice)",
        "a/hog.avi": "decoding it takes more than the 2 GiB of memory a worker may use (tried twice)",
        "a/segfault.avi": "the decoder crashes: SIGSEGV (tried twice)",
    }
    if (folder / "unreadable.avi").exists():
        reasons["a/unreadable.avi"] = "permission denied"
    with (tmp_path / "cache" / "failures.csv").open() as file:
        assert {row["key"]: row["reason"] for row in csv.DictReader(file)} == reasons
    assert all(f"Failed: {key}: {reason}" in errors and f"1 x {reason}" in errors for key, reason in reasons.items())
    assert "failures.csv" in errors
    cache = FeatureCache(tmp_path / "cache")
    assert {key: cache[key].shape[1] for key in cache} == {f"a/good{i}.avi": 10 + i for i in range(3)}
    assert verify(tmp_path / "cache") == []

    if os.geteuid() != 0:  # to root, the unreadable one has been mended
        assert run(*small).exit_code == 3
    (folder / "unreadable.avi").unlink(missing_ok=True)
    again = run(*small)
    assert again.exit_code == 3 and "Nothing to do" in again.stderr
    assert run(*small, "--allow-failed").exit_code == 0
