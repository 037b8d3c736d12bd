"""Standard streams that are closed, full, or no longer read; a working directory that is gone."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from har_cache_cli.main import app
from typer.testing import CliRunner

from ..helpers.caches import random_embeddings, write_cache
from ..helpers.commands import COMMAND

FULL = Path("/dev/full")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("made") / "cache"
    write_cache(root, random_embeddings({f"a/{i}.avi": 1 for i in range(3)}))
    return root


def shell(arguments: str, streams: str, folder: Path) -> tuple[int, str]:
    """The command's exit code, in a shell that leads its streams so, and what it printed on what is left of them."""
    return in_shell(f"{shlex.join(COMMAND)} {arguments} {streams}; exit ${{PIPESTATUS[0]}}", folder)


def in_shell(line: str, folder: Path) -> tuple[int, str]:
    done = subprocess.run(["bash", "-c", line], cwd=folder, capture_output=True, text=True, timeout=120)
    assert "Traceback" not in done.stderr and "Exception" not in done.stderr, done.stderr
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("arguments", "streams", "code", "printed"),
    [
        ("info {cache}", "<&- >&- 2>&-", 0, ""),
        ("info none", "2>&-", 1, ""),
        ("info {cache}", "| head -c 0", 1, ""),
        ("info {cache} --json", ">/dev/full", 1, "Error: the result cannot be printed: No space left on device\n"),
        ("--help", ">/dev/full", 1, "Error: the result cannot be printed: No space left on device\n"),
        ("info none", "2>/dev/full", 1, ""),
    ],
)
def test_a_stream_that_takes_nothing_costs_one_line_at_most(
    cache: Path, arguments: str, streams: str, code: int, printed: str, tmp_path: Path
) -> None:
    if "full" in streams and not FULL.exists():
        pytest.skip("no /dev/full here")
    asked = arguments.format(cache=shlex.quote(str(cache)))
    assert shell(asked, streams, tmp_path) == (code, printed)


def test_a_closed_stream_s_number_is_not_given_to_a_file(tmp_path: Path) -> None:
    code = (
        "import os; from har_cache_cli.console import say, echo\n"
        "from har_cache_cli.streams import open_streams; open_streams(); say('a'); echo('b')\n"
        f"file = os.open({str(tmp_path / 'file')!r}, os.O_WRONLY | os.O_CREAT); os.write(2, b'a library is noisy')\n"
        "assert file > 2 and all(map(os.get_inheritable, range(3)))"
    )
    done = subprocess.run(["bash", "-c", f"{sys.executable} -c {shlex.quote(code)} <&- >&- 2>&-"], timeout=60)
    assert done.returncode == 0 and (tmp_path / "file").read_bytes() == b""


def test_what_libraries_print_on_a_full_stream_later_does_no_harm(tmp_path: Path) -> None:
    if not FULL.exists():
        pytest.skip("no /dev/full here")
    code = "import sys; from har_cache_cli.console import say; say('a'); print('b', file=sys.stderr, flush=True)"
    assert in_shell(f"{sys.executable} -c {shlex.quote(code)} 2>/dev/full", tmp_path) == (0, "")


def test_without_a_working_directory_it_is_one_line(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    line = f"cd gone; rmdir ../gone; exec {shlex.join(COMMAND)} verify {shlex.quote(str(cache))}"
    assert in_shell(line, tmp_path) == (1, "Error: the current directory is gone: change to another one\n")


def test_a_directory_that_goes_while_a_command_runs_is_one_line_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise FileNotFoundError(2, "No such file or directory")

    def lose(cache: Path) -> None:
        monkeypatch.setattr(os, "getcwd", fail)
        fail()

    monkeypatch.setattr("har_cache.cache.manifest.read_manifest", fail)
    assert isinstance(CliRunner().invoke(app, ["info", "x"]).exception, FileNotFoundError)  # a fault of its own
    monkeypatch.setattr("har_cache.cache.manifest.read_manifest", lose)
    result = CliRunner().invoke(app, ["info", "x"])
    assert result.exit_code == 1 and result.stderr == "Error: the current directory is gone: change to another one\n"


def test_json_is_strictly_that(capsys: pytest.CaptureFixture[str]) -> None:
    from har_cache_cli.console import print_json

    print_json({"\udcff": ["a\ud800\n", float("nan"), float("inf"), 1.5, None, True]})
    text = capsys.readouterr().out
    assert json.loads(text, parse_constant=pytest.fail) == {"\\xff": ["a\\ud800\n", None, None, 1.5, None, True]}
