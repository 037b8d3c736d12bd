import json
from contextlib import ExitStack

import pytest
from har_cache_cli.bench import _unquiet
from har_cache_cli.main import app
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from har_cache.bench import bench as benchmark
from har_cache.bench import device, extraction, training
from har_cache.bench import tasks as rates
from har_cache.bench.device import DeviceParts
from har_cache.bench.measurements import Figure, Measurements
from har_cache.bench.naive import NaiveBaseline
from har_cache.cache.reader import FeatureCache
from har_cache.cache.record import ClipRecord
from har_cache.cache.verify import verify
from har_cache.data.hmdb51 import CLIPS, FRAMES
from har_cache.encoder.folded import fold
from har_cache.errors import HarCacheError, SettingError
from har_cache.extraction.gpu import batches
from har_cache.settings.tools import BenchSettings
from har_cache.workers.pool import WorkerPool
from har_cache.workers.tasks import Job

from ..helpers.networks import calibrated_model

SPEEDS = st.lists(st.floats(1, 1000), min_size=1, max_size=5)


@pytest.fixture
def small_standin(monkeypatch):
    """A stand-in of a few clips, a training of few steps, a baseline of one clip."""
    monkeypatch.setattr(benchmark, "_EMBEDDED_CLIPS", 1)
    monkeypatch.setattr(benchmark, "_TRAINED_CLIPS", 1)
    monkeypatch.setattr(training, "CLIPS", 204)
    monkeypatch.setattr(training, "_STEPS", 2)
    monkeypatch.setattr(training, "_BATCH", 16)


@pytest.fixture
def few_clips(finished, tmp_path):
    """Two clips of each class: what is measured are the parts, not they."""
    for folder in (finished.data / "videos").iterdir():
        (tmp_path / "few" / folder.name).mkdir(parents=True)
        for clip in sorted(folder.iterdir())[:2]:
            (tmp_path / "few" / folder.name / clip.name).symlink_to(clip)
    return tmp_path / "few"


@given(SPEEDS, st.floats(0.5, 2))
def test_a_limit_that_is_a_multiple_of_every_run_gives_that_ratio(runs, share):
    figure = Figure("part", "frames/s", tuple(runs), tuple(run / share for run in runs), "a limit")
    assert figure.ratio == pytest.approx(share)
    assert min(runs) <= figure.median <= max(runs)
    assert figure.spread >= 0 and figure.limit_spread == pytest.approx(figure.spread)


def test_figures_keep_their_order_and_their_runs():
    measured = Measurements()
    for speed in (3.0, 1.0, 2.0):
        measured.record("first", "frames/s", speed, 2 * speed, "twice that")
        measured.record("second", "clips/s", speed)
    first, second = measured.values()
    assert (first.part, first.runs, first.median, first.limit, first.ratio) == ("first", (3, 1, 2), 2, 4, 0.5)
    assert (second.part, second.limit, second.ratio) == ("second", None, None)
    assert "first" in measured and "third" not in measured


@given(st.integers(3, 40), st.integers(1, 8), st.floats(1, 1000), st.floats(0, 100))
def test_the_start_of_the_pipeline_does_not_count(clips, workers, speed, start):
    times = [0.0, *(start + i * 60 / speed for i in range(1, clips + 1))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extraction.time, "perf_counter", iter(times).__next__)
        times_of_frames = extraction._FrameTimes()
        for _ in range(clips):
            times_of_frames.add(ClipRecord("jump/a.avi", 60))
    assert times_of_frames.speed(workers) == pytest.approx(speed)


def test_of_a_few_clips_everything_counts():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extraction.time, "perf_counter", iter([0.0, 1.0, 3.0]).__next__)
        times_of_frames = extraction._FrameTimes()
        times_of_frames.add(ClipRecord("jump/a.avi", 60))
        times_of_frames.add(ClipRecord("jump/b.avi", reason="a bad clip"))
    assert times_of_frames.speed(4) == 20


def test_the_stand_in_is_a_sound_cache(tmp_path, small_standin):
    cache = training.write_noise(tmp_path / "cache")
    assert len(cache) == 204 and len(cache.classes) == 51
    assert 0.7 < cache.frames.sum() / (204 * FRAMES / CLIPS) < 1.3
    assert verify(cache.path) == []
    assert isinstance(FeatureCache(cache.path), FeatureCache)


def test_the_stand_in_is_of_the_size_of_hmdb51():
    assert (training.CLIPS, CLIPS, FRAMES) == (6766, 6766, 640_000)


