import pytest
import torch

from har_cache.encoder.transform import normalise
from har_cache.model.network import BLOCKS, Backbone

from ..helpers.networks import calibrated_model, picture_crops


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return normalise(picture_crops()[:3])


def gradients(backbone: Backbone, images: torch.Tensor) -> dict[str, torch.Tensor]:
    backbone.train()(images).square().sum().backward()
    return {name: p.grad for name, p in backbone.named_parameters() if p.grad is not None}


def test_it_is_the_encoder_under_the_encoder_s_names(images: torch.Tensor) -> None:
    model, backbone = calibrated_model(), Backbone(calibrated_model())
    assert {k: v.shape for k, v in backbone.state_dict().items()} == {k: v.shape for k, v in model.state_dict().items()}
    with torch.inference_mode():
        expected = model(images)
        torch.testing.assert_close(backbone.eval()(images), expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(backbone.train()(images), expected, rtol=1e-4, atol=1e-4)


def test_gradients_are_the_encoder_s(images: torch.Tensor) -> None:
    model = calibrated_model().double()
    model(images.double()).square().sum().backward()
    found = gradients(Backbone(calibrated_model().double()), images.double())
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("unfrozen", "layers"), [(None, 17), (BLOCKS, 17), (1, 2), (2, 2), (0, 0)])
def test_the_last_blocks_learn(unfrozen: int | None, layers: int, images: torch.Tensor) -> None:
    backbone = Backbone(calibrated_model(), unfrozen)
    learning = {name for name, p in backbone.named_parameters() if p.requires_grad}
    assert ("classifier.weight" in learning) is (unfrozen != 0)
    assert ("layers.14.weight" in learning) is (unfrozen != 0)
    assert ("layers.0.weight" in learning) is (unfrozen in (None, BLOCKS))
    assert any(name.startswith("layers.13.") for name in learning) is (unfrozen not in (0, 1))
    if unfrozen:
        assert gradients(backbone, images).keys() == learning


def test_asleep_nothing_learns(images: torch.Tensor) -> None:
    backbone = Backbone(calibrated_model())
    backbone.asleep = True
    assert not backbone.train()(images).requires_grad
    backbone.asleep = False
    assert backbone(images).requires_grad


def test_norms_keep_their_statistics_unless_asked(images: torch.Tensor) -> None:
    before = calibrated_model().state_dict()
    for train_norms in (False, True):
        backbone = Backbone(calibrated_model(), 2, train_norms)
        backbone.train()(images)
        changed = {k for k, v in backbone.state_dict().items() if not torch.equal(v, before[k])}
        assert bool(changed) is train_norms
        assert all(name.startswith(("layers.13.", "layers.15.")) for name in changed)


def test_checkpointing_changes_memory_alone(images: torch.Tensor) -> None:
    plain = gradients(Backbone(calibrated_model(), 6), images)
    again = gradients(Backbone(calibrated_model(), 6, checkpointing=True), images)
    assert plain.keys() == again.keys()
    assert all(torch.equal(gradient, again[name]) for name, gradient in plain.items())
