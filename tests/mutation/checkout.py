"""A copy of this checkout to change modules of, and the tests that ought to notice."""

import os
import signal
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path

# Tests that take a minute or need more than they tell of a module; where one is a mirror it runs all the same.
_LONG = ("bench", "cli", "extraction", "finetuning/test_finetune", "reproduction", "sample_data", "test_real_clips")
# Modules without a mirror, or that are checked by way of another.
_NEIGHBOURS = {
    "cache/manifest": ("cache/test_writer", "cache/test_reader", "cache/test_verify"),
    "cache/record": ("cache/test_writer", "cache/test_reader", "cache/test_verify"),
    "comparison/summary": ("comparison/test_compare",),
    "storage/parsing": ("cache/test_reader", "model/test_run", "evaluation/test_results", "evaluation/test_tables"),
    "training/checkpoints": ("training/test_loop", "training/test_folds"),
    "workers/watchdog": ("workers/test_pool",),
}


class Copy:
    """A copy, in a folder that is there: what git follows or would follow, and the folder of real clips beside it."""

    def __init__(self, folder: Path) -> None:
        self.root, self._folder = folder / "checkout", folder
        listed = subprocess.run(["git", "ls-files", "-zco", "--exclude-standard"], check=True, capture_output=True)
        for name in listed.stdout.decode().split("\0"):
            if name and Path(name).is_file():
                (self.root / name).parent.mkdir(parents=True, exist_ok=True)
                (self.root / name).write_bytes(Path(name).read_bytes())
        (folder / "imported").mkdir()
        for name, target in (("har_cache", "har_cache"), ("har_cache_cli", "cli")):
            (folder / "imported" / name).symlink_to(self.root / target)
        if Path("../shared").exists():
            (folder / "shared").symlink_to(Path("../shared").resolve())

    def module(self, name: str) -> Path:
        """The file of a module, `data/folds`, say."""
        return self.root / "har_cache" / f"{name}.py"

    def tests_of(self, name: str) -> list[str]:
        """Its mirror and its neighbours, the tests most likely to notice first."""
        folder, _, module = name.rpartition("/")
        near = [Path(folder, f"test_{module}"), *map(Path, _NEIGHBOURS.get(name, ()))]
        imports = f"from har_cache.{name.replace('/', '.')} import"
        for path in sorted((self.root / "tests").rglob("test_*.py")):
            test = path.relative_to(self.root / "tests").with_suffix("")
            if imports in path.read_text() and not str(test).startswith(_LONG):
                near.append(test)
        found = dict.fromkeys(f"tests/{test}.py" for test in near)
        return [test for test in found if (self.root / test).exists()]

    def run(self, tests: Sequence[str], limit_s: float | None, *options: str) -> tuple[int | None, str]:
        """Exit status and output of pytest; None where it took too long."""
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--hypothesis-profile=mutants"]
        process = subprocess.Popen(
            [*command, f"--basetemp={self._folder / 'tmp'}", *options, *tests],
            cwd=self.root,
            env={**os.environ, "PYTHONPATH": str(self._folder / "imported"), "PYTHONDONTWRITEBYTECODE": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored in jobs of a shell
        )
        try:
            output, _ = process.communicate(timeout=limit_s)
            return process.returncode, output
        except subprocess.TimeoutExpired:
            return None, ""
        finally:
            _end_group(process)

    def seconds(self, tests: Sequence[str]) -> dict[str, float]:
        """How long each of these test modules takes. Ends the program where one of them fails."""
        report = self._folder / "unchanged.xml"
        status, output = self.run(tests, None, f"--junitxml={report}")
        if status:
            sys.exit(f"without any fault tests fail:\n{output[-3000:]}")
        found = dict.fromkeys(tests, 0.0)
        for case in ET.parse(report).iter("testcase"):
            name = case.attrib["classname"].replace(".", "/")
            for test in tests:
                if f"{name}/".startswith(f"{test.removesuffix('.py')}/"):
                    found[test] += float(case.attrib["time"])
        return found


def _end_group(process: "subprocess.Popen[str]") -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()
