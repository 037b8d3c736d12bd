import json
import shlex
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from har_cache_cli.main import app
from typer.testing import CliRunner

from har_cache.data.hmdb51 import CLASS_NAMES
from har_cache.downloading.download import DownloadReport
from har_cache.errors import DownloadError
from har_cache.evaluation.results import read_evaluation
from har_cache.progress import Progress
from har_cache.reproduction import steps as module
from har_cache.reproduction.expected import FROZEN
from har_cache.reproduction.reproduce import reproduce
from har_cache.reproduction.steps import steps
from har_cache.settings.tools import ReproduceSettings as Settings

from .conftest import Done, Told

NO_VIDEOS = {"download", "extract", "finetune"}


@pytest.fixture
def settings(done: Done) -> Settings:
    return done.settings


def names(settings: Settings, skipped: bool) -> set[str]:
    return {step.name for step in steps(settings) if bool(step.skipped) == skipped}


def test_without_videos_everything_else_is_done_and_what_is_left_out_is_said(done: Done) -> None:
    settings, found = done.settings, done.found
    assert names(settings, True) == {*NO_VIDEOS, "evaluate"}
    left_out = [line for line in done.told if "] left out (" in line]
    assert len(left_out) == 8 and all("is made up, there are no videos of it" in line for line in left_out)
    assert sum("] done in " in line for line in done.told) == len(steps(settings)) - 8
    figures = {figure.what: figure for figure in found.figures}
    for split in (1, 2, 3):
        runs = [settings.runs / "seeds" / f"split{split}" / f"seed{seed}" for seed in (0, 1)]
        top1 = [read_evaluation(run / "evaluate" / f"split{split}").metrics.top1 for run in runs]
        assert figures["frozen, films held out, seeds 0-1"].top1[split - 1] == pytest.approx(sum(top1) / 2)
    assert figures["fine-tuned"].top1 == (None, None, None)
    assert figures["the headline's protocol"].top1[:2] == (None, None)
    leaked = read_evaluation(settings.runs / "protocol" / "headline" / "evaluate" / "split3").metrics
    assert figures["the headline's protocol"].top1[2] == leaked.top1
    # Seed 0 of a split is the honest model of the protocol: the same run twice.
    for split in (1, 2, 3):
        same = [
            read_evaluation(settings.runs / path / "evaluate" / f"split{split}").metrics.model_sha256
            for path in (f"protocol/split{split}", f"seeds/split{split}/seed0")
        ]
        assert same[0] == same[1]
    page = (settings.runs / "reproduction.md").read_text()
    assert (
        "fine-tuned | - | - | - | -" in page
        and "Left out: download, extract, finetune (3 times), evaluate (3 times): " in page
    )
    assert json.loads((settings.runs / "reproduction.json").read_text())["fingerprint"] == found.fingerprint
    assert (settings.runs / "comparison.md").stat().st_size and (settings.runs / "folds" / "report.html").stat().st_size


def test_interrupted_it_goes_on_to_the_same_table(done: Done) -> None:
    runs = done.settings.runs
    written = {name: (runs / name).read_bytes() for name in ("reproduction.md", "reproduction.json", "comparison.md")}
    for name in written:
        (runs / name).unlink()
    shutil.rmtree(runs / "folds" / "split2")
    shutil.rmtree(runs / "seeds" / "split3" / "seed1")
    with pytest.raises(KeyboardInterrupt):
        reproduce(done.settings, Told(stop=runs / "folds" / "split2"))
    assert not (runs / "reproduction.md").exists()
    assert reproduce(done.settings) == done.found
    assert {name: (runs / name).read_bytes() for name in written} == written


