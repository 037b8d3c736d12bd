from pathlib import Path
from typing import Any

import pytest

from har_cache.errors import HarCacheError
from har_cache.model.config import HEAD
from har_cache.prediction import predict as predicting
from har_cache.prediction.predict import PredictReport, predict
from har_cache.progress import Progress
from har_cache.settings.evaluation import PredictSettings

from ..helpers import fake_decoders
from ..helpers.progress import Lines
from ..helpers.videos import moving_frames, write_video
from ..model.test_load import write_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "run"
    write_run(path, HEAD)
    return path


def of(run: Path, *videos: Path, progress: Progress = Progress(), **more: Any) -> PredictReport:
    return predict(PredictSettings(run=run, videos=videos, device="cpu", **more), progress)


def test_what_does_not_decode_is_told_and_the_others_are_done(run: Path, tmp_path: Path) -> None:
    good = [write_video(tmp_path / name, moving_frames(n)) for name, n in (("a.avi", 5), ("b.avi", 9))]
    bad = tmp_path / "bad.avi"
    bad.write_text("no video")
    progress = Lines()
    report = of(run, good[0], bad, good[1], film=tmp_path / "film.gif", progress=progress)
    assert [(p.video, p.frames) for p in report.predictions] == [(good[0], 5), (good[1], 9)]
    assert report.failures == {bad: "a text file, not a video"}
    assert progress.said == [f"Failed: {bad}: a text file, not a video"]
    assert report.film_bytes == (tmp_path / "film.gif").stat().st_size


@pytest.mark.parametrize("film", [None, "film.gif"])
def test_a_video_that_breaks_the_decoder_costs_that_video(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, film: str | None
) -> None:
    task = "embed_with_thumbnails" if film else "embed"
    monkeypatch.setattr(predicting, task, getattr(fake_decoders, task))
    names = ("segfault.avi", "good.avi", "hang.avi", "hog.avi")
    videos = [write_video(tmp_path / name, moving_frames(6)) for name in names]
    report = of(run, *videos, film=film and tmp_path / film, stall_s=2)
    assert [(p.video.name, p.frames) for p in report.predictions] == [("good.avi", 6)]
    assert {video.name: reason for video, reason in report.failures.items()} == {
        "segfault.avi": "the decoder crashes: SIGSEGV (tried twice)",
        "hang.avi": "the decoder hangs: no frame for 2 s (tried twice)",
        "hog.avi": "decoding it takes more than the 2 GiB of memory a worker may use (tried twice)",
    }
    if film:
        assert report.film_bytes == (tmp_path / film).stat().st_size


def test_of_a_folder_all_videos_are_predicted(run: Path, tmp_path: Path) -> None:
    for name in ("flat/2.avi", "flat/1.mp4", "classes/a/1.avi", "classes/b/2.avi"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        write_video(tmp_path / name, moving_frames(4))
    (tmp_path / "flat" / "notes.txt").write_text("no video")
    report = of(run, tmp_path / "flat", tmp_path / "classes")
    assert [str(p.video.relative_to(tmp_path)) for p in report.predictions] == [
        "flat/1.mp4",
        "flat/2.avi",
        "classes/a/1.avi",
        "classes/b/2.avi",
    ]
    assert [p.true for p in report.predictions] == [None, None, "a", "b"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(HarCacheError, match="no videos in"):
        of(run, tmp_path / "empty")


def test_nothing_that_decodes_is_an_error(run: Path, tmp_path: Path) -> None:
    missing = [tmp_path / "1.avi", tmp_path / "2.avi"]
    with pytest.raises(HarCacheError, match=r"1\.avi: no such file"):
        of(run, missing[0])
    with pytest.raises(HarCacheError, match="none of the 2 videos can be decoded"):
        of(run, *missing)


def test_a_film_that_cannot_be_written_is_refused_before_anything_else(tmp_path: Path) -> None:
    for film, message in ((tmp_path / "film.avi", "expected a file named"), (tmp_path / "no" / "f.gif", "no such dir")):
        with pytest.raises(HarCacheError, match=message):
            of(tmp_path / "no run", tmp_path / "1.avi", film=film)
