import dataclasses
import itertools
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from har_cache.cache.recipe import Recipe
from har_cache.data.index import Clip
from har_cache.data.splits import TEST, TRAIN, UNUSED
from har_cache.encoder.projection import random_projection
from har_cache.encoder.weights import Weights, find_weights, load_encoder, random_model, save_encoder
from har_cache.errors import HarCacheError, WeightsError
from har_cache.extraction import prepare as preparation
from har_cache.extraction.prepare import _spread, prepare
from har_cache.extraction.recipe_differences import differences
from har_cache.progress import Progress
from har_cache.settings.extraction import ExtractSettings
from har_cache.storage.files import sha256

from ..helpers import fake_decoders
from ..helpers.caches import make_recipe
from ..helpers.networks import calibrated_model
from ..helpers.videos import moving_frames, write_video

ASKED = ExtractSettings(
    data=Path("data"),
    cache=Path("cache"),
    weights="random",
    projection="random",
    precision="fp32",
    decoder="pyav",
    device="cpu",
)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "encoder.safetensors"
    path.write_bytes(save_encoder(calibrated_model()))
    return path


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Clip]:
    """Four clips: one that is tested on, one that is not, one in no list, and one that is no video."""
    folder = tmp_path_factory.mktemp("clips")
    subsets = {"tested": (TRAIN, TEST, UNUSED), "trained": (TRAIN,) * 3, "unlisted": (UNUSED,) * 3}
    found = []
    for i, (name, subset) in enumerate(subsets.items()):
        path = write_video(folder / f"{name}.avi", moving_frames(12 + i))
        found.append(Clip(f"a/{name}.avi", path, 0, f"a/{name}", subset))
    (folder / "empty.avi").touch()
    return [*found, Clip("a/empty.avi", folder / "empty.avi", 0, "a/empty", (TRAIN,) * 3)]


class Lines(Progress):
    """Keeps what is said."""

    def __init__(self, said: list[str]) -> None:
        self._said = said

    def say(self, text: str) -> None:
        self._said.append(text)


def prepared(clips: list[Clip], workers: int = 1, **changes: Any) -> tuple[Recipe, bytes, list[str]]:
    said: list[str] = []
    recipe, encoder = prepare(dataclasses.replace(ASKED, **changes), clips, workers, Lines(said))
    return recipe, encoder, said


def test_recipe_names_what_was_asked_for(clips: list[Clip]) -> None:
    recipe, encoder, _ = prepared(clips, views=("center", "flip"), seed=3)
    assert (recipe.weights, recipe.projection, recipe.projection_fit) == ("random", "random", "")
    assert (recipe.views, recipe.precision, recipe.faithfulness) == (("center", "flip"), "fp32", 1.0)
    assert (recipe.decoder, recipe.device, recipe.seed) == ("pyav", "cpu", 3)
    assert recipe.weights_sha256 == find_weights("random", 3).sha256
    assert recipe.encoder_sha256 == sha256(encoder)
    torch.testing.assert_close(load_encoder(encoder).classifier.weight, random_projection(3)[0])


def test_random_weights_are_calibrated(clips: list[Clip]) -> None:
    _, encoder, _ = prepared(clips)
    fresh, calibrated = random_model(0).state_dict(), load_encoder(encoder).state_dict()
    changed = {name for name in fresh if name.startswith("layers.") and not torch.equal(fresh[name], calibrated[name])}
    assert {name.rsplit(".", 1)[1] for name in changed} == {"running_mean", "running_var", "num_batches_tracked"}


def test_a_demonstration_takes_imagenet_where_it_can(clips: list[Clip], monkeypatch: pytest.MonkeyPatch) -> None:
    published = dataclasses.replace(find_weights("random", 7), name="imagenet")
    monkeypatch.setattr("har_cache.extraction.given.find_weights", lambda source, *_: {"imagenet": published}[source])
    recipe, _, said = prepared(clips, weights="imagenet-or-random")
    assert (recipe.weights, recipe.weights_sha256) == ("imagenet", published.sha256)
    assert not [line for line in said if line.startswith("NOTE")]