def test_the_plan_says_time_disk_and_ranges_and_does_nothing(tmp_path: Path) -> None:
    told = Told()
    of_hmdb51 = Settings(cache=tmp_path / "cache", runs=tmp_path / "runs", data=tmp_path / "data", plan=True)
    assert reproduce(of_hmdb51, told) is None
    assert not of_hmdb51.runs.exists() and not of_hmdb51.cache.exists()
    said = "\n".join(told.lines)
    for part in ("your network, 4.2 GB", "[18 min, 0.7 GB]", "frozen 36 to 42", "fine-tuned 39 to 46", "80 to 93"):
        assert part in said
    for source in ("Simonyan", "linshenhao/hmdb51-action-recognition", "mmaction2", "reshalfahsi/action-recognition"):
        assert source in said
    assert names(of_hmdb51, False) >= NO_VIDEOS and not names(of_hmdb51, True)


def test_videos_are_fetched_extracted_and_tuned_on(
    settings: Settings, sample_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What each step hands on; that the stages do what they say is tested with them."""
    of_its_own = replace(
        settings, data=sample_data, cache=tmp_path / "cache", weights="random", tune_epochs=2, unfreeze=3
    )
    commands = {step.name: step for step in steps(of_its_own)}
    assert commands["download"].skipped == f"{sample_data} has 16 clips"
    called: list[Any] = []
    for name in ("extract", "finetune"):
        monkeypatch.setattr(module, name, lambda given, progress, name=name: called.append((name, given)))
    for step in steps(of_its_own):
        if step.name in ("extract", "finetune"):
            step.work(Progress())
    [(_, extraction), *tunings] = called
    assert (extraction.data, extraction.weights, extraction.views) == (sample_data, "random", ("center", "flip"))
    for split, (_, tuning) in enumerate(tunings, 1):
        assert tuning.start == settings.runs / "seeds" / f"split{split}" / "seed0" and tuning.resume
        assert (tuning.run, tuning.data) == (settings.runs / "finetuned" / f"split{split}", sample_data)
        assert (tuning.training.epochs, tuning.training.unfreeze) == (2, 3)
    assert len(tunings) == 3
    assert names(replace(of_its_own, finetune=False), True) == {"download", "finetune", "evaluate"}


def test_a_download_that_lacks_clips_ends_it(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "download", lambda given, progress: DownloadReport(missing=("a/x.avi",)))
    fresh = replace(
        settings, data=tmp_path / "data", cache=tmp_path / "cache", runs=tmp_path / "runs", mirrors=("there",)
    )
    with pytest.raises(DownloadError, match=r"1 clips are missing \(named in .*missing.txt\): .*--from"):
        reproduce(fresh)
    assert "--from there" in steps(fresh)[0].command


def test_ranges_are_for_the_classes_of_hmdb51_alone(done: Done) -> None:
    found = done.found
    assert found.figures[0].expected == FROZEN
    assert all(row[-2:] == ("-", "-") for row in found.table.rows)
    of_hmdb51 = replace(found, classes=tuple(sorted(CLASS_NAMES)))
    assert of_hmdb51.table.rows[0][-2:] == ("36 to 42", found.figures[0].summary)
    not_for_it = "the ranges are not for them"
    assert any(not_for_it in note for note in of_hmdb51.table.notes)
    assert not any(not_for_it in note for note in replace(of_hmdb51, weights="imagenet").table.notes)


def test_the_command_prints_the_table_or_the_plan(settings: Settings) -> None:
    command = ["reproduce", "--cache", str(settings.cache), "--runs", str(settings.runs), "--device", "cpu"]
    command += shlex.split("--seeds 0-1 --folds 2 --epochs 6 --frames 4 --lr 0.005 --hidden 8 --width 16")
    planned = CliRunner().invoke(app, [*command, "--plan"])
    assert planned.exit_code == 0 and planned.stdout == "" and "In all about " in planned.stderr
    shown = CliRunner().invoke(app, command)
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.startswith("Top-1 in percent on the test lists; 5 classes, chance 20.00")
    as_json = CliRunner().invoke(app, [*command, "--json"])
    assert json.loads(as_json.stdout) == json.loads((settings.runs / "reproduction.json").read_text())
