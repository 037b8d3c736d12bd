import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from har_cache_cli.main import app
from typer.testing import CliRunner, Result

from har_cache.model.run import Run

from ..helpers.caches import action_embeddings, write_cache

SMALL = ("--epochs", "2", "--frames", "8", "--batch-size", "8", "--hidden", "8", "--device", "cpu")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cache") / "cache"
    write_cache(path, action_embeddings())
    return path


def call(cache: Path, run: Path, *options: str) -> Result:
    return CliRunner().invoke(app, ["train-head", "--cache", str(cache), "--run", str(run), *SMALL, *options])


def test_it_says_what_it_does_and_how_it_ended(cache: Path, tmp_path: Path) -> None:
    result = call(cache, tmp_path / "run", "--cell", "lstm", "--seed", "4")
    assert result.exit_code == 0 and result.stdout == ""
    first, *_, outcome, last = result.stderr.splitlines()
    assert first.startswith("Split 1, seed 4: training on ") and "clips of 4 classes, validating on " in first
    assert outcome.startswith(f"{tmp_path / 'run'}: best epoch ")
    assert last == f"Next: har-cache evaluate {tmp_path / 'run'}"
    config = Run.open(tmp_path / "run").config
    assert config.head.cell == "lstm" and config.head.hidden == 8
    assert config.training.seed == 4 and config.training.epochs == 2


def test_a_finished_run_is_not_replaced(cache: Path, tmp_path: Path) -> None:
    assert call(cache, tmp_path / "run").exit_code == 0
    result = call(cache, tmp_path / "run")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ") and "--overwrite" in result.stderr and result.stderr.count("\n") == 1
    assert call(cache, tmp_path / "run", "--overwrite").exit_code == 0
    assert call(cache, tmp_path / "run", "--resume").exit_code == 0


@pytest.mark.parametrize(
    "options",
    [("--frames", "0"), ("--lr", "-1"), ("--cell", "x"), ("--split", "4"), ("--epochs", "0"), ("--seed", "-1")],
)
def test_bad_options_are_one_line(cache: Path, tmp_path: Path, options: tuple[str, str]) -> None:
    result = call(cache, tmp_path / "run", *options)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"Error: {options[0]} {options[1]}") and result.stderr.count("\n") == 1


def test_ctrl_c_exits_with_130_and_resume_goes_on(cache: Path, tmp_path: Path) -> None:
    run, options = tmp_path / "run", [*SMALL, "--epochs", "300"]
    command = [sys.executable, "-m", "har_cache_cli.main", "train-head", "--cache", cache, "--run", run, *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    give_up = time.monotonic() + 60
    while not (run / "last.ckpt").exists() and time.monotonic() < give_up:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in stderr and stderr.splitlines()[-1].endswith("--resume.")
    assert (run / "best.ckpt").exists() and not (run / "model.safetensors").exists()
    result = call(cache, run, "--epochs", "300")
    assert result.exit_code == 1 and "--resume" in result.stderr
