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