def test_a_demonstration_says_loudly_that_its_weights_are_random(
    clips: list[Clip], monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(source: str, seed: int, *_: object) -> Weights:
        if source == "imagenet":
            raise WeightsError("ImageNet weights cannot be had: no network")
        return find_weights(source, seed)

    monkeypatch.setattr("har_cache.extraction.given.find_weights", offline)
    recipe, _, said = prepared(clips, weights="imagenet-or-random")
    assert (recipe.weights, recipe.weights_sha256) == ("random", find_weights("random").sha256)
    assert said[0] == "NOTE: ImageNet weights cannot be had: no network"
    assert "RANDOM" in said[1]


def test_frames_are_taken_from_all_over_the_data_set() -> None:
    clips = [Clip(f"a/{i}.avi", Path(), 0, "a/x", (TRAIN,) * 3) for i in range(200)]
    picked = [int(clip.key[2:-4]) for clip in _spread(clips, 64)]
    assert len(set(picked)) == 64 and picked == sorted(picked)
    assert picked[0] < 4 and picked[-1] > 195 and max(b - a for a, b in itertools.pairwise(picked)) <= 4
    assert _spread(clips[:3], 64) == clips[:3]


def test_weights_from_a_file_are_taken_as_they_are(clips: list[Clip], encoder: Path) -> None:
    recipe, prepared_encoder, _ = prepared(clips, weights=str(encoder), projection=None)
    assert prepared_encoder == encoder.read_bytes()
    assert (recipe.weights, recipe.projection) == ("file", "file")


def test_projection_is_fitted_on_clips_that_no_split_tests_on(clips: list[Clip], encoder: Path) -> None:
    recipe, _, said = prepared(clips, weights=str(encoder), projection="pca")
    assert recipe.projection_fit == "27 frames of 2 clips that no split tests on"  # 13 + 14
    assert not [line for line in said if "test clips" in line]
    assert [line for line in said if line.startswith("WARNING") and "only 27 frames" in line]


def test_projection_fitted_on_test_clips_is_told(clips: list[Clip], encoder: Path) -> None:
    tested = [dataclasses.replace(clip, subsets=(TEST,) * 3) for clip in clips[:2]]
    recipe, _, said = prepared(tested, weights=str(encoder), projection="pca")
    assert recipe.projection_fit == "25 frames of 2 clips (test clips included)"
    assert [line for line in said if line.startswith("WARNING") and "test clips" in line]


def test_bad_clips_that_no_split_tests_on_do_not_stop_the_run(clips: list[Clip], encoder: Path) -> None:
    tested, bad = clips[0], clips[3]
    recipe, _, said = prepared([tested, bad], weights=str(encoder), projection="pca")
    assert recipe.projection_fit == "12 frames of 1 clips (test clips included)"
    assert [line for line in said if line.startswith("WARNING") and "test clips" in line]


def test_a_clip_that_is_left_out_is_named(clips: list[Clip]) -> None:
    said = prepared(clips)[2]
    assert [line for line in said if line.startswith("Sampling: 1 of 3 clips left out; a/empty.avi: ")]


def test_a_worker_killed_from_outside_makes_no_other_encoder(
    clips: list[Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_video(tmp_path / "killed.avi", moving_frames(3))
    monkeypatch.setattr(preparation, "sample", fake_decoders.sample)
    with pytest.raises(HarCacheError, match=r"Sampling stopped at a/killed\.avi: its worker process was killed"):
        prepared([*clips[:2], Clip("a/killed.avi", path, 0, "a/killed", (TRAIN,) * 3)])


def test_number_of_workers_changes_nothing(clips: list[Clip]) -> None:
    assert prepared(clips, 1, projection="pca")[:2] == prepared(clips, 3, projection="pca")[:2]


def test_seed_changes_random_weights_and_projection(clips: list[Clip]) -> None:
    (first, one, _), (second, other, _) = prepared(clips), prepared(clips, seed=1)
    assert first.weights_sha256 != second.weights_sha256
    a, b = (safetensors.torch.load(data)["classifier.weight"] for data in (one, other))
    assert not torch.equal(a, b)


def test_no_clip_that_decodes_is_an_error_with_a_reason(clips: list[Clip]) -> None:
    with pytest.raises(HarCacheError, match=r"none of the 1 clips tried can be decoded; a/empty.avi: empty file"):
        prepared(clips[-1:])


def test_projection_file_without_a_projection_is_refused(clips: list[Clip], encoder: Path, tmp_path: Path) -> None:
    state = safetensors.torch.load_file(encoder)
    backbone = {name: tensor for name, tensor in state.items() if name.startswith("layers.")}
    safetensors.torch.save_file(backbone, tmp_path / "backbone.safetensors")
    with pytest.raises(HarCacheError, match="holds no projection"):
        prepared(clips[:1], weights=str(encoder), projection=str(tmp_path / "backbone.safetensors"))


def test_projection_that_is_no_file_is_named_as_such(clips: list[Clip], encoder: Path) -> None:
    with pytest.raises(WeightsError, match=r"--projection: no such file: pcaa \(or one of: pca, random\)"):
        prepared(clips[:1], weights=str(encoder), projection="pcaa")


def test_the_same_settings_differ_in_nothing() -> None:
    recipe = make_recipe(weights_sha256=find_weights("random").sha256)
    assert differences(dataclasses.replace(ASKED, projection="pca"), recipe) == {}
    assert differences(dataclasses.replace(ASKED, projection=None, precision="auto"), recipe) == {}
    for device in ("auto", "cuda", "cuda:1", "cuda:0,2"):  # one GPU is as good as another
        on_gpu = dataclasses.replace(recipe, device="cuda")
        assert differences(dataclasses.replace(ASKED, projection="pca", device=device), on_gpu) == {}


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        ({"weights": "imagenet"}, ["weights"]),
        ({"projection": "random"}, ["projection"]),
        ({"views": ("center", "flip")}, ["views"]),
        ({"precision": "bf16"}, ["precision"]),
        ({"decoder": "decord"}, ["decoder"]),
        ({"device": "cuda"}, ["device"]),
        ({"seed": 1}, ["seed"]),
        ({"seed": 1, "views": ("center", "flip")}, ["views", "seed"]),
    ],
)
def test_every_difference_is_named(change: dict[str, Any], fields: list[str]) -> None:
    recipe = make_recipe(weights_sha256=find_weights("random").sha256)
    found = differences(dataclasses.replace(ASKED, **{"projection": "pca", **change}), recipe)
    assert list(found) == fields


def test_another_file_of_weights_is_another_recipe(encoder: Path, tmp_path: Path) -> None:
    weights = find_weights(str(encoder))
    recipe = make_recipe(weights="file", weights_sha256=weights.sha256)
    asked = dataclasses.replace(ASKED, weights=str(encoder), projection="pca")
    assert differences(asked, recipe) == {}
    (tmp_path / "other.safetensors").write_bytes(save_encoder(random_model(5)))
    found = differences(dataclasses.replace(asked, weights=str(tmp_path / "other.safetensors")), recipe)
    assert list(found) == ["weights_sha256"]


def test_another_projection_in_the_weights_file_is_another_recipe(
    clips: list[Clip], encoder: Path, tmp_path: Path
) -> None:
    recipe, _, _ = prepared(clips[:1], weights=str(encoder), projection=None)
    model = calibrated_model()
    with torch.no_grad():
        model.classifier.bias.add_(1)
    (tmp_path / "other.safetensors").write_bytes(save_encoder(model))
    asked = dataclasses.replace(ASKED, weights=str(encoder), projection=None)
    assert differences(asked, recipe) == {}
    found = differences(dataclasses.replace(asked, weights=str(tmp_path / "other.safetensors")), recipe)
    assert list(found) == ["projection_fit"]
