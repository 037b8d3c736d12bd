import errno
import signal
import subprocess
import sys

import pytest

from har_cache.errors import FileError
from har_cache.storage import failpoints
from har_cache.storage.failpoints import VARIABLE, failpoint
from har_cache.storage.files import write_file


@pytest.fixture(autouse=True)
def counted_anew(monkeypatch):
    monkeypatch.setattr(failpoints, "_seen", {})


def test_without_the_variable_nothing_happens(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    failpoint("written:a")


def test_the_step_that_is_asked_for_fails_and_no_other(monkeypatch):
    monkeypatch.setenv(VARIABLE, "written:*.json@2=ENOSPC")
    failpoint("written:a.h5")
    failpoint("synced:a.json")
    failpoint("written:a.json")
    with pytest.raises(OSError) as caught:
        failpoint("written:b.json")
    assert caught.value.errno == errno.ENOSPC
    failpoint("written:c.json")


@pytest.mark.parametrize("asked", ["written", "=EIO", "written:a@x=EIO,"])
def test_what_makes_no_sense_is_told(monkeypatch, asked):
    monkeypatch.setenv(VARIABLE, asked)
    with pytest.raises(ValueError, match="expected <pattern>"):
        failpoint("written:a")


@pytest.mark.parametrize("step", ["opened", "written", "synced"])
def test_a_file_that_cannot_be_put_in_its_place_leaves_the_old_one_alone(monkeypatch, tmp_path, step):
    (tmp_path / "a").write_bytes(b"old")
    monkeypatch.setenv(VARIABLE, f"{step}:a=ENOSPC")
    with pytest.raises(FileError, match="No space left"):
        write_file(tmp_path / "a", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_bytes() == b"old"


@pytest.mark.parametrize(
    ("step", "left"), [("opened", b"old"), ("written", b"old"), ("synced", b"old"), ("renamed", b"new")]
)
def test_a_process_that_is_killed_in_the_middle_leaves_the_old_file_or_the_new_one(monkeypatch, tmp_path, step, left):
    (tmp_path / "a").write_bytes(b"old")
    monkeypatch.setenv(VARIABLE, f"{step}:a=SIGKILL")
    code = "import pathlib, sys; from har_cache.storage.files import write_file; "
    code += "write_file(pathlib.Path(sys.argv[1]), b'new')"
    run = subprocess.run([sys.executable, "-c", code, tmp_path / "a"])
    assert run.returncode == -signal.SIGKILL
    assert (tmp_path / "a").read_bytes() == left
