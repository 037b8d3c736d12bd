import signal
import subprocess
import sys

import pytest


@pytest.mark.parametrize("step", ["typer", "har_cache_cli.verify"])
def test_ctrl_c_while_it_is_imported_prints_no_traceback(step: str) -> None:
    """A finder of modules is asked for the step, and is interrupted then."""
    code = f"""
import os, runpy, signal, sys
class Interrupts:
    def find_spec(self, name, *_):
        if name == {step!r}:
            os.kill(os.getpid(), signal.SIGINT)
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Interrupts())
sys.argv = ["har-cache", "--help"]
runpy.run_module("har_cache_cli.main", run_name="__main__")
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (run.returncode, run.stdout, run.stderr) == (-signal.SIGINT, "", "")


def test_once_it_is_imported_ctrl_c_is_an_exception_again() -> None:
    code = "import signal\nsignal.signal(2, signal.default_int_handler)\nimport har_cache_cli.main\n"
    code += "print(signal.getsignal(2))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "default_int_handler" in run.stdout
