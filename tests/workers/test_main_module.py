import subprocess
import sys
import threading
import types
from multiprocessing import spawn
from pathlib import Path

import pytest

from har_cache.errors import HarCacheError
from har_cache.workers.main_module import check_main_module, without_main_module


def run(script: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    file = folder / "script.py"
    file.write_text(script)
    return subprocess.run([sys.executable, str(file)], capture_output=True, text=True)


def test_a_script_without_a_guard_starts_processes_and_runs_once(tmp_path: Path) -> None:
    found = run(
        """
import multiprocessing
from har_cache.workers.main_module import without_main_module

print("the script", flush=True)
process = multiprocessing.get_context("forkserver").Process(target=print, args=("the process",))
with without_main_module():
    process.start()
process.join()
""",
        tmp_path,
    )
    assert (found.stdout, found.stderr) == ("the script\nthe process\n", "")


def test_a_process_of_somebody_else_that_would_start_the_script_over_is_told_what_to_write(tmp_path: Path) -> None:
    found = run(
        """
import multiprocessing
from har_cache.workers.main_module import check_main_module

check_main_module()
print("the script", flush=True)
process = multiprocessing.get_context("spawn").Process(target=print)
process.start()
process.join()
""",
        tmp_path,
    )
    assert found.stdout == "the script\n"
    assert "HarCacheError: script.py is imported by a process that it has started" in found.stderr
    assert 'under `if __name__ == "__main__":`' in found.stderr


def test_processes_that_other_threads_start_import_the_main_module_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    main = types.ModuleType("__main__")
    main.__file__ = "/a/script.py"
    monkeypatch.setitem(sys.modules, "__main__", main)
    found = []

    def of_another_thread() -> None:
        found.append(spawn.get_preparation_data("process"))

    with without_main_module():
        thread = threading.Thread(target=of_another_thread)
        thread.start()
        thread.join()
        found.append(spawn.get_preparation_data("process"))
    found.append(spawn.get_preparation_data("process"))
    theirs, ours, later = found
    assert theirs["init_main_from_path"] == later["init_main_from_path"] == "/a/script.py"
    assert theirs.keys() - ours.keys() == {"init_main_from_path"}


def test_the_program_itself_is_no_such_process() -> None:
    try:
        check_main_module()
    except HarCacheError:
        pytest.fail("it is")
