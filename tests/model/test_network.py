from collections.abc import Iterator

import pytest
import torch

from har_cache.encoder.transform import normalise
from har_cache.model import network
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


# ------------------------------------------------------------------------------------------- what is folded, and when

CONVOLUTIONS = 52  # in all; in the last two blocks 4


@pytest.fixture
def folded(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[object]]:
    """The convolutions that were folded since it was cleared."""
    found: list[object] = []
    fold = network._fold
    monkeypatch.setattr(network, "_fold", lambda conv, norm: found.append(conv) or fold(conv, norm))
    yield found


def anew(backbone: Backbone, images: torch.Tensor) -> torch.Tensor:
    """What a backbone gives that has folded nothing before."""
    fresh = Backbone(calibrated_model(), BLOCKS - backbone.first, backbone.train_norms).train(backbone.training)
    fresh.load_state_dict(backbone.state_dict())
    fresh.asleep = backbone.asleep
    return fresh(images)


def test_frozen_blocks_are_folded_once_and_learning_ones_in_every_step(
    folded: list[object], images: torch.Tensor
) -> None:
    backbone = Backbone(calibrated_model(), 2).train()
    optimizer = torch.optim.SGD([p for p in backbone.parameters() if p.requires_grad], lr=1e-7)
    with torch.no_grad():
        before = backbone(images)
    assert len(folded) == CONVOLUTIONS
    for _ in range(3):
        folded.clear()
        backbone(images).square().sum().backward()
        assert len(folded) == 4
        optimizer.step()
        optimizer.zero_grad()
    assert torch.equal(backbone(images), anew(backbone, images))
    with torch.no_grad():  # without a word that training is over
        assert torch.equal(backbone(images), anew(backbone, images)) and not torch.equal(backbone(images), before)


@pytest.mark.parametrize(
    ("asleep", "mode"), [(True, torch.enable_grad), (False, torch.no_grad), (False, torch.inference_mode)]
)
def test_where_nothing_learns_all_is_folded_once(
    folded: list[object], images: torch.Tensor, asleep: bool, mode: type
) -> None:
    backbone = Backbone(calibrated_model()).train(asleep)
    backbone.asleep = asleep
    with mode():
        outputs = [backbone(images) for _ in range(3)]
        assert len(folded) == CONVOLUTIONS
        assert torch.equal(outputs[0], anew(backbone, images)) and torch.equal(outputs[0], outputs[2])
    backbone.asleep = False
    assert torch.equal(backbone(images), anew(backbone, images))


def test_what_was_folded_in_inference_mode_may_be_learnt_from(images: torch.Tensor) -> None:
    backbone = Backbone(calibrated_model(), 2)
    with torch.inference_mode():
        backbone(images)
    assert gradients(backbone, images).keys() == gradients(Backbone(calibrated_model(), 2), images).keys()
    with torch.inference_mode():
        backbone(images)
    backbone(images).square().sum().backward()


@pytest.mark.parametrize("how", ["load_state_dict", "loaded as a part", "train", "eval", "to"])
def test_it_is_folded_anew_for_other_weights(images: torch.Tensor, how: str) -> None:
    backbone = Backbone(calibrated_model(), 2)
    other = {name: value * 0.9 for name, value in backbone.state_dict().items() if value.is_floating_point()}
    other = {**backbone.state_dict(), **other}
    with torch.no_grad():
        before = backbone(images)
        if how == "load_state_dict":
            backbone.load_state_dict(other)
        elif how == "loaded as a part":
            torch.nn.Sequential(backbone).load_state_dict({f"0.{name}": value for name, value in other.items()})
        else:
            for name, value in backbone.state_dict().items():
                value.copy_(other[name])
            {"train": backbone.train, "eval": backbone.eval, "to": lambda: backbone.to("cpu")}[how]()
        after = backbone(images)
        assert torch.equal(after, anew(backbone, images)) and not torch.equal(after, before)


def test_norms_that_train_are_never_folded(folded: list[object], images: torch.Tensor) -> None:
    backbone = Backbone(calibrated_model(), 2, train_norms=True).train()
    backbone.asleep = True
    for _ in range(2):
        backbone(images)
    assert len(folded) == CONVOLUTIONS - 4
    before = {name: value.clone() for name, value in backbone.named_buffers()}
    backbone(images)
    assert any(not torch.equal(value, before[name]) for name, value in backbone.named_buffers())
