"""`python -m tests.mutation [--count 100] [--seed 1] [--out data/mutants.jsonl]`: can the tests fail?

Small faults are put into the modules that make figures or guard data, one at a time, in a copy of this checkout, and
the tests of that module are run: its mirror, then those that import it and are not long. A fault that no test notices
shows a test that is missing, or a line that does nothing. Places are drawn by the seed, each at the same chance, and
what is done there too, so the same checkout gives the same faults. Each is a line of the file, with the test that
noticed it; run again, it goes on where it was ended. A fault takes half a minute on two cores.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from .changes import count_places, mutant
from .checkout import Copy

_MODULES = """
cache/{manifest,reader,recipe,record,recovery,shard,verify,writer} comparison/{paired,summary}
data/{folds,index,keys,leakage,splits} encoder/{projection,resize,transform}
evaluation/{averages,evaluate,linear_probe,metrics,results,tables} finetuning/{blend,choice,raw_batches,raw_inference}
model/{ensemble,head,load,run,temporal,writer} statistics/{calibration,intervals,jackknife}
storage/{files,locks,parsing} training/{batches,checkpoints,folds,inference,loop}
workers/{pool,ring,watchdog}
"""
_SLACK_S = 60.0


class _Fault(NamedTuple):
    """A module with a change: `what` stood at this line and stands there now, and all of its source."""

    name: str
    line: int
    what: str
    source: str


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
        print("\n".join(f"{fault.name}.py:{fault.line} {fault.what}" for fault in faults))
        return 0
    with tempfile.TemporaryDirectory(prefix="har-cache-mutants-") as folder:
        results = _try_all(Copy(Path(folder)), faults, options.out.absolute())
    noticed = sum(result["noticed_by"] is not None for result in results)
    print(f"{noticed} of {len(results)} noticed; all of them: {options.out}")
    return 0 if noticed == len(results) else 1


def _draw(count: int, seed: int) -> list[_Fault]:
    rng = random.Random(seed)
    sources = {name: Path(f"har_cache/{name}.py").read_text() for name in _names()}
    places = [(name, place) for name, source in sources.items() for place in range(count_places(source))]
    faults = []
    for name, place in rng.sample(places, count):
        drawn = mutant(sources[name], place, rng)
        faults.append(_Fault(name, drawn.where[0], drawn.what, drawn.source))
    return faults


def _names() -> list[str]:
    found = []
    for word in _MODULES.split():
        folder, _, names = word.partition("{")
        found += [folder + name for name in names.rstrip("}").split(",")]
    return found


def _try_all(copy: Copy, faults: Sequence[_Fault], out: Path) -> list[dict[str, Any]]:
    out.parent.mkdir(parents=True, exist_ok=True)
    done = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
    left = faults[len(done) :]
    seconds = copy.seconds(sorted({test for fault in left for test in copy.tests_of(fault.name)})) if left else {}
    for fault in left:
        tests, path = copy.tests_of(fault.name), copy.module(fault.name)
        right, begun = path.read_text(), time.monotonic()
        path.write_text(fault.source)
        try:
            status, output = copy.run(tests, _SLACK_S + 3 * sum(seconds[test] for test in tests), "-x")
        finally:
            path.write_text(right)
        at, by, took = f"{fault.name}.py:{fault.line}", _noticed_by(status, output), round(time.monotonic() - begun)
        done.append({"at": at, "what": fault.what, "noticed_by": by, "s": took})
        with out.open("a") as file:
            file.write(json.dumps(done[-1]) + "\n")
        print(f"{len(done)}: {at} {fault.what}: {by or 'SURVIVES'} ({took} s)", flush=True)
    return done


def _noticed_by(status: int | None, output: str) -> str | None:
    """The test that failed; None where all pass."""
    if status == 0:
        return None
    if status is None:
        return "the time limit"
    failed = [line for line in output.splitlines() if line.startswith(("FAILED ", "ERROR "))]
    return failed[0].split(" - ")[0] if failed else f"exit status {status}"


if __name__ == "__main__":
    sys.exit(main())