def test_the_naive_baseline_embeds_every_frame_and_trains(finished):
    clips = sorted((finished.data / "videos").rglob("*.avi"))[:2]
    baseline = NaiveBaseline("cpu", 4)
    frames, seconds = baseline.embed(clips)
    cache = FeatureCache(finished.cache)
    assert frames == sum(cache[f"{clip.parent.name}/{clip.name}"].shape[1] for clip in clips)
    assert seconds > 0
    before = [parameter.clone() for parameter in baseline._network.parameters()]
    assert baseline.train(clips, 4) > 0
    assert any((old != new).any() for old, new in zip(before, baseline._network.parameters(), strict=True))


def test_everything_is_measured_beside_its_limit(few_clips, small_standin):
    command = ["bench", "--data", str(few_clips), "--baseline", "--json"]
    result = CliRunner().invoke(app, [*command, "--seconds", "0.05", "--repeats", "2", "--workers", "1"])
    assert result.exit_code == 0, result.output
    content = json.loads(result.stdout)
    figures = {figure["part"]: figure for figure in content["figures"]}
    assert {"decode", "transform", "encode fp32", "pipeline", "open the cache", "train the head"} <= figures.keys()
    assert {"naive baseline", "naive training"} <= figures.keys()
    for figure in figures.values():
        assert len(figure["runs"]) == 2 and min(figure["runs"]) > 0
        assert (figure["limit"] is None) == figure["part"].startswith("naive")
    speed = {part: figure["runs"] for part, figure in figures.items()}
    parts = ["decode", "transform", f"encode {content['precision']}"]
    expected = [1 / sum(1 / speed[part][i] for part in parts) for i in range(2)]
    assert sorted(expected)[0] <= figures["pipeline"]["limit"] <= sorted(expected)[1]
    assert content["bound_by"] in ("decode", "transform", "encode")
    assert content["faster_than_baseline"] > 0
    assert {"cpu", "cores", "cpu_quota", "memory_gib", "gpu", "versions", "commit"} <= content["machine"].keys()
    assert content["machine"]["versions"]["torch"]
    assert len(content["hours_for_hmdb51"]) == 3


def test_the_table_names_the_machine_and_what_bounds_it(few_clips, small_standin):
    command = ["bench", "--data", str(few_clips), "--seconds", "0.02", "--repeats", "1", "--workers", "1"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert "Stage one is bound by:" in result.stdout and "naive" not in result.stdout
    assert "reading and hashing its files" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 130


@pytest.mark.parametrize(("products", "said"), [((100.0, 109.0, 105.0), False), ((100.0, 125.0, 105.0), True)])
def test_a_machine_that_is_not_quiet_is_told_from_one_that_is(products, said):
    encoder = Figure("encode fp32", "frames/s", (1.0, 9.0, 5.0), products, "matrix products")
    result = benchmark.Result({}, "cpu", 1, "fp32", (encoder,), "encode", None, {})
    assert any("not quiet" in line for line in _unquiet(result)) == said


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"seconds": 0.0}, "--seconds 0.0: expected a number above 0"),
        ({"seconds": float("nan")}, "--seconds nan: expected a number above 0"),
        ({"repeats": 0}, "--repeats 0: expected at least 1"),
        ({"workers": 0}, "--workers 0: expected at least 1"),
    ],
)
def test_impossible_settings_are_refused(tmp_path, change, expected):
    with pytest.raises(SettingError, match=expected):
        benchmark.bench(BenchSettings(data=tmp_path, **change))


def test_data_of_which_nothing_can_be_decoded_is_named(tmp_path):
    (tmp_path / "jump").mkdir()
    (tmp_path / "jump" / "1.avi").write_bytes(b"no video")
    with pytest.raises(HarCacheError, match=r"1\.avi"):
        benchmark.bench(BenchSettings(data=tmp_path, seconds=0.01, repeats=1, workers=1))


def test_the_parts_of_a_gpu_are_measured_as_they_are_used(finished, tmp_path, monkeypatch):
    """On the CPU, where the same code runs."""
    monkeypatch.setattr(batches, "BATCH", 4)
    monkeypatch.setattr(device, "BATCH", 4)
    encoder = fold(calibrated_model())
    clip = sorted((finished.data / "videos").rglob("*.avi"))[0]
    with ExitStack() as stack:
        parts = DeviceParts({"fp32": encoder}, clip, "cpu", 0.05, stack)
        assert parts.hand_over() > 0 and parts.copy() > 0 and parts.encode("fp32") > 0
    with WorkerPool(Job("pyav"), 1) as pool:
        assert pool.outcome(pool.submit(rates.store, (clip,), 0.05)) > 0
