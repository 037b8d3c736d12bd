"""`python -m tests.gpu_check [--out FILE] [--device cuda]`."""

import argparse
import sys
import tempfile
from pathlib import Path

import torch

from .check import STEPS, Check, Sizes

_SECONDS = 600


def main() -> int:
    """Run the check; 0 where everything is as expected."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("data/gpu-check.json"), help="where the JSON goes")
    parser.add_argument("--device", default="cuda", help="cpu: a rehearsal, whose figures say nothing")
    parser.add_argument("--small", action="store_true", help="as little as shows that every step runs")
    parser.add_argument("--seconds", type=float, default=_SECONDS, help="for all of it; what is left then is told")
    of = f"of {', '.join(STEPS)}"
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=STEPS, metavar="STEP", help=of)
    options = parser.parse_args()
    if options.device != "cpu" and not torch.cuda.is_available():
        print("gpu-check: torch sees no CUDA device here", file=sys.stderr)
        return 1
    sizes = Sizes(2, 8, 3, 24, 0.05, 1, 1) if options.small else Sizes()
    check = Check(options.device, Path(tempfile.mkdtemp(prefix="har-cache-gpu-check-")), sizes, options.seconds)
    try:
        findings = check.run(options.steps)
    finally:
        check.clean()
    print("\n" + "\n".join(findings.lines()))
    findings.write(options.out)
    print(f"\nAs JSON: {options.out}")
    return 1 if findings.short else 0


if __name__ == "__main__":
    sys.exit(main())
