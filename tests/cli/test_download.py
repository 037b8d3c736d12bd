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
from har_cache_cli.main import app
from typer.testing import CliRunner

from har_cache.data.index import read_index
from har_cache.downloading import download as module
from har_cache.downloading.download import DownloadReport, Means, download
from har_cache.progress import Progress
from har_cache.settings.tools import DownloadSettings

from ..helpers.releases import Copy, small_copy
from ..helpers.websites import Fault, Website

# The command on the small data set of `releases`, given as its folder, instead of HMDB51.
SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv.pop(1))
from tests.helpers.releases import archive, SMALL
from har_cache.downloading import download as module
from har_cache.data.hmdb51 import Release
folder = Path(sys.argv.pop(1))
release = Release(SMALL, 15, archive(folder / "hmdb51_org.rar"), archive(folder / "test_train_splits.rar"), ())
real = module.download
module.download = lambda settings, progress: real(settings, progress, module.Means(release))
from har_cache_cli.main import app
app()
"""


@pytest.fixture
def small(copy: Copy, monkeypatch: pytest.MonkeyPatch) -> Copy:
    """The small data set stands for HMDB51, for commands in this process."""

    def of_the_small_one(settings: DownloadSettings, progress: Progress) -> DownloadReport:
        return download(settings, progress, Means(copy.release))

    monkeypatch.setattr(module, "download", of_the_small_one)
    return copy


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(app, ["download", *map(str, arguments)])


def start(copy: Copy, *arguments: Any) -> "subprocess.Popen[str]":
    """The command in a process of its own, and its own group, as a terminal starts it."""
    line = [sys.executable, "-c", SCRIPT, str(Path(__file__).parents[2]), str(copy.folder), "download"]
    return subprocess.Popen([*line, *map(str, arguments)], stderr=subprocess.PIPE, text=True, start_new_session=True)


def published(out: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(out)): path.read_bytes()
        for folder in ("hmdb51_org", "testTrainMulti_7030_splits")
        for path in (out / folder).rglob("*")
        if path.is_file()
    }


def test_it_explains_itself() -> None:
    result = run("--help")
    assert result.exit_code == 0 and "--from" in result.stdout and "--debug" in result.stdout


def test_help_imports_nothing_of_it() -> None:
    code = (
        "import sys, har_cache_cli.main; "
        "print({'rarfile', 'urllib.request', 'har_cache.downloading.download'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "set()\n"


def test_to_a_complete_data_set_and_nothing_the_second_time(small: Copy, site: Website, tmp_path: Path) -> None:
    result = run("--out", tmp_path / "out", "--from", site.url)
    assert result.exit_code == 0 and result.stdout == ""
    lines = result.stderr.splitlines()
    assert lines[-3:-1] == ["15 clips are new", f"{tmp_path / 'out'}: 3 classes, 15 clips, 9 split lists"]
    assert lines[-1].startswith("Complete; ") and "archives" in lines[-1]
    assert published(tmp_path / "out") == small.tree()
    assert len(read_index(tmp_path / "out").clips) == 15
    shutil.rmtree(tmp_path / "out" / "archives")
    result = run("--out", tmp_path / "out", "--from", site.url)
    assert result.exit_code == 0 and len(site.asked) == 2
    assert result.stderr == f"Nothing new\n{tmp_path / 'out'}: 3 classes, 15 clips, 9 split lists\n"


def test_missing_clips_are_exit_code_3_and_named(small: Copy, tmp_path: Path) -> None:
    run("--out", tmp_path / "all", "--from", small.folder)
    shutil.rmtree(tmp_path / "all" / "hmdb51_org" / "climb")
    result = run("--out", tmp_path / "out", "--from", tmp_path / "all", "--json")
    assert result.exit_code == 3
    content = json.loads(result.stdout)
    assert content["missing"] == sorted(f"climb/{name}" for name in small.clips["climb"])
    assert (content["classes"], content["clips"], content["lists"], content["arrived"]) == (2, 10, 9, 10)
    assert all(name in result.stderr for name in small.clips["climb"])


def test_an_error_is_one_line(small: Copy, site: Website, tmp_path: Path) -> None:
    site.always = {path: Fault(status=404) for path in site.files}
    result = run("--out", tmp_path / "out", "--from", site.url)
    assert result.exit_code == 1 and result.stdout == ""
    error = result.stderr.splitlines()[-1]
    assert error.startswith("Error: test_train_splits.rar cannot be had") and "Traceback" not in result.stderr


def test_the_real_ones_are_asked_for_by_their_checksums(tmp_path: Path) -> None:
    copy = small_copy(tmp_path / "published")
    result = run("--out", tmp_path / "out", "--from", copy.folder)
    assert result.exit_code == 1 and "none of the published archives" in result.stderr
    result = run("--out", tmp_path / "out", "--from", copy.folder, "--unverified")
    assert result.exit_code == 1 and "144 of 153 lists are missing" in result.stderr


@pytest.mark.parametrize("arguments", [[], ["--out"], ["--out", "x", "y"], ["--out", "x", "--form", "y"]])
def test_wrong_usage_exits_with_2(arguments: list[str]) -> None:
    assert run(*arguments).exit_code == 2


def test_killed_at_random_moments_and_resumed(copy: Copy, site: Website, tmp_path: Path) -> None:
    rng = random.Random(7)
    out = tmp_path / "out"
    site.always["/hmdb51_org.rar"] = Fault(breaks_at=10_000_000)  # and it is never a problem
    for _ in range(5):
        process = start(copy, "--out", out, "--from", site.url)
        time.sleep(rng.uniform(0.2, 1.5))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=60)
        assert published(out).items() <= copy.tree().items()
    process = start(copy, "--out", out, "--from", site.url)
    _, text = process.communicate(timeout=60)
    assert process.returncode == 0, text
    assert published(out) == copy.tree() and not (out / ".unpacking").exists()


def test_ctrl_c_in_the_middle_of_a_download(copy: Copy, site: Website, tmp_path: Path) -> None:
    out = tmp_path / "out"
    site.faults["/hmdb51_org.rar"] = [Fault(falls_silent_at=1000)]
    process = start(copy, "--out", out, "--from", site.url)
    part = out / "archives" / "hmdb51_org.rar.part"
    deadline = time.monotonic() + 60
    while len(site.asked) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGINT)
    _, text = process.communicate(timeout=60)
    assert process.returncode == 130 and text.splitlines()[-1].startswith("Interrupted.") and "Traceback" not in text
    assert part.stat().st_size == 1000
    assert start(copy, "--out", out, "--from", site.url).wait(60) == 0
    assert site.asked[-1] == ("/hmdb51_org.rar", "bytes=1000-") and published(out) == copy.tree()
