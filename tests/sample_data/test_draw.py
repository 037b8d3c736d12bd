import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from har_cache.data.hmdb51 import parse_tags
from har_cache.data.keys import class_of
from har_cache.errors import HarCacheError
from har_cache.progress import Progress
from har_cache.sample_data import draw as sample
from har_cache.sample_data.actions import PAIRS
from har_cache.sample_data.plan import LONGEST, MIN_CLIPS, SHORTEST, plan
from har_cache.settings.tools import SampleSettings

SMALL = {"classes": 2, "clips": MIN_CLIPS, "workers": 1}


def contents(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def pictures(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


class Interrupted(Progress):
    """Breaks off half-way."""

    def begin(self, what: str, unit: str, total: int | None, done: int = 0) -> None:
        assert total is not None
        self._left = total // 2 - done

    def advance(self, count: int = 1, note: str = "") -> None:
        self._left -= count
        if self._left <= 0:
            raise KeyboardInterrupt


class Counted(Progress):
    """Keeps how far it has come."""

    def __init__(self) -> None:
        self.counts: list[tuple[int, int | None]] = []

    def begin(self, what: str, unit: str, total: int | None, done: int = 0) -> None:
        self._done, self._total = done, total

    def advance(self, count: int = 1, note: str = "") -> None:
        self._done += count
        self.counts.append((self._done, self._total))


def draw(out: Path, progress: Progress = Progress(), **settings: Any) -> sample.SampleReport:
    return sample.draw(SampleSettings(out=out, **settings), progress)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> sample.SampleReport:
    return draw(tmp_path_factory.mktemp("sample"), **SMALL)


def test_layout_is_that_of_hmdb51(drawn: sample.SampleReport) -> None:
    assert sorted(path.name for path in drawn.path.iterdir()) == ["sample.json", "splits", "videos"]
    assert sorted(path.name for path in (drawn.path / "videos").iterdir()) == ["sit", "stand"]
    for action in ("sit", "stand"):
        clips = sorted(path.name for path in (drawn.path / "videos" / action).iterdir())
        assert len(clips) == MIN_CLIPS
        for k in (1, 2, 3):
            lines = (drawn.path / "splits" / f"{action}_test_split{k}.txt").read_text().splitlines()
            assert [line[:-3] for line in lines] == clips
            assert {line[-3:] for line in lines} <= {" 0 ", " 1 ", " 2 "}


def test_clips_are_what_hmdb51_clips_are(drawn: sample.SampleReport) -> None:
    frames = 0
    for path in (drawn.path / "videos").rglob("*.avi"):
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            assert container.format.name == "avi"
            assert stream.codec_context.name == "mpeg4"
            assert (stream.width, stream.height, stream.average_rate) == (320, 240, 30)
            decoded = sum(1 for _ in container.decode(stream))
            assert decoded == stream.frames
        assert SHORTEST <= decoded <= LONGEST
        frames += decoded
    assert (drawn.classes, drawn.clips, drawn.frames) == (2, 2 * MIN_CLIPS, frames)


def test_names_say_what_is_drawn() -> None:
    for pair, actions in enumerate(PAIRS):
        performances = plan(pair, 20, 0)
        assert {class_of(name) for p in performances for name in p.names} == {action.name for action in actions}
        for performance in performances:
            look = performance.look
            for name in performance.names:
                tags = parse_tags(*name.split("/", 1))
                assert tags is not None
                assert (tags.body, tags.people, tags.viewpoint, tags.quality) == ("f", 1, look.view, look.quality)
                assert tags.camera == ("cm" if performance.moving else "nm")


def test_a_twin_is_the_clip_played_backwards(drawn: sample.SampleReport) -> None:
    both = [performance.names for performance in plan(0, MIN_CLIPS, 0) if len(performance.names) == 2]
    assert both
    for names in both[:3]:
        forwards, backwards = (pictures(drawn.path / "videos" / name) for name in names)
        assert np.abs(forwards.astype(int) - backwards[::-1]).mean() < 4
        assert np.abs(forwards.astype(int) - backwards).mean() > 4


def test_a_twin_in_a_room_of_its_own_differs_in_that_alone(drawn: sample.SampleReport) -> None:
    forwards, backwards = [performance for performance in plan(0, MIN_CLIPS, 0) if len(performance.names) == 1][:2]
    one, other = (pictures(drawn.path / "videos" / p.names[0]).astype(int) for p in (forwards, backwards))
    different = np.abs(one - other[::-1]).max(-1) > 24
    assert different[:, :120, :40].mean() > 0.9  # wall
    assert different[:, 60:, 140:180].mean() < 0.6  # person


def test_twins_are_on_the_same_side_of_every_split(drawn: sample.SampleReport) -> None:
    for k in (1, 2, 3):
        sides = {name: (drawn.path / "splits" / f"{name}_test_split{k}.txt").read_text() for name in ("sit", "stand")}
        assert sides["sit"].replace("_sit_f_", "_stand_f_") == sides["stand"]


def test_workers_make_no_difference(drawn: sample.SampleReport, tmp_path: Path) -> None:
    draw(tmp_path / "two", **{**SMALL, "workers": 2})
    assert contents(tmp_path / "two") == contents(drawn.path)


def test_hard_is_a_setting_of_its_own(drawn: sample.SampleReport, tmp_path: Path) -> None:
    with pytest.raises(HarCacheError, match="other settings"):
        draw(drawn.path, **SMALL, hard=True)
    report = draw(tmp_path / "hard", **SMALL, hard=True)
    name = "videos/sit/" + sorted(path.name for path in (drawn.path / "videos" / "sit").iterdir())[0]
    easy, hard = (pictures(path / name).astype(float) for path in (drawn.path, report.path))
    assert np.abs(np.diff(hard, axis=2)).mean() > np.abs(np.diff(easy, axis=2)).mean()


def test_a_finished_sample_is_left_alone(drawn: sample.SampleReport) -> None:
    def stamps() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in drawn.path.rglob("*")}

    before = stamps()
    assert draw(drawn.path, **SMALL) == drawn
    assert stamps() == before


def test_an_interrupted_draw_is_finished(drawn: sample.SampleReport, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        draw(tmp_path / "half", **SMALL, progress=Interrupted())
    kept = contents(tmp_path / "half")
    assert "sample.json.partial" in kept and "sample.json" not in kept

    counted = Counted()
    draw(tmp_path / "half", **SMALL, progress=counted)
    assert contents(tmp_path / "half") == contents(drawn.path)
    assert counted.counts == [(done, 16) for done in (10, 12, 14, 16)]


def test_other_files_are_not_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(HarCacheError, match="not empty"):
        draw(tmp_path, **SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_sample_with_other_settings_is_not_touched(drawn: sample.SampleReport) -> None:
    before = contents(drawn.path)
    with pytest.raises(HarCacheError, match="other settings"):
        draw(drawn.path, **{**SMALL, "seed": 1})
    assert contents(drawn.path) == before


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_a_file_in_the_way_is_one_clear_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HarCacheError, match="file") as caught:
        draw(tmp_path / name, **SMALL)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "wrong", [{"classes": 3}, {"classes": 0}, {"classes": 16}, {"clips": 7}, {"seed": -1}, {"workers": 0}]
)
def test_settings_that_cannot_be_met(tmp_path: Path, wrong: dict[str, int]) -> None:
    with pytest.raises(HarCacheError, match=next(iter(wrong))):
        draw(tmp_path / "out", **{**SMALL, **wrong})
    assert not (tmp_path / "out").exists()


def test_drawing_needs_no_torch() -> None:
    code = "import har_cache.sample_data.draw, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
