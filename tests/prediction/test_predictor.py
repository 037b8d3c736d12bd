import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.models import MNASNet0_5_Weights
from torchvision.transforms.functional import resize

from har_cache.model.config import FINETUNED, HEAD
from har_cache.model.network import CNNBidirectionalRNN
from har_cache.model.run import Run
from har_cache.prediction import predictor as predictors
from har_cache.prediction.predictor import Prediction, Predictor
from har_cache.workers.pool import WorkerPool
from har_cache.workers.tasks import embed

from ..helpers.moves import JUDGING, cuda_in_name
from ..helpers.videos import moving_frames, reference_frames, write_video
from ..model.test_load import write_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, CNNBidirectionalRNN]:
    path = tmp_path_factory.mktemp("run") / "run"
    return path, write_run(path, FINETUNED)


def predicted(predictor: Predictor, *videos: Path) -> list[Prediction]:
    with WorkerPool(predictor.job(60), 1) as pool:
        clips = dict(pool.run(embed, ((video, (video.name, video.absolute())) for video in videos)))
    return [predictor.predict(video, clips[video]) for video in videos]


def lossless(path: Path, count: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_video(path, moving_frames(21)[:count], "ffv1")


def expected(network: CNNBidirectionalRNN, video: Path, steps: int, view: str = "center") -> np.ndarray:
    """By torchvision's own transform and plain indices: one frame in each segment, at three places."""
    transform = MNASNet0_5_Weights.IMAGENET1K_V1.transforms()
    planes = [torch.from_numpy(f).permute(2, 0, 1) for f in reference_frames(video)]
    if view == "full":
        planes = [resize(frame, [224, 224], antialias=True) for frame in planes]
        transform.resize_size = [224]
    frames = torch.stack([transform(frame) for frame in planes])
    frames = frames.flip(-1) if view == "flip" else frames
    n = len(frames)
    segments = min(n, steps)
    bounds = [i * n // segments for i in range(segments + 1)]
    found = []
    for place in (1 / 6, 3 / 6, 5 / 6):
        rows = [a + int(place * (b - a)) for a, b in itertools.pairwise(bounds)]
        with torch.inference_mode():
            found.append(network(frames[rows][None], torch.ones(1, segments, dtype=torch.bool)).softmax(1)[0])
    return torch.stack(found).mean(0).numpy()


@pytest.mark.parametrize("frames", [21, 5, 1])
def test_a_prediction_is_what_the_plain_way_gives(
    run: tuple[Path, CNNBidirectionalRNN], tmp_path: Path, frames: int
) -> None:
    video = lossless(tmp_path / "clip.mkv", frames)
    (prediction,) = predicted(Predictor(Run.open(run[0])), video)
    assert prediction.frames == frames and prediction.probabilities.dtype == np.float32
    np.testing.assert_allclose(prediction.probabilities, expected(run[1], video, 8), rtol=0, atol=1e-4)
    assert prediction.probabilities.sum() == pytest.approx(1, abs=1e-5)
    assert (prediction.true, prediction.known, prediction.correct) == (None, None, None)
    order = np.argsort(-prediction.probabilities)
    assert [name for name, _ in prediction.top(5)] == ["ab"[i] for i in order]


def test_first_frames_are_judged_as_if_there_were_no_more(
    run: tuple[Path, CNNBidirectionalRNN], tmp_path: Path
) -> None:
    predictor = Predictor(Run.open(run[0]))
    counts = [1, 7, 16]
    videos = [lossless(tmp_path / f"{count}.mkv", count) for count in (*counts, 21)]
    *alone, whole = predicted(predictor, *videos)
    so_far = predictor.probabilities(whole.embeddings, counts)
    np.testing.assert_allclose(so_far, [p.probabilities for p in alone], rtol=0, atol=1e-4)
    np.testing.assert_array_equal(predictor.probabilities(whole.embeddings, [21])[0], whole.probabilities)


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_on_cuda_the_head_computes_in_fp32(
    run: tuple[Path, CNNBidirectionalRNN], monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    embeddings = np.random.default_rng(0).standard_normal((1, 9, 256)).astype(np.float16)
    plain = Predictor(Run.open(run[0])).probabilities(embeddings, [1, 9])
    with cuda_in_name(monkeypatch) as cuda:
        found = Predictor(Run.open(run[0]), device).probabilities(embeddings, [1, 9])
    assert cuda.products == {JUDGING} and device in cuda.places
    np.testing.assert_array_equal(found, plain)


def test_the_folder_tells_what_is_true_and_the_run_what_it_knew(
    run: tuple[Path, CNNBidirectionalRNN], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = Predictor(Run.open(run[0]))
    seen, clean = predicted(predictor, *(lossless(tmp_path / "a" / name, 3) for name in ("1.avi", "new.avi")))
    assert (seen.true, seen.known, clean.true, clean.known) == ("a", "seen", "a", "clean")
    assert seen.correct is (seen.top(1)[0][0] == "a")
    assert dataclasses.replace(seen, true=seen.top(2)[1][0]).correct is False
    monkeypatch.chdir(tmp_path / "a")
    assert predicted(predictor, Path("new.avi"))[0].true == "a"


def test_what_takes_a_source_that_names_do_not_tell_is_not_said_to_be_clean(
    run: tuple[Path, CNNBidirectionalRNN], tmp_path: Path
) -> None:
    opened = dataclasses.replace(Run.open(run[0]), given_sources={"a/1.avi": "a/park"})
    videos = (lossless(tmp_path / "a" / name, 1) for name in ("1.avi", "new.avi", "park.avi"))
    assert [found.known for found in predicted(Predictor(opened), *videos)] == ["seen", None, "sibling"]


@pytest.mark.parametrize("views", [("center", "flip"), ("center", "flip", "full")])
def test_all_views_are_averaged_that_the_head_learnt_from(
    run: tuple[Path, CNNBidirectionalRNN], tmp_path: Path, views: tuple[str, ...]
) -> None:
    opened = Run.open(run[0])
    recipe = dataclasses.replace(opened.config.recipe, views=views)
    of_views = dataclasses.replace(opened, config=dataclasses.replace(opened.config, recipe=recipe))
    video = lossless(tmp_path / "clip.mkv", 6)
    (prediction,) = predicted(Predictor(of_views), video)
    each = [expected(run[1], video, 8, view) for view in views]
    assert min(np.abs(a - b).max() for a, b in itertools.combinations(each, 2)) > 1e-3
    np.testing.assert_allclose(prediction.probabilities, np.mean(each, 0), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("stage", "favoured", "precision"),
    [
        (HEAD, ["bf16-mixed", "fp32"], "bf16-mixed"),
        (HEAD, ["fp16-mixed", "fp32"], "fp32"),
        (FINETUNED, ["bf16-mixed", "fp32"], "fp32"),
    ],
)
def test_videos_are_embedded_as_the_cache_was_where_this_machine_is_made_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, favoured: list[str], precision: str
) -> None:
    monkeypatch.setattr(predictors, "favoured", lambda device: iter(favoured))
    write_run(tmp_path / "run", stage)
    job = Predictor(Run.open(tmp_path / "run")).job(7)
    assert (job.precision, job.views, job.decoder, job.stall_s) == (precision, ("center",), "pyav", 7)


def test_videos_are_sampled_as_the_cache_was(tmp_path: Path) -> None:
    write_run(tmp_path / "run", HEAD)
    run = Run.open(tmp_path / "run")
    assert Predictor(run).job(7).frames is None
    recipe = dataclasses.replace(run.config.recipe, frames="every 2")
    sampled = dataclasses.replace(run, config=dataclasses.replace(run.config, recipe=recipe))
    predictor = Predictor(sampled)
    [prediction] = predicted(predictor, lossless(tmp_path / "clip.mkv", 9))
    assert (prediction.frames, prediction.fps) == (5, pytest.approx(15, abs=0.1))
