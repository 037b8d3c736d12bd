"""Skipped where timm is not installed."""

import pytest
import torch
from torchvision.transforms.functional import to_pil_image

from har_cache.encoder.architectures import of_timm
from har_cache.encoder.architectures.names import architecture
from har_cache.encoder.transform import Square, Transform, crop, normalise, squash
from har_cache.encoder.weights import find_weights
from har_cache.errors import SettingError, WeightsError

from ...helpers.networks import pictures

timm = pytest.importorskip("timm")
TINY = "timm:vit_tiny_patch16_224"


def test_an_encoder_loads_into_timms_own_model():
    known = architecture(TINY)
    assert (known.features, known.classifier) == (192, "head")
    state = known.drawn(0, 16).state_dict()
    own = timm.create_model(TINY.removeprefix("timm:"), num_classes=16)
    own.load_state_dict(state)
    native = timm.create_model(TINY.removeprefix("timm:"), num_classes=0)
    native.load_state_dict(known.backbone(state))
    frames = torch.rand(1, 3, 224, 224)
    with torch.inference_mode():
        torch.testing.assert_close(known.build(state)(frames), own.eval()(frames))
        torch.testing.assert_close(known.build(known.backbone(state))(frames), native.eval()(frames))


@pytest.mark.parametrize("name", [TINY, "timm:vit_small_patch14_dinov2", "timm:vit_base_patch16_clip_224"])
@pytest.mark.parametrize(("height", "width"), [(90, 161), (261, 220)])
def test_frames_are_what_timm_makes_of_them(name, height, width):
    known, plain = architecture(name), name.removeprefix("timm:")
    with torch.device("meta"):
        config = timm.data.resolve_model_data_config(timm.create_model(plain))
    official = timm.data.create_transform(**config)
    frames = pictures(2, height, width)
    expected = torch.stack([official(to_pil_image(frame.permute(2, 0, 1))) for frame in frames])
    found = normalise(crop(frames, known.transform.crop, known.transform), known.transform)
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-6)


def test_squares_are_resized_by_pil_too():
    by_pil = Transform(30, 24, "bicubic", by_pil=True)
    frames = pictures(2, 50, 77)
    middle = Square(30, False, by_pil).of(frames)
    assert middle.shape == (2, 30, 30, 3)
    assert torch.equal(middle[:, 3:27, 3:27].permute(0, 3, 1, 2).float(), crop(frames, 24, by_pil))
    whole = squash(frames, 24, by_pil)
    assert whole.shape == (2, 3, 24, 24) and whole.is_contiguous(memory_format=torch.channels_last)


def test_a_model_that_cannot_be_an_encoder_is_refused(monkeypatch):
    config = {"input_size": (3, 224, 224), "crop_pct": 1.0, "mean": (0.5,) * 3, "std": (0.5,) * 3}
    for odd in ({"interpolation": "lanczos"}, {"interpolation": "bicubic", "crop_mode": "squash"}):
        with pytest.raises(SettingError, match="is none that this version knows"):
            of_timm._transform(TINY, {**config, **odd})


def test_published_weights_that_cannot_be_had_are_told_with_the_ways_out(monkeypatch):
    def offline(name, pretrained=False, **more):
        if pretrained:
            raise OSError("no network")
        return real(name, **more)

    real = timm.create_model
    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(
        WeightsError, match=r"published weights of timm:.* cannot be had \(no network\).*--weights PATH"
    ):
        find_weights("published", encoder=TINY)
