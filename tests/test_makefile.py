"""What make would run, by `make -n`: nothing runs."""

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Of a make that runs these tests, as `make test` does.
_OF_MAKE = {"MAKEFLAGS", "MAKELEVEL", "MFLAGS", "MAKEOVERRIDES", "MAKE_TERMOUT", "MAKE_TERMERR"}
_ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in _OF_MAKE}


def dry(*arguments: str) -> list[str]:
    """The lines that make would run on a fresh clone whose environment is not there."""
    args = ["make", "-n", "-B", "VENV=no/such/place", "OF_SAMPLE=random", *arguments]
    return subprocess.run(
        args, cwd=ROOT, env=_ENVIRONMENT, capture_output=True, text=True, check=True
    ).stdout.splitlines()


def _command(lines: list[str], name: str) -> str:
    [line] = [line for line in lines if f"bin/har-cache {name} " in line]
    return re.sub(" +", " ", line.partition("bin/har-cache ")[2]).strip()


def test_a_run_is_gone_on_with_or_kept_unless_arguments_say_otherwise() -> None:
    for target, command in (("train-head", "train-head"), ("finetune", "finetune")):
        kept, replaced = (_command(dry(target, f"ARGS={args}"), command) for args in ("--epochs 3", "--overwrite"))
        assert "--resume" in kept and "--overwrite" not in kept and kept.endswith("--epochs 3")
        assert "--overwrite" in replaced and "--resume" not in replaced
        assert "ARGS=--overwrite starts it over" in " ".join(dry(target))


def test_clean_removes_what_is_the_samples_and_nothing_of_other_data() -> None:
    removal = " ".join(dry("clean")).partition("find ")[0]
    words = removal.replace("\\", " ").split()
    assert words[:2] == ["rm", "-rf"]
    of_data = [word for word in words if word.startswith("data")]
    assert all(re.fullmatch(r"data/(caches/|runs/)?sample(-\w+)*", word) for word in of_data)
    for line in (*dry("extract"), *dry("train-head"), *dry("finetune", "WEIGHTS=imagenet"), *dry("reproduce")):
        for path in re.findall(r"--(?:cache|run|runs) (\S+)", line):
            assert path in words


@pytest.mark.parametrize("folder", ["/videos/sample", "/videos/sample-finetuned/", "clips"])
def test_other_data_get_a_cache_and_a_run_that_clean_leaves(folder: str) -> None:
    command = _command(dry("train-head", f"DATA={folder}"), "train-head")
    removed = " ".join(dry("clean")).replace("\\", " ").split()
    for path in re.findall(r"--(?:cache|run) (\S+)", command):
        assert path not in removed


def test_demo_says_first_what_it_costs_and_last_what_its_figure_is_of() -> None:
    lines = dry("demo", "PIP_ARGS=--extra-index-url https://example.org/cpu")
    assert "This makes" in lines[0] and "6 GB" in lines[1] and "GB" in lines[2]
    installing = [line for line in lines if "pip install" in line]
    [line] = installing  # by uv, or else by pip
    assert line.count("--extra-index-url https://example.org/cpu -e") == line.count("pip install -q ") == 2
    assert "DRAWN data set" in lines[-2] and "weights" in lines[-2]


def test_help_shows_all_targets_and_all_variables() -> None:
    shown = subprocess.run(
        ["make", "help"], cwd=ROOT, env=_ENVIRONMENT, capture_output=True, text=True, check=True
    ).stdout
    text = (ROOT / "Makefile").read_text()
    variables = set(re.findall(r"^([A-Z_]+) *\?=", text, re.MULTILINE))
    assert variables == set(re.findall(r"^  ([A-Z_]+)=", shown, re.MULTILINE))
    [phony] = re.findall(r"^\.PHONY: (.*)$", text.replace("\\\n", " "), re.MULTILINE)
    assert set(phony.split()) - {"shown"} == set(re.findall(r"^  make ([a-z-]+)", shown, re.MULTILINE))
    assert all(len(line) <= 130 for line in shown.splitlines())


def test_predict_without_a_video_says_what_is_missing() -> None:
    result = subprocess.run(
        ["make", "predict", "VENV=/", "INSTALLED=", "HAR_CACHE=false"],
        cwd=ROOT,
        env=_ENVIRONMENT,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 2 and "make predict VIDEO=FILE" in result.stderr
