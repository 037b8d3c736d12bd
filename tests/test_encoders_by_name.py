"""Encoders that are not the default one, all the way: extracted, interrupted, gone on with, trained on, fine-tuned,
predicted with, exported; beside the library's own model and transform.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import av
import numpy as np
import pytest
import safetensors.torch
import torch
from torchvision import models
from torchvision.transforms.functional import pil_to_tensor

from har_cache.cache.reader import FeatureCache
from har_cache.cache.record import ClipRecord
from har_cache.encoder.encoder import FAITHFUL, centred_cosine
from har_cache.errors import CacheError, HarCacheError, SettingError
from har_cache.evaluation.evaluate import evaluate
from har_cache.exporting.export import export
from har_cache.extraction.extract import extract
from har_cache.extraction.recipe_differences import differences
from har_cache.finetuning.finetune import finetune
from har_cache.model.run import Run
from har_cache.prediction.predict import predict
from har_cache.settings.evaluation import EvaluateSettings, PredictSettings
from har_cache.settings.extraction import ExtractSettings
from har_cache.settings.training import FinetuneSettings, HeadSettings, TrainHeadSettings, TrainSettings, TuneSettings
from har_cache.training.train_head import train_head

from .helpers.caches import settled_files
from .helpers.videos import moving_frames, write_video

NAME, DIM = "shufflenet_v2_x0_5", 24


@dataclass(frozen=True)
class Made:
    """Videos of two classes, and what was made of them."""

    data: Path
    cache: Path
    run: Path

    def settings(self, **changes: object) -> ExtractSettings:
        """Those of the cache."""
        asked = ExtractSettings(
            data=self.data,
            cache=self.cache,
            encoder=NAME,
            dim=str(DIM),
            weights="random",
            device="cpu",
            workers=1,
            shard_clips=3,
        )
        return replace(asked, **changes)  # type: ignore[arg-type]


def write_videos(root: Path) -> Path:
    for i in range(8):
        name = "ab"[i % 2]
        (root / name).mkdir(parents=True, exist_ok=True)
        write_video(root / name / f"film{i}_{name}_f_cm_np1_fr_med_0.avi", moving_frames(5 + i // 2))
    return root


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    root = tmp_path_factory.mktemp("named")
    found = Made(write_videos(root / "videos"), root / "cache", root / "run")
    extract(found.settings())
    training = TrainSettings(epochs=2, frames=4, batch_size=4)
    head = HeadSettings(hidden=4, width=4)
    train_head(TrainHeadSettings(cache=found.cache, run=found.run, head=head, training=training, device="cpu"))
    return found


@pytest.fixture(scope="module")
def tuned(made: Made) -> Run:
    training = TuneSettings(epochs=1, batch_size=3, head_epochs=0, unfreeze=1)
    run = made.run.with_name("tuned")
    return finetune(
        FinetuneSettings(start=made.run, data=made.data, run=run, training=training, device="cpu", workers=1)
    ).run


def frames_of(clip: Path) -> torch.Tensor:
    with av.open(str(clip)) as container:
        return torch.stack([pil_to_tensor(frame.to_image()) for frame in container.decode(video=0)])


def test_embeddings_are_those_of_torchvisions_own_model_and_transform(made: Made) -> None:
    cache = FeatureCache(made.cache)
    assert (cache.recipe.model, cache.recipe.dim, cache.recipe.projection) == (NAME, DIM, "pca")
    own = models.get_model(NAME, num_classes=DIM)
    own.load_state_dict(safetensors.torch.load_file(made.cache / "encoder.safetensors"))
    transform = models.get_model_weights(NAME).DEFAULT.transforms()
    keys = cache.clip_keys[:4]
    with torch.inference_mode():
        expected = torch.cat([own.eval()(transform(frames_of(made.data / key))) for key in keys])
    found = torch.from_numpy(np.concatenate([cache[key][0] for key in keys])).float()
    least = 0.9999 if cache.recipe.precision == "fp32" else FAITHFUL
    assert centred_cosine(expected, found).min() >= least


class KilledError(Exception):
    """Comes after a few clips."""


def test_killed_and_gone_on_with_it_is_the_same_to_the_byte(made: Made, tmp_path: Path) -> None:
    done: list[str] = []

    def die(clip: ClipRecord) -> None:
        done.append(clip.key)
        if len(done) == 5:
            raise KilledError

    settings = made.settings(cache=tmp_path / "cache")
    with pytest.raises(KilledError):
        extract(settings, on_clip=die)
    report = extract(replace(settings, workers=2))
    assert 0 < report.finished_before < 8
    assert settled_files(tmp_path / "cache") == settled_files(made.cache)


def test_it_is_tuned_evaluated_and_predicted_with(made: Made, tuned: Run) -> None:
    assert tuned.config.recipe.model == NAME and tuned.config.choice is not None
    (evaluation,) = evaluate(EvaluateSettings(run=tuned.path, device="cpu", workers=1))
    assert evaluation.metrics.clips
    clip = next(made.data.glob("*/*.avi"))
    (prediction,) = predict(PredictSettings(run=tuned.path, videos=(clip,), workers=1)).predictions
    assert prediction.embeddings.shape == (1, len(frames_of(clip)), DIM)
    (by_head,) = predict(PredictSettings(run=made.run, videos=(clip,), workers=1)).predictions
    key = str(clip.relative_to(made.data))
    if by_head.embeddings.shape and FeatureCache(made.cache).recipe.precision == "fp32":
        assert np.array_equal(by_head.embeddings, FeatureCache(made.cache)[key])


def test_the_encoder_of_a_tuned_run_makes_a_cache_for_it(made: Made, tuned: Run, tmp_path: Path) -> None:
    settings = made.settings(cache=tmp_path / "cache", weights=str(tuned.path), dim=None)
    with pytest.raises(HarCacheError, match=f"its encoder is {NAME}, not resnet18: add --encoder {NAME}"):
        extract(replace(settings, encoder="resnet18"))
    extract(settings)
    assert FeatureCache(tmp_path / "cache").recipe.dim == DIM
    (evaluation,) = evaluate(EvaluateSettings(run=tuned.path, cache=tmp_path / "cache", device="cpu"))
    assert evaluation.metrics.clips
    assert extract(settings).clips == 0


def test_it_is_exported(made: Made, tmp_path: Path) -> None:
    found = export(made.run, tmp_path / "network.pt2")
    assert found.difference < 1e-3 and "3, 224, 224" in found.metadata["input"]


def test_too_many_blocks_are_refused_with_their_number(made: Made, tmp_path: Path) -> None:
    asked = FinetuneSettings(start=made.run, data=made.data, run=tmp_path / "run", training=TuneSettings(unfreeze=19))
    with pytest.raises(SettingError, match=f"--unfreeze 19: expected at least 0 and at most 18, the blocks of {NAME}"):
        finetune(asked)


def test_another_encoder_or_number_of_dimensions_is_another_recipe(made: Made) -> None:
    recipe = FeatureCache(made.cache).recipe
    asked = replace(made.settings(), decoder=recipe.decoder)
    assert differences(asked, recipe) == {}
    assert differences(replace(asked, encoder="resnet18"), recipe) == {
        "model": f"model: {NAME} (asked: resnet18)",
    }
    assert differences(replace(asked, dim=None), recipe) == {"dim": "dim: 24 (asked: 256)"}
    assert list(differences(replace(asked, dim="native"), recipe)) == ["projection", "dim"]
    with pytest.raises(CacheError, match=r"was made with another recipe: dim: 24 \(asked: 32\)"):
        extract(made.settings(dim="32"))


def test_native_embeddings_are_the_features(made: Made, tmp_path: Path) -> None:
    settings = made.settings(cache=tmp_path / "cache", dim="native", precision="fp32")
    extract(settings)
    cache = FeatureCache(tmp_path / "cache")
    assert (cache.recipe.dim, cache.recipe.projection, cache.recipe.projection_fit) == (1024, "none", "")
    assert "fc.weight" not in safetensors.torch.load_file(tmp_path / "cache" / "encoder.safetensors")
    assert extract(settings).clips == 0
    training = TrainSettings(epochs=1, frames=4)
    run = train_head(TrainHeadSettings(cache=tmp_path / "cache", run=tmp_path / "run", training=training, device="cpu"))
    assert run
    (prediction,) = predict(
        PredictSettings(run=tmp_path / "run", videos=(made.data / cache.clip_keys[0],), workers=1)
    ).predictions
    assert np.array_equal(prediction.embeddings, cache[cache.clip_keys[0]])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dim": "2000"}, f"--dim 2000: {NAME} has 1024 features"),
        ({"dim": "none"}, "--dim none: expected a whole number from 1 on, or native"),
        ({"dim": "native", "projection": "pca"}, "--projection pca: --dim native takes features as they are"),
        ({"encoder": "shufflenet"}, "encoder shufflenet: torchvision has no classification model of this name"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    made: Made, tmp_path: Path, changes: dict[str, str], message: str
) -> None:
    with pytest.raises(SettingError, match=message):
        extract(made.settings(cache=tmp_path / "cache", **changes))
    assert not (tmp_path / "cache" / "plan.json").exists()
