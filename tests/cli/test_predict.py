import json
from pathlib import Path

import pytest
from har_cache_cli.main import app
from typer.testing import CliRunner, Result

from har_cache.model.config import HEAD
from har_cache.storage.files import read_csv

from ..helpers.videos import moving_frames, write_video
from ..model.test_load import write_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "run"
    write_run(path, HEAD)
    return path


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["predict", *map(str, arguments), "--device", "cpu"])


def video(path: Path, frames: int = 6) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_video(path, moving_frames(frames))


def test_people_read_the_likeliest_actions_and_what_is_true(run: Path, tmp_path: Path) -> None:
    clip, other = video(tmp_path / "a" / "1.avi"), video(tmp_path / "elsewhere" / "x.avi")
    result = call(run, clip, other)
    assert result.exit_code == 0, result.output
    one, two = result.stdout.split("\n\n")
    assert one.splitlines()[0] == str(clip) and "%" in one and "true" in one
    assert "trained or validated on this very clip" in one
    assert two.splitlines()[0] == str(other) and "true" not in two
    assert len(call(run, other, "--top", 1).stdout.splitlines()) == 2


def test_json_is_all_of_stdout(run: Path, tmp_path: Path) -> None:
    clip, film = video(tmp_path / "b" / "new.avi"), tmp_path / "film.gif"
    result = call(run, clip, tmp_path / "none.avi", "--json", "--gif", film)
    assert result.exit_code == 3
    content = json.loads(result.stdout)
    (prediction,) = content["predictions"]
    assert prediction["video"] == str(clip) and prediction["frames"] == 6 and prediction["true"] == "b"
    assert prediction["known"] == "clean"
    assert prediction["correct"] == (prediction["top"][0]["class"] == "b")
    assert sum(entry["probability"] for entry in prediction["top"]) == pytest.approx(1, abs=1e-5)
    assert content["failures"] == [{"video": str(tmp_path / "none.avi"), "reason": "no such file"}]
    assert content["film"] == str(film) and film.stat().st_size > 1000
    assert f"Failed: {tmp_path / 'none.avi'}: no such file" in result.stderr and str(film) in result.stderr


def test_windows_are_told_in_text_json_and_a_table(run: Path, tmp_path: Path) -> None:
    video(tmp_path / "v" / "1.avi", 10)
    (tmp_path / "v" / "bad.avi").write_text("no video")
    table = tmp_path / "p.csv"
    result = call(run, tmp_path / "v", "--every", "0.2", "--csv", table, "--json", "--allow-failed")
    assert result.exit_code == 0, result.output
    [found] = json.loads(result.stdout)["predictions"]
    frames = [window["frames"] for window in found["windows"]]
    assert sum(frames) == 10 and len(frames) > 1 and found["windows"][1]["begin"] == pytest.approx(0.2)
    rows = read_csv(table)[1:]
    assert [row[3] for row in rows[:-1]] == [window["top"][0]["class"] for window in found["windows"]]
    assert rows[-1][0] == str(tmp_path / "v" / "bad.avi") and rows[-1][-1] == "a text file, not a video"
    assert f"Table: {table}" in result.stderr
    lines = call(run, tmp_path / "v" / "1.avi", "--every", "0.2").stdout.splitlines()
    assert lines[-len(frames)].startswith("      0.00 to     0.20 s  ")


def test_a_url_is_refused_before_anything_is_done(run: Path) -> None:
    result = call(run, "https://host/x.mp4")
    assert result.exit_code == 2 and result.stderr.startswith("Error: VIDEO https://host/x.mp4: is a URL; download")


def test_errors_are_one_line_and_exit_code_1(run: Path, tmp_path: Path) -> None:
    film = [run, "x.avi", "--gif", "x.png"]
    for arguments in ([run, tmp_path / "none.avi"], [tmp_path, tmp_path / "x.avi"], film):
        result = call(*arguments)
        assert result.exit_code == (2 if arguments is film else 1) and result.stdout == ""
        assert result.stderr.startswith("Error: ") and result.stderr.count("\n") == 1
    assert call(run).exit_code == 2
