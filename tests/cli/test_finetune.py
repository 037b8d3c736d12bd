import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from har_cache_cli.main import app
from typer.testing import CliRunner, Result

from ..conftest import Finished

SMALL = ("--epochs", "1", "--frames", "4", "--batch-size", "4", "--unfreeze", "1", "--head-epochs", "0")


@pytest.fixture(scope="module")
def head(finished: Finished, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("head") / "run"
    options = ["--epochs", "1", "--frames", "4", "--hidden", "8"]
    result = CliRunner().invoke(app, ["train-head", "--cache", str(finished.cache), "--run", str(run), *options])
    assert result.exit_code == 0, result.output
    return run


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def finetune(head: Path, data: Path, run: Path, *options: str) -> list[str]:
    paths = ["--from", str(head), "--data", str(data), "--run", str(run)]
    return ["finetune", *paths, *SMALL, "--workers", "1", "--device", "cpu", *options]


def test_it_says_what_it_does_how_fast_it_was_and_what_is_next(finished: Finished, head: Path, tmp_path: Path) -> None:
    result = call(*finetune(head, finished.data, tmp_path / "run", "--accumulate", "2", "--checkpointing"))
    assert result.exit_code == 0 and result.stdout == "", result.output
    first, warning, second, *_, pace, last = result.stderr.splitlines()
    assert first.startswith("Split 1: fine-tuning on ") and second.startswith("Before the first step: ")
    assert warning.startswith("WARNING: the validation clips are of one film")
    assert "clips/s; decoding alone " in pace and "waiting for frames" in pace
    assert last.startswith(f"{tmp_path / 'run'}: kept the start: clips of one film")
    assert "the blend (0.5 tuned) " in last and "next: har-cache evaluate" in last
    scored = call("evaluate", tmp_path / "run", "--workers", "1")
    assert scored.exit_code == 0 and f"Stage two ({head}) on the same clips" in scored.stdout
    assert call("report", tmp_path / "run").exit_code == 0


def test_clips_that_fail_are_named_and_the_exit_code_is_3(finished: Finished, head: Path, tmp_path: Path) -> None:
    copy = finished.copy(tmp_path)
    keys = [line.split(",")[0] for line in (head / "clips.csv").read_text().splitlines() if line.endswith(",train")]
    next(copy.data.glob(f"**/{keys[0].partition('/')[2]}")).unlink()
    result = call(*finetune(head, copy.data, tmp_path / "run"))
    assert result.exit_code == 3 and f"Skipped: {keys[0]}: " in result.stderr, result.output
    assert "1 clip could not be decoded" in result.stderr
    assert call(*finetune(head, copy.data, tmp_path / "run", "--overwrite", "--allow-failed")).exit_code == 0


def test_errors_are_one_line(finished: Finished, head: Path, tmp_path: Path) -> None:
    for options in (("--unfreeze", "40"), ("--epochs", "0"), ("--frames", "0"), ("--ema", "2"), ("--workers", "0")):
        result = call(*finetune(head, finished.data, tmp_path / "run", *options))
        assert result.exit_code == 2 and result.stderr.startswith(f"Error: {options[0]} {options[1]}")
        assert result.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_ctrl_c_exits_with_130_and_keeps_what_was_best(finished: Finished, head: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = [sys.executable, "-m", "har_cache_cli.main", *finetune(head, finished.data, run, "--epochs", "500")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    give_up = time.monotonic() + 300
    while not (run / "last.ckpt").exists() and time.monotonic() < give_up:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr and stderr.splitlines()[-1].endswith("--resume.")
    assert (run / "best.ckpt").exists() and not (run / "model.safetensors").exists()
