"""`python -m tests.mutation [--count 100] [--seed 1] [--out data/mutants.jsonl]`: can the tests fail?

Small faults are put into the modules that make figures or guard data, one at a time, in a copy of this checkout, and
the tests of that module are run: its mirror, then those that import it and are not long. A fault that no test notices
shows a test that is missing, or a line that does nothing. Places are drawn by the seed, each at the same chance, and
what is done there too, so the same checkout gives the same faults. Each is a line of the file, with the tests that
noticed it; run again, it goes on where it was ended. A minute a fault, or less.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .changes import count_places, mutant

_MODULES = """
cache/{manifest,reader,record,recipe,shard,verify,writer} comparison/{paired,summary}
data/{folds,index,keys,leakage,splits} encoder/{projection,transform}
evaluation/{evaluate,linear_probe,metrics,results,tables} files finetuning/{blend,choice,raw_batches,raw_inference}
model/{ensemble,head,load,run,temporal} parsing statistics/{calibration,intervals,jackknife}
training/{batches,checkpoints,folds,inference,loop} workers/{pool,ring,watchdog}
"""
# Tests that take a minute or need more than they tell of a module; where one is a mirror it runs all the same.
_LONG = (
    "bench/",
    "cli/",
    "extraction/",
    "finetuning/test_finetune",
    "reproduction/",
    "sample_data/",
    "test_real_clips",
)
# Modules without a mirror, or checked by way of another.
_NEIGHBOURS = {
    "cache/manifest": ("cache/test_writer", "cache/test_reader", "cache/test_verify"),
    "cache/record": ("cache/test_writer", "cache/test_reader", "cache/test_verify"),
    "comparison/summary": ("comparison/test_compare",),
    "finetuning/choice": ("finetuning/test_choice",),
    "parsing": ("cache/test_reader", "model/test_run", "evaluation/test_results", "evaluation/test_tables"),
    "training/checkpoints": ("training/test_loop",),
    "workers/watchdog": ("workers/test_pool",),
}
_SLACK_S = 60.0


def main() -> int:
    """Try the faults; 0 where each was noticed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("data/mutants.jsonl"), help="where the results go")
    parser.add_argument("--list", action="store_true", help="only say what the faults are")
    options = parser.parse_args()
    faults = _draw(options.count, options.seed)
    if options.list:
        print("\n".join(f"{name}.py:{line} {what}" for name, line, what, _ in faults))
        return 0
    with tempfile.TemporaryDirectory(prefix="har-cache-mutants-") as folder:
        results = _try_all(_Copy(Path(folder)), faults, options.out.absolute())
    survivors = [result for result in results if result["noticed_by"] is None]
    print(f"{len(results) - len(survivors)} of {len(results)} noticed; results: {options.out}")
    return 1 if survivors else 0


_Fault = tuple[str, int, str, str]  # module, line, what was changed, the module with it


def _draw(count: int, seed: int) -> list[_Fault]:
    rng = random.Random(seed)
    sources = {name: Path(f"har_cache/{name}.py").read_text() for name in _names()}
    places = [(name, place) for name, source in sources.items() for place in range(count_places(source))]
    faults = []
    for name, place in rng.sample(places, count):
        drawn = mutant(sources[name], place, rng)
        faults.append((name, drawn.where[0], drawn.what, drawn.source))
    return faults


def _names() -> list[str]:
    found = []
    for word in _MODULES.split():
        folder, _, names = word.partition("{")
        found += [folder + name for name in names.rstrip("}").split(",")]
    return found


def _tests_of(name: str) -> list[str]:
    """Its mirror and its neighbours, the tests most likely to notice first."""
    folder, _, module = name.rpartition("/")
    mirror = str(Path("tests", folder, f"test_{module}.py"))
    imported = "har_cache." + name.replace("/", ".")
    importing = [
        str(path)
        for path in sorted(Path("tests").rglob("test_*.py"))
        if f"from {imported} import" in path.read_text()
        and not str(path).startswith(tuple(f"tests/{p}" for p in _LONG))
    ]
    neighbours = [f"tests/{test}.py" for test in _NEIGHBOURS.get(name, ())]
    return list(dict.fromkeys([*filter(os.path.exists, [mirror]), *neighbours, *importing]))


class _Copy:
    """A copy of the checkout to change modules of."""

    def __init__(self, folder: Path) -> None:
        self.root, self._folder = folder / "checkout", folder
        files = subprocess.run(
            ["git", "ls-files", "-zco", "--exclude-standard"], check=True, capture_output=True
        ).stdout
        for name in files.decode().split("\0"):
            if name and Path(name).is_file():
                (self.root / name).parent.mkdir(parents=True, exist_ok=True)
                (self.root / name).write_bytes(Path(name).read_bytes())
        (folder / "imported").mkdir()
        for name, target in (("har_cache", "har_cache"), ("har_cache_cli", "cli")):
            (folder / "imported" / name).symlink_to(self.root / target)
        if Path("../shared").exists():
            (folder / "shared").symlink_to(Path("../shared").resolve())

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
        """How long each of these test modules takes. All have to pass."""
        report = self._folder / "unchanged.xml"
        status, output = self.run(tests, None, f"--junitxml={report}")
        if status:
            sys.exit(f"without any fault tests fail:\n{output[-3000:]}")
        found = dict.fromkeys(tests, 0.0)
        for case in ET.parse(report).iter("testcase"):
            found[case.attrib["classname"].replace(".", "/") + ".py"] += float(case.attrib["time"])
        return found


def _end_group(process: "subprocess.Popen[str]") -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()


def _try_all(copy: _Copy, faults: Sequence[_Fault], out: Path) -> list[dict[str, Any]]:
    out.parent.mkdir(parents=True, exist_ok=True)
    done = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
    left = faults[len(done) :]
    seconds = copy.seconds(sorted({test for name, *_ in left for test in _tests_of(name)})) if left else {}
    for name, line, what, source in left:
        tests = _tests_of(name)
        path = copy.root / "har_cache" / f"{name}.py"
        right, begun = path.read_text(), time.monotonic()
        path.write_text(source)
        try:
            status, output = copy.run(tests, _SLACK_S + 3 * sum(seconds[test] for test in tests), "-x")
        finally:
            path.write_text(right)
        took = round(time.monotonic() - begun)
        done.append({"at": f"{name}.py:{line}", "what": what, "noticed_by": _noticed_by(status, output), "s": took})
        with out.open("a") as file:
            file.write(json.dumps(done[-1]) + "\n")
        print(f"{len(done)}: {done[-1]['at']} {what}: {done[-1]['noticed_by'] or 'SURVIVES'} ({took} s)", flush=True)
    return done


def _noticed_by(status: int | None, output: str) -> str | None:
    """The test that failed; None where all pass."""
    if status == 0:
        return None
    failed = [line for line in output.splitlines() if line.startswith(("FAILED ", "ERROR "))]
    return "the time limit" if status is None else failed[0].split(" - ")[0] if failed else f"exit status {status}"


if __name__ == "__main__":
    sys.exit(main())
