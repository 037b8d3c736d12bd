import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torchvision import models

from har_cache.encoder.architectures.names import architecture
from har_cache.encoder.architectures.of_torchvision import renamed
from har_cache.encoder.transform import Transform, crop, normalise, squash
from har_cache.encoder.weights import find_weights, save_encoder, tensors_sha256
from har_cache.errors import SettingError, WeightsError
from har_cache.storage.files import sha256

from ...helpers.networks import pictures

SMALL = "shufflenet_v2_x0_5"


def official_state(seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return models.shufflenet_v2_x0_5(weights=None).state_dict()


def saved(path, state):
    torch.save(state, path)
    return str(path)


# transforms


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "efficientnet_b0", "efficientnet_b1", "swin_s", "vit_h_14"])
@pytest.mark.parametrize(("height", "width"), [(90, 161), (260, 640)])
def test_frames_are_what_torchvision_makes_of_them_bit_for_bit(name, height, width):
    preset = models.get_model_weights(name).DEFAULT.transforms()
    preset.mean, preset.std = [0.0] * 3, [1.0] * 3
    ours = Transform(preset.resize_size[0], preset.crop_size[0], preset.interpolation.value)
    frames = pictures(1, height, width)
    crops = crop(frames, ours.crop, ours)
    expected = preset(frames.permute(0, 3, 1, 2))
    assert torch.equal(crops.div(255), expected) and crops.is_contiguous(memory_format=torch.channels_last)


def test_the_transform_of_an_encoder_is_that_of_its_weights():
    known, preset = architecture("efficientnet_b0").transform, models.EfficientNet_B0_Weights.DEFAULT.transforms()
    frames = pictures(2, 120, 160)
    found = normalise(crop(frames, known.crop, known), known)
    torch.testing.assert_close(found, preset(frames.permute(0, 3, 1, 2)), rtol=0, atol=1e-6)


@pytest.mark.parametrize("kernel", ["bilinear", "bicubic"])
@pytest.mark.parametrize("difference", range(0, 18))
def test_the_crop_is_the_middle_of_every_larger_one_whatever_is_rounded(kernel, difference):
    ours = Transform(40 + difference, 40, kernel)
    for width in range(60, 65):
        frames = pictures(1, 60, width)
        larger, start = crop(frames, ours.resize, ours), round(difference / 2)
        assert larger.shape == (1, 3, ours.resize, ours.resize)
        assert torch.equal(larger[..., start : start + 40, start : start + 40], crop(frames, 40, ours))


COLOURS = st.tuples(*[st.floats(0.001, 1, allow_subnormal=False)] * 3)


@given(st.builds(Transform, st.integers(1, 999), st.integers(1, 999), st.sampled_from(["bilinear", "bicubic"]),
                 st.booleans(), COLOURS, COLOURS))  # fmt: skip
@settings(max_examples=30)
def test_a_transform_comes_back_from_its_text(transform):
    assert Transform.read(str(transform)) == transform
    assert Transform.read(f"{transform}; full: all of the frame") == transform


def test_the_text_of_the_default_is_what_recipes_have_always_had():
    assert str(Transform()) == "resize 256 bilinear antialias, center crop 224, ImageNet mean and std"
    with pytest.raises(ValueError, match="does not know: resize and crop"):
        Transform.read("resize and crop")


def test_whole_frames_are_bicubic_too_and_within_bounds():
    ours, frames = Transform(40, 40, "bicubic"), (pictures(1, 90, 33) > 127).byte() * 255
    whole = squash(frames, 40, ours)
    assert whole.shape == (1, 3, 40, 40) and whole.min() >= 0 and whole.max() <= 255
    assert not torch.equal(whole, squash(frames, 40, Transform(40, 40)))


# models


@pytest.mark.parametrize(("name", "classifier"), [("resnet18", "fc"), ("mobilenet_v3_small", "classifier.3")])
def test_an_encoder_loads_into_torchvisions_own_model(name, classifier):
    known = architecture(name)
    assert known.classifier == classifier
    state = safetensors.torch.load(save_encoder(known.drawn(0, 24)))
    own = models.get_model(name, num_classes=24)
    own.load_state_dict(state)
    frames = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(own.eval()(frames), known.build(state)(frames))
        native = known.build(known.backbone(state))(frames)
        weight, bias = known.projection(state)
        torch.testing.assert_close(nn.functional.linear(native, weight, bias), own(frames))
    assert native.shape == (1, known.features)


def test_weights_of_a_seed_are_the_same_and_leave_the_random_state_alone():
    before = torch.random.get_rng_state()
    first, again, other = (find_weights("random", seed, SMALL) for seed in (3, 3, 4))
    assert first.sha256 == again.sha256 != other.sha256
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_published_file_is_hash_checked_and_taken_without_its_classifier(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    state = {k: v for k, v in official_state(5).items() if not k.endswith("num_batches_tracked")}  # as old files are
    saved(tmp_path / "file", state)
    data = (tmp_path / "file").read_bytes()
    path = tmp_path / f"shufflenet-{sha256(data)[:10]}.pth"
    path.write_bytes(data)
    monkeypatch.setattr(models.ShuffleNet_V2_X0_5_Weights.DEFAULT.value, "url", path.as_uri())
    architecture.cache_clear()
    weights = find_weights("imagenet", encoder=SMALL)
    expected = {name: tensor for name, tensor in official_state(5).items() if not name.startswith("fc.")}
    assert weights.sha256 == tensors_sha256(expected) and weights.projection is None
    (tmp_path / "home" / "hub" / "checkpoints" / path.name).write_bytes(data + b"more")
    with pytest.raises(WeightsError, match="is not the published file"):
        find_weights("imagenet", encoder=SMALL)


def test_published_files_lose_what_only_training_needs_and_have_todays_names():
    tensor = torch.zeros(1)
    found = renamed({"aux1.fc.weight": tensor, "AuxLogits.fc.bias": tensor, "fc.bias": tensor})
    assert list(found) == ["fc.bias"]
    old = "features.denseblock1.denselayer2.norm.1.weight"
    assert list(renamed({old: tensor})) == ["features.denseblock1.denselayer2.norm1.weight"]
    assert old.replace("norm.1", "norm1") in architecture("densenet121").undrawn(1).state_dict()


def test_the_last_layer_of_a_file_is_a_projection_where_it_has_as_many_outputs_as_are_asked_for(tmp_path):
    state = official_state()
    state["fc.weight"], state["fc.bias"] = torch.randn(32, 1024), torch.randn(32)
    file = saved(tmp_path / "a.pth", state)
    assert torch.equal(find_weights(file, encoder=SMALL, dim=32).projection[0], state["fc.weight"])
    assert find_weights(file, encoder=SMALL).projection is None


def test_weights_of_another_model_are_refused_by_its_name(tmp_path):
    with pytest.raises(WeightsError, match=r"no weights of torchvision.s resnet18; missing: bn1\.bias"):
        find_weights(saved(tmp_path / "a.pth", official_state()), encoder="resnet18")


def test_more_numbers_than_features_are_refused():
    with pytest.raises(SettingError, match="--dim 513: resnet18 has 512 features"):
        architecture("resnet18").check_dim(513)
    architecture("resnet18").check_dim(512)
    with pytest.raises(SettingError, match="has no bias, but a projection: --dim native"):
        architecture("maxvit_t").check_dim(16)
    architecture("maxvit_t").check_dim(None)
