import pickle
from collections import OrderedDict
from urllib.error import URLError

import pytest
import safetensors.torch
import torch
from torch import nn
from torchvision.models import MNASNet0_5_Weights, mnasnet0_5

from har_cache.encoder.encoder import Encoder
from har_cache.encoder.folded import fold
from har_cache.encoder.transform import normalise
from har_cache.encoder.weights import (
    build_encoder,
    calibrate,
    find_weights,
    load_encoder,
    random_model,
    save_encoder,
    tensors_sha256,
)
from har_cache.errors import SettingError, WeightsError
from har_cache.storage.files import sha256

from ..helpers.networks import calibrated_model, picture_crops

IMAGENET = MNASNet0_5_Weights.IMAGENET1K_V1


def official_state(seed=0):
    """A state dict like torchvision's own: with a classifier of 1000 classes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return mnasnet0_5(weights=None).state_dict()


def backbone_of(state):
    return {name: tensor for name, tensor in state.items() if name.startswith("layers.")}


def saved(path, state):
    torch.save(state, path)
    return str(path)


def refusal(wanted):
    with pytest.raises(WeightsError) as caught:
        find_weights(str(wanted))
    assert str(caught.value).isprintable()
    return str(caught.value)


def equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


# random and calibrated


def test_random_weights_are_those_of_their_seed_whatever_the_random_state():
    first = find_weights("random", seed=3)
    torch.rand(5)
    second, other = find_weights("random", seed=3), find_weights("random", seed=4)
    assert first.name == "random"
    assert first.projection is None
    assert equal(first.backbone, second.backbone)
    assert first.sha256 == second.sha256 != other.sha256


def test_random_weights_leave_the_random_state_alone():
    torch.rand(3)  # a state that no seed has just set
    before = torch.random.get_rng_state()
    find_weights("random", seed=3)
    load_encoder(save_encoder(random_model(0)))
    assert torch.equal(torch.random.get_rng_state(), before)


def spread(model):
    """How much the embeddings of different pictures differ, against their own size."""
    with torch.inference_mode():
        embeddings = model(normalise(picture_crops()[:16]))
    return float((embeddings - embeddings.mean(0)).norm() / embeddings.norm())


def test_calibration_makes_random_embeddings_differ():
    model = random_model(0)
    before = spread(model)
    calibrate(model, normalise(picture_crops()[:32]).split(16))
    assert before < 0.05
    assert spread(model) > 5 * before


def test_calibration_sets_the_statistics_of_all_batches_together_and_nothing_else():
    model = random_model(0)
    plain = model.state_dict(keep_vars=False)
    parameters = {name: tensor.clone() for name, tensor in model.named_parameters()}
    batches = normalise(picture_crops()[:8]).split(4)
    calibrate(model, batches)
    with torch.inference_mode():
        stem = model.layers[0](torch.cat(batches))
    torch.testing.assert_close(plain["layers.1.running_mean"], stem.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    assert not any(module.training for module in model.modules())
    assert {m.momentum for m in model.modules() if isinstance(m, nn.BatchNorm2d)} == {
        m.momentum for m in random_model(0).modules() if isinstance(m, nn.BatchNorm2d)
    }
    assert equal(parameters, dict(model.named_parameters()))


def test_calibration_gives_the_same_statistics_every_time():
    first, second = random_model(0), random_model(0)
    for model in (first, second):
        calibrate(model, normalise(picture_crops()[:8]).split(4))
    assert equal(first.state_dict(), second.state_dict())


# encoder.safetensors


def test_a_saved_encoder_comes_back_bit_for_bit():
    model = calibrated_model()
    restored = load_encoder(save_encoder(model))
    assert equal(restored.state_dict(), model.state_dict())
    assert not restored.training
    assert torch.equal(
        Encoder(fold(restored))(picture_crops()[:2]),
        Encoder(fold(model))(picture_crops()[:2]),
    )


def test_the_same_encoder_gives_the_same_bytes():
    model = calibrated_model()
    assert save_encoder(model) == save_encoder(load_encoder(save_encoder(model)))
    assert save_encoder(model) != save_encoder(random_model(0))


def test_torchvisions_own_network_takes_a_saved_encoder(tmp_path):
    model = calibrated_model()
    (tmp_path / "encoder.safetensors").write_bytes(save_encoder(model))
    state = OrderedDict(safetensors.torch.load_file(tmp_path / "encoder.safetensors"))
    # torchvision's MNASNet asks a state dict for its version, and without one takes it for its old, wider stem.
    state._metadata = {"": {"version": 2}}
    official = mnasnet0_5(weights=None)
    official.classifier = nn.Linear(1280, 256)
    official.load_state_dict(state, strict=True)
    with torch.inference_mode():
        x = normalise(picture_crops()[:2])
        assert torch.equal(official.eval()(x), model(x))


@pytest.mark.parametrize("data", [b"", b"text", safetensors.torch.save({"layers.0.weight": torch.zeros(16, 3, 3, 3)})])
def test_what_is_no_encoder_is_refused(data):
    with pytest.raises(WeightsError, match=r"encoder\.safetensors does not hold an encoder: ."):
        load_encoder(data)


def test_a_truncated_encoder_is_refused():
    with pytest.raises(WeightsError):
        load_encoder(save_encoder(random_model(0))[:-1])


def test_the_hash_of_tensors_tells_names_types_shapes_and_values_apart():
    zeros = torch.zeros(2, 3)
    states = [
        {"a": zeros},
        {"b": zeros},
        {"a": zeros.T},
        {"a": zeros.half()},
        {"a": torch.ones(2, 3)},
        {"a": zeros, "b": zeros},
        {},
    ]
    assert len({tensors_sha256(state) for state in states}) == len(states)
    assert tensors_sha256({"a": zeros, "b": zeros}) == tensors_sha256({"b": zeros, "a": zeros.clone()})


# --weights PATH


@pytest.mark.parametrize("zipped", [True, False])
def test_torchvisions_own_state_dict_is_taken_without_its_classifier(tmp_path, zipped):
    state = official_state()
    torch.save(state, tmp_path / "mnasnet.pth", _use_new_zipfile_serialization=zipped)
    weights = find_weights(str(tmp_path / "mnasnet.pth"))
    assert weights.name == "file"
    assert weights.projection is None
    assert equal(weights.backbone, backbone_of(state))
    assert weights.sha256 == tensors_sha256(backbone_of(state))


def test_a_safetensors_file_is_taken_and_counts_as_the_same_weights(tmp_path):
    state = official_state()
    safetensors.torch.save_file(state, tmp_path / "mnasnet.safetensors")
    weights = find_weights(str(tmp_path / "mnasnet.safetensors"))
    assert weights.projection is None
    assert equal(weights.backbone, backbone_of(state))
    assert weights.sha256 == find_weights(saved(tmp_path / "mnasnet.pth", state)).sha256


def test_the_encoder_of_another_cache_brings_its_projection(tmp_path):
    model = calibrated_model()
    (tmp_path / "encoder.safetensors").write_bytes(save_encoder(model))
    weights = find_weights(str(tmp_path / "encoder.safetensors"))
    weight, bias = weights.projection
    assert torch.equal(weight, model.classifier.weight)
    assert torch.equal(bias, model.classifier.bias)
    projection = {"classifier.weight": weight, "classifier.bias": bias}
    restored = build_encoder({**weights.backbone, **projection})
    assert equal(restored.state_dict(), model.state_dict())


def test_half_a_projection_is_none(tmp_path):
    state = random_model(0).state_dict()
    state["classifier.bias"] = torch.zeros(3)
    assert find_weights(saved(tmp_path / "a.pth", state)).projection is None
    del state["classifier.bias"]
    assert find_weights(saved(tmp_path / "b.pth", state)).projection is None


def test_missing_tensors_are_named(tmp_path):
    state = official_state()
    del state["layers.0.weight"], state["layers.14.weight"]
    message = refusal(saved(tmp_path / "a.pth", state))
    assert str(tmp_path / "a.pth") in message
    assert "missing: layers.0.weight, layers.14.weight" in message


def test_another_networks_weights_are_refused_with_some_names_and_the_number_of_the_others(tmp_path):
    message = refusal(saved(tmp_path / "a.pth", {"conv1.weight": torch.zeros(64, 3, 7, 7)}))
    assert "missing: layers.0.weight, " in message
    assert f" and {len(backbone_of(official_state())) - 5} more" in message


def test_tensors_of_another_shape_are_named_with_both_shapes(tmp_path):
    state = official_state()
    state["layers.0.weight"] = torch.zeros(32, 3, 3, 3)
    assert "layers.0.weight is (32, 3, 3, 3), not (16, 3, 3, 3)" in refusal(saved(tmp_path / "a.pth", state))


def test_tensors_that_the_network_does_not_have_are_named(tmp_path):
    state = {**official_state(), "layers.99.weight": torch.zeros(1)}
    assert "unknown: layers.99.weight" in refusal(saved(tmp_path / "a.pth", state))


def test_a_missing_file_is_named_with_the_other_choices(tmp_path):
    assert refusal(tmp_path / "none.pth") == (
        f"--weights: no such file: {tmp_path / 'none.pth'} (or one of: imagenet, random)"
    )
    assert "no such file" in refusal(tmp_path)


def test_an_encoder_in_place_of_weights_is_told_where_it_goes():
    with pytest.raises(SettingError, match="--weights resnet50: is an encoder: give --encoder resnet50"):
        find_weights("resnet50")


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"These are no weights.\n" * 100,
        b"\x80\x02h\xe7.",  # a pickle that refers to what it never defined
        pickle.dumps({"layers.0.weight": "text"}, protocol=2),
        b"PK\x03\x04" + bytes(100),
        b"\xff" * 100,
    ],
)
def test_what_holds_no_tensors_is_refused_by_name(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    assert refusal(tmp_path / name).startswith(f"{tmp_path / name}: ")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("kept", [0.01, 0.5, 0.99])
def test_a_truncated_file_is_refused(tmp_path, zipped, kept):
    path = tmp_path / "a.pth"
    torch.save(official_state(), path, _use_new_zipfile_serialization=zipped)
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    assert refusal(path).startswith(f"{path}: cannot be read as weights: ")


@pytest.mark.parametrize(
    "content", [[torch.zeros(1)], torch.zeros(1), {1: torch.zeros(1)}, {"state_dict": {}}, {"a": 1}]
)
def test_what_is_no_state_dict_is_refused(tmp_path, content):
    assert "expected a plain state dict of tensors" in refusal(saved(tmp_path / "a.pth", content))


class Code:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize(
    "save", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content, protocol=2))]
)
def test_code_in_a_file_is_refused_and_not_run(tmp_path, save):
    save({**official_state(), "classifier.bias": Code(tmp_path / "was_run")}, tmp_path / "a.pth")
    assert "cannot be read as weights: it does not hold tensors alone" in refusal(tmp_path / "a.pth")
    assert not (tmp_path / "was_run").exists()


# --weights imagenet


@pytest.fixture
def checkpoints(tmp_path, monkeypatch):
    """Where torch.hub keeps what it has downloaded: an empty folder."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    folder = tmp_path / "home" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def offline(monkeypatch):
    def fail(*_, **__):
        raise URLError("Name or service not known")

    monkeypatch.setattr("torch.hub.urlopen", fail)


