import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from har_cache.errors import FileError
from har_cache.storage import locks
from har_cache.storage.locks import locked

HOLDS = """
import sys, time, pathlib
from har_cache.storage.locks import locked
with locked(pathlib.Path(sys.argv[1]), "x", print):
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_second_is_refused_and_the_next_one_not(tmp_path: Path) -> None:
    with locked(tmp_path, "extraction", print) as alone:
        assert alone
        with (
            pytest.raises(FileError, match="another extraction is at work here; wait for it, or end it"),
            entered(tmp_path),
        ):
            pass
    with locked(tmp_path, "extraction", print):
        pass
    assert not list(tmp_path.iterdir())


def entered(folder: Path):
    return locked(folder, "extraction", print)


def test_a_lock_goes_with_its_process(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLDS, tmp_path], stdout=subprocess.PIPE)
    assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
    with pytest.raises(FileError, match="another"), entered(tmp_path):
        pass
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with entered(tmp_path):
        pass


def test_one_whose_file_was_removed_meanwhile_is_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its owner removes it in the very moment in which another one has opened it, and waits."""
    flock = locks.fcntl.flock
    removed: list[int] = []

    def late(file: object, how: int) -> None:
        flock(file, how)
        if not removed:
            removed.append(1)
            (tmp_path / ".lock").unlink()

    monkeypatch.setattr(locks.fcntl, "flock", late)
    with locked(tmp_path, "extraction", print):
        monkeypatch.undo()
        with pytest.raises(FileError, match="another"), entered(tmp_path):
            pass


def test_a_file_system_without_locks_is_told_and_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(locks.fcntl, "flock", none)
    said: list[str] = []
    with locked(tmp_path, "extraction", said.append) as alone:
        assert not alone
    assert said == [
        f"WARNING: {tmp_path}: its file system has no locks: see to it that no other extraction is at work here"
    ]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"none/\.lock: cannot be locked: No such file"), entered(tmp_path / "none"):
        pass
