import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("error", "is_told"),
    [
        ("BlockingIOError(11, 'x')", False),
        ("EOFError()", False),
        ("pickle.UnpicklingError()", False),
        ("KeyError()", True),
    ],
)
def test_the_fork_server_says_nothing_of_who_has_gone_and_of_a_full_system(error: str, is_told: bool) -> None:
    code = "import pickle, sys; sys.modules['har_cache.workers.tasks'] = sys; import har_cache.workers.preload; "
    code += f"raise {error}"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stderr
    assert ("Traceback" in said) == is_told


def test_a_fork_server_whose_parent_has_ended_already_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import sys; sys.modules['har_cache.workers.tasks'] = sys; import har_cache.workers.preload; print('on')"
    for parent, said in ((str(os.getpid()), "on\n"), ("1", "")):
        monkeypatch.setenv("HAR_CACHE_FORK_SERVER_OF", parent)
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert (run.returncode, run.stdout, run.stderr) == (0, said, "")
