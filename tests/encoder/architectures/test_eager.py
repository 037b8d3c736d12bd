import pickle

import pytest
import torch

from har_cache.encoder.architectures.eager import EagerEncoder, batch_size
from har_cache.encoder.architectures.names import architecture
from har_cache.encoder.architectures.packing import pack, transform_of, unpack
from har_cache.encoder.encoder import Encoder, centred_cosine, choose_precision
from har_cache.encoder.projection import fit_pca
from har_cache.encoder.transform import Transform, crop, normalise
from har_cache.encoder.weights import calibrate
from har_cache.errors import CacheError

from ...helpers.caches import make_recipe
from ...helpers.networks import calibrated_model, pictures

NAME = "shufflenet_v2_x0_5"


@pytest.fixture(scope="module")
def crops():
    return crop(pictures(20, 120, 160))


@pytest.fixture(scope="module")
def model(crops):
    """Calibrated, and with a projection to 12 numbers."""
    known = architecture(NAME)
    model = known.drawn(0, 12)
    calibrate(model, [normalise(crops)])
    native = EagerEncoder(pack(known.build(known.backbone(model.state_dict())), NAME, known.transform))
    projection = fit_pca(native.features(crops).numpy(), 12)
    return known.build({**model.state_dict(), **known.classifier_state(projection)})


@pytest.fixture(scope="module")
def packed(model):
    return pickle.loads(pickle.dumps(pack(model, NAME, architecture(NAME).transform)))


@pytest.fixture(scope="module")
def expected(model, crops):
    with torch.inference_mode():
        return model(normalise(crops))


def test_in_fp32_it_is_the_librarys_own_model(packed, crops, expected):
    found = unpack(packed)(crops)
    assert found.shape == (1, 20, 12) and found.dtype == torch.float32
    assert centred_cosine(expected, found[0]).min() > 0.99999


@pytest.mark.parametrize("precision", ["bf16", "bf16-mixed", "fp16", "fp16-mixed"])
def test_lower_precisions_are_near_to_it_and_not_the_same(packed, crops, expected, precision):
    found = EagerEncoder(packed, precision)(crops[:4])[0]
    assert found.dtype == torch.float32 and not torch.equal(found, expected[:4])
    assert torch.nn.functional.cosine_similarity(found, expected[:4]).min() > 0.8


def test_views_are_what_they_show(packed, crops):
    center, flip, full = EagerEncoder(packed, views=("center", "flip", "full"))(crops[:2], crops[2:4])
    one = EagerEncoder(packed)
    assert torch.equal(center, one(crops[:2])[0])
    torch.testing.assert_close(flip, one(crops[:2].flip(-1))[0])
    assert torch.equal(full, one(crops[2:4])[0])


def test_without_a_projection_features_are_the_embeddings(model, crops):
    known = architecture(NAME)
    native = EagerEncoder(pack(known.build(known.backbone(model.state_dict())), NAME, known.transform))
    assert native(crops[:3]).shape == (1, 3, known.features)
    assert torch.equal(native(crops[:3])[0], native.features(crops[:3]))


def test_mnasnet_without_a_projection_gives_its_features(crops):
    model = calibrated_model()
    whole = unpack(pack(model, "mnasnet0_5", Transform()))
    model.classifier = torch.nn.Identity()
    native = unpack(pack(model, "mnasnet0_5", Transform()))
    assert isinstance(native, Encoder) and torch.equal(native(crops)[0], whole.features(crops))


def test_the_precision_is_chosen_by_the_same_rule(packed, crops, monkeypatch):
    monkeypatch.setattr("har_cache.encoder.encoder.favoured", lambda device: iter(["bf16", "fp32"]))
    precision, cosine = choose_precision(packed, crops, "cpu", "bf16", unpack)
    assert precision == "bf16" and cosine < 1
    chosen, least = choose_precision(packed, crops, "cpu", "auto", unpack)
    assert (chosen, least) == (("bf16", cosine) if cosine >= 0.99 else ("fp32", 1.0))


@pytest.mark.parametrize(("side", "size"), [(224, 16), (240, 8), (384, 4), (518, 2), (1200, 1)])
def test_batches_are_bounded_by_their_pixels(side, size):
    assert batch_size(Transform(side, side)) == size


def test_what_does_not_vary_calibrates_nothing_and_what_drops_by_chance_drops_nothing(crops):
    known = architecture("efficientnet_b0")  # its blocks are dropped by chance in training
    first, second = known.drawn(0, 4), known.drawn(0, 4)
    for model in (first, second):
        calibrate(model, [normalise(crops[:2])])
    assert all(map(torch.equal, first.state_dict().values(), second.state_dict().values()))
    assert not any(module.training for module in first.modules())


def test_the_transform_is_that_of_the_recipe():
    assert transform_of(make_recipe()) == Transform()
    text = "resize 518 bicubic by PIL, center crop 518, ImageNet mean and std"
    assert transform_of(make_recipe(model="timm:a", transform=text)) == Transform(518, 518, "bicubic", True)
    with pytest.raises(CacheError, match="recipe of resnet18 has a transform that this version does not know: resize"):
        transform_of(make_recipe(model="resnet18"))
