"""A folder with names that do harm, through the commands: what is printed, and what files hold."""

import csv
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from har_cache_cli.main import app
from typer.testing import CliRunner

from har_cache.cache.reader import FeatureCache
from har_cache.evaluation.tables import read_predictions
from har_cache.model.run import Run

from .helpers.names import harmful
from .helpers.videos import moving_frames, write_video

CLASSES = ("a\nBROKEN\r\t\x1b[2Jb", "=cmd|calc", "-rf\u202e \"q\", '<script>'")
FAST = ("--weights", "random", "--projection", "random", "--precision", "fp32", "--workers", 1, "--device", "cpu")


class Elements(HTMLParser):
    """How often each element is in a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.count: dict[str, int] = {}
        self.feed(page)

    def handle_starttag(self, tag: str, _: Any) -> None:
        self.count[tag] = self.count.get(tag, 0) + 1


def printed(*arguments: object, status: int = 0) -> str:
    """What a command prints on stdout; what it does to a terminal is to print lines that it began itself."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == status, result.output
    for stream in (result.stdout, result.stderr):
        assert not harmful(stream)
        assert not [line for line in stream.splitlines() if line.startswith("BROKEN")]
    return result.stdout


def test_they_come_back_as_they_were_and_do_nothing_on_the_way(tmp_path: Path) -> None:
    data, cache, run = tmp_path / "data", tmp_path / "c\n\x1b[1m", tmp_path / "r\n\x1b[1m"
    clip = write_video(tmp_path / "clip.avi", moving_frames(5, 64, 48)).read_bytes()
    keys = [f"{name}/{i}{name}.avi" for name in CLASSES for i in range(4)]
    for key in keys:
        (data / key).parent.mkdir(parents=True, exist_ok=True)
        (data / key).write_bytes(clip)
    bad = f"{CLASSES[1]}/-bad\x1b]0;t\x07\nBROKEN.avi"
    (data / bad).write_text("no video")

    printed("extract", "--data", data, "--cache", cache, *FAST, status=3)
    assert "\\x1b" in printed("info", cache) and "all files are as" in printed("verify", cache)
    assert json.loads(printed("info", cache, "--json"))["failures"][0]["key"] == bad
    assert sorted(FeatureCache(cache)) == sorted(keys)

    head = ("--epochs", 1, "--frames", 2, "--hidden", 4, "--device", "cpu")
    printed("train-head", "--cache", cache, "--run", run, *head)
    printed("evaluate", run, "--device", "cpu")
    evaluation = json.loads(printed("evaluate", run, "--device", "cpu", "--json"))
    printed("report", run)
    page = (run / "report.html").read_text("utf-8")
    assert Elements(page).count["script"] == 1
    assert not set(page) & set("\x1b\r\x07\u202e")
    predictions = read_predictions(run / "evaluate" / "split1")
    assert len(predictions) == evaluation["clips"]
    assert {row.key for row in predictions} | set(Run.open(run).clips) <= set(keys)

    film = tmp_path / "f\n\x1b[1m.gif"
    videos = [data / keys[0], data / keys[-1], data / bad]
    shown = printed("predict", run, *videos, "--gif", film, "--device", "cpu", status=3)
    assert "a\\nBROKEN" in shown and film.read_bytes().startswith(b"GIF8")
    found = json.loads(printed("predict", run, *videos[:2], "--json", "--device", "cpu"))["predictions"]
    assert [(each["video"], each["true"]) for each in found] == [
        (str(video), video.parent.name) for video in videos[:2]
    ]

    for table in (*cache.glob("*.csv"), *run.rglob("*.csv")):
        with table.open(newline="", encoding="utf-8") as file:
            cells = [cell for row in csv.reader(file) for cell in row]
        assert not [cell for cell in cells if cell[:1] in ("=", "@", "\t", "\r")], table
