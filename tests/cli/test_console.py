"""Bars, log lines and exit codes."""

import sys

import pytest
import torch
import typer
from har_cache_cli import console

from har_cache.errors import HarCacheError, SettingError


@pytest.mark.parametrize(
    ("error", "code"),
    [(HarCacheError("x"), 1), (SettingError("x"), 2), (KeyboardInterrupt(), 130)],
)
def test_errors_become_a_line_and_a_code(error: BaseException, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as caught, console.friendly(debug=False):
        raise error
    assert caught.value.exit_code == code and capsys.readouterr().err.count("\n") == 1


def gpu_error(error: BaseException, flags: set[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(typer.Exit) as caught, console.friendly(False, flags):
        raise error
    assert caught.value.exit_code == 1
    [line] = capsys.readouterr().err.splitlines()
    return line


NO_MEMORY = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB. GPU 1 has a total capacity of ...")


def test_a_gpu_out_of_memory_says_how_much_is_in_use_and_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gpu_error(NO_MEMORY, {"--device", "--batch-size"}, capsys) == (
        "Error: the GPU is out of memory; try a smaller --batch-size or another GPU with --device cuda:N or "
        "--device cpu"
    )
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (1 << 30, 80 << 30))
    assert gpu_error(NO_MEMORY, {"--device"}, capsys) == (
        "Error: the GPU is out of memory (cuda:1: 79.0 of 80.0 GiB are in use); try another GPU with --device cuda:N "
        "or --device cpu"
    )


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            torch.AcceleratorError("CUDA error: an illegal memory access\nmore"),
            "the GPU failed: CUDA error: an il",
        ),
        (RuntimeError("CUDA error: device-side assert triggered"), "the GPU failed: CUDA error: device-side assert"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), "the GPU failed: cuDNN error: CUDNN"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"), "the GPU is out of memory; try"),
        (torch.AcceleratorError("CUDA error: out of memory"), "the GPU is out of memory; try"),
    ],
)
def test_errors_of_a_gpu_are_one_line(error: BaseException, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    line = gpu_error(error, {"--device"}, capsys)
    assert line.startswith(f"Error: {told}")
    assert line.endswith("; try another GPU with --device cuda:N or --device cpu")
    assert gpu_error(error, set(), capsys).endswith("; --debug shows where")


def test_other_errors_are_left_alone_and_all_are_with_debug(monkeypatch: pytest.MonkeyPatch) -> None:
    bug = RuntimeError("shapes do not match")
    with pytest.raises(RuntimeError, match="shapes"), console.friendly(False):
        raise bug
    with pytest.raises(torch.OutOfMemoryError), console.friendly(True):
        raise NO_MEMORY
    monkeypatch.delitem(sys.modules, "torch")  # a command that has not imported it does not do so now
    with pytest.raises(RuntimeError, match="CUDA error"), console.friendly(False):
        raise RuntimeError("CUDA error: none")
    assert "torch" not in sys.modules


def test_without_a_terminal_there_is_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console, "_LOG_EVERY_S", -1)
    bar = console.Bar()
    with bar.task("Drawing", "clip", 4, 1):
        bar.advance()
        bar.advance(1, "fast")
        bar.say("a line")
        bar.advance()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("Drawing: 2 of 4 clips, ") and lines[0].endswith(" s left")
    assert lines[1].startswith("Drawing: 3 of 4 clips, fast, ")
    assert lines[2] == "a line" and lines[3].startswith("Drawing: 4 of 4 clips, fast, 0 s left")


def test_bytes_and_unknown_totals(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(console, "_LOG_EVERY_S", -1)
    bar = console.Bar()
    with bar.task("x.rar", "B", None):
        bar.advance(3 << 20)
    with bar.task("x.rar", "B", 6 << 20):
        bar.advance(3 << 20)
    first, second = capsys.readouterr().err.splitlines()
    assert first == "x.rar: 3.0 MiB" and second.startswith("x.rar: 3.0 of 6.0 MiB, ")


def test_a_bar_on_a_terminal_ends_whatever_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    bar = console.Bar()
    with pytest.raises(ValueError, match="broken"), bar.task("Drawing", "clip", 4):
        bar.advance(2, "fast")
        assert bar._bar is not None and bar._bar.n == 2
        raise ValueError("broken")
    assert bar._bar is None


def test_progress_on_a_terminal_is_a_bar_and_lines_elsewhere(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console, "_LOG_EVERY_S", -1)
    progress = console.Bar()
    progress.begin("x.rar", "B", 4 << 20, 1 << 20)
    progress.advance(1 << 20)
    progress.begin("x.rar", "B", None, 0)
    progress.advance(1 << 19)
    progress.begin("Unpacking", "file", 15, 0)
    progress.advance(1)
    progress.close()
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["x.rar: 2.0 of 4.0 MiB, 0 s left", "x.rar: 0.5 MiB", "Unpacking: 1 of 15 files, 0 s left"]
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    progress.begin("x.rar", "B", 4 << 20, 1 << 20)
    progress.advance(3 << 20)
    progress.say("a line")
    progress.close()
    text = capsys.readouterr().err
    assert "100%" in text and "4.00M/4.00M" in text and "a line\n" in text


def test_counts_have_their_plural() -> None:
    assert [console.plural(n, noun) for n, noun in ((1, "clip"), (2, "clip"), (3, "class"))] == [
        "1 clip",
        "2 clips",
        "3 classes",
    ]


@pytest.mark.parametrize(
    ("error", "said"),
    [(MemoryError(), "not enough memory"), (RuntimeError("can't start new thread"), "no more threads (`ulimit -u`)")],
)
def test_what_the_system_has_no_room_for_is_one_line(
    capsys: pytest.CaptureFixture[str], error: Exception, said: str
) -> None:
    with pytest.raises(typer.Exit) as left, console.friendly(False):
        raise error
    assert left.value.exit_code == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("Error: ") and said in lines[0]
    with pytest.raises(type(error)), console.friendly(True):
        raise error
