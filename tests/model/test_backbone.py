import copy

import pytest
import torch
from torch import nn

from har_cache.encoder.architectures.names import architecture
from har_cache.encoder.transform import normalise
from har_cache.encoder.weights import calibrate
from har_cache.errors import SettingError
from har_cache.model.backbone import EagerBackbone, check_unfrozen, trainable
from har_cache.model.network import Backbone

from ..helpers.networks import calibrated_model, picture_crops

NAME, BLOCKS = "shufflenet_v2_x0_5", 18


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return normalise(picture_crops()[:3])


@pytest.fixture(scope="module")
def calibrated(images: torch.Tensor) -> nn.Module:
    model = architecture(NAME).drawn(0, 8)
    calibrate(model, [images])
    return model


@pytest.fixture
def model(calibrated: nn.Module) -> nn.Module:
    return copy.deepcopy(calibrated)


def gradients(backbone: nn.Module, images: torch.Tensor) -> dict[str, torch.Tensor]:
    backbone.train()(images).square().sum().backward()
    return {name: p.grad for name, p in backbone.named_parameters() if p.grad is not None}


def test_it_is_the_model_under_the_models_names(model: nn.Module, images: torch.Tensor) -> None:
    backbone = trainable(copy.deepcopy(model), NAME)
    assert isinstance(backbone, EagerBackbone)
    assert list(backbone.state_dict()) == list(model.state_dict())
    with torch.inference_mode():
        for mode in (False, True):
            torch.testing.assert_close(backbone.train(mode)(images), model(images), rtol=1e-4, atol=1e-4)
    backbone.load_state_dict({name: torch.zeros_like(tensor) for name, tensor in model.state_dict().items()})
    assert not backbone(images).any()


def test_mnasnet_keeps_its_own() -> None:
    assert isinstance(trainable(calibrated_model(), "mnasnet0_5", 2), Backbone)


def test_gradients_are_the_models(model: nn.Module, images: torch.Tensor) -> None:
    backbone = EagerBackbone(copy.deepcopy(model).double(), "fc")
    model.double()(images.double()).square().sum().backward()
    found = gradients(backbone, images.double())
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("unfrozen", "first", "last"), [(None, True, True), (BLOCKS, True, True), (1, False, True), (0, False, False)]
)
def test_the_last_blocks_learn(
    model: nn.Module, images: torch.Tensor, unfrozen: int | None, first: bool, last: bool
) -> None:
    backbone = trainable(model, NAME, unfrozen)
    learning = {name for name, p in backbone.named_parameters() if p.requires_grad}
    assert ("conv1.0.weight" in learning, "conv5.0.weight" in learning, "fc.weight" in learning) == (first, last, last)
    if unfrozen == 1:
        assert learning == {"conv5.0.weight", "conv5.1.weight", "conv5.1.bias", "fc.weight", "fc.bias"}
    if learning:
        assert gradients(backbone, images).keys() == learning


def test_parameters_of_no_block_learn_with_the_first() -> None:
    model = architecture("vit_b_32").undrawn(4)
    for unfrozen, learns in ((None, True), (14, True), (13, False)):
        backbone = EagerBackbone(model, "heads.head", unfrozen)
        found = dict(backbone.named_parameters())
        assert found["class_token"].requires_grad is found["encoder.pos_embedding"].requires_grad is learns
        assert found["encoder.layers.encoder_layer_0.ln_1.weight"].requires_grad


def test_asleep_nothing_learns(model: nn.Module, images: torch.Tensor) -> None:
    backbone = EagerBackbone(model, "fc")
    backbone.asleep = True
    assert not backbone.train()(images).requires_grad
    backbone.asleep = False
    assert backbone(images).requires_grad


def test_norms_keep_their_statistics_unless_asked(model: nn.Module, images: torch.Tensor) -> None:
    before = copy.deepcopy(model.state_dict())
    for train_norms, changes in ((False, set()), (True, {"conv5.1"})):
        backbone = trainable(copy.deepcopy(model), NAME, 1, train_norms).train()
        backbone(images + 1)
        after = backbone.state_dict()
        changed = {name.rpartition(".")[0] for name in before if not torch.equal(before[name], after[name])}
        assert changed == changes


def test_checkpointing_gives_the_same_gradients_and_a_copy_is_a_copy(model: nn.Module, images: torch.Tensor) -> None:
    plain = gradients(trainable(copy.deepcopy(model), NAME, 4), images)
    again = trainable(model, NAME, 4, checkpointing=True)
    copied = copy.deepcopy(again)
    found = gradients(again, images)
    assert found.keys() == plain.keys()
    for name, gradient in plain.items():
        torch.testing.assert_close(found[name], gradient)
    assert all(parameter.grad is None for parameter in copied.parameters())
    assert gradients(copied, images).keys() == plain.keys()


def test_more_blocks_than_there_are_are_refused_with_their_number(model: nn.Module) -> None:
    check_unfrozen(model, NAME, BLOCKS)
    check_unfrozen(model, NAME, None)
    with pytest.raises(SettingError, match=f"--unfreeze 19: expected at least 0 and at most {BLOCKS}, the blocks of"):
        check_unfrozen(model, NAME, BLOCKS + 1)