@pytest.fixture
def published(tmp_path, monkeypatch):
    """Weights published in place of torchvision's, with the beginning of their sha256 in their name, as those have."""
    torch.save(official_state(seed=5), tmp_path / "file")
    data = (tmp_path / "file").read_bytes()
    path = tmp_path / f"mnasnet0.5_test-{sha256(data)[:10]}.pth"
    path.write_bytes(data)
    monkeypatch.setattr(IMAGENET.value, "url", path.as_uri())
    return path


def test_imagenet_is_downloaded_once_and_kept(published, checkpoints):
    weights = find_weights("imagenet")
    assert weights.name == "imagenet"
    assert weights.projection is None
    assert equal(weights.backbone, backbone_of(official_state(seed=5)))
    assert (checkpoints / published.name).read_bytes() == published.read_bytes()
    published.unlink()
    assert find_weights("imagenet").sha256 == weights.sha256


def test_a_download_that_is_not_the_published_file_is_refused(published, checkpoints):
    published.write_bytes(published.read_bytes() + b"more")
    assert "invalid hash value" in refusal("imagenet")
    assert not list(checkpoints.iterdir())


@pytest.mark.usefixtures("offline")
def test_offline_the_url_the_folder_and_the_ways_out_are_named(checkpoints):
    message = refusal("imagenet")
    assert "Name or service not known" in message
    assert IMAGENET.url in message
    assert str(checkpoints) in message
    assert "--weights PATH" in message
    assert "--weights random" in message


@pytest.mark.usefixtures("offline")
def test_a_file_that_is_there_already_is_found_offline(published, checkpoints):
    (checkpoints / published.name).write_bytes(published.read_bytes())
    assert equal(find_weights("imagenet").backbone, backbone_of(official_state(seed=5)))


def test_a_file_that_is_there_already_and_not_the_published_one_is_refused(published, checkpoints):
    torch.save(official_state(seed=6), checkpoints / published.name)
    message = refusal("imagenet")
    assert f"{checkpoints / published.name} is not the published file" in message
    assert "remove it" in message


@pytest.mark.usefixtures("checkpoints")
def test_code_in_a_published_file_is_refused_and_not_run(tmp_path, monkeypatch):
    data = pickle.dumps(Code(tmp_path / "was_run"), protocol=2)
    path = tmp_path / f"mnasnet0.5_test-{sha256(data)[:10]}.pth"
    path.write_bytes(data)
    monkeypatch.setattr(IMAGENET.value, "url", path.as_uri())
    assert "does not hold tensors alone" in refusal("imagenet")
    assert not (tmp_path / "was_run").exists()
