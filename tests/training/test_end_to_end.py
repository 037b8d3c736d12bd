from dataclasses import replace

import pytest
import torch

from har_cache.encoder.transform import crop, normalise
from har_cache.model.head import Head
from har_cache.model.network import Backbone, CNNBidirectionalRNN
from har_cache.settings import HeadSettings, TuneSettings
from har_cache.training.augment import Augmentation
from har_cache.training.batches import Batch
from har_cache.training.end_to_end import EndToEnd, FineTuner

from ..helpers.networks import calibrated_model, pictures

SETTINGS = TuneSettings(epochs=4, frames=2, batch_size=2, lr=1e-2, backbone_lr=0.1, head_epochs=2, warmup=0.25)
MASK = torch.ones(2, 2, dtype=torch.bool)


def network(unfreeze: int | None = 2) -> CNNBidirectionalRNN:
    torch.manual_seed(0)
    return CNNBidirectionalRNN(Backbone(calibrated_model(), unfreeze), Head(3, HeadSettings(hidden=4, width=4)))


@pytest.fixture(scope="module")
def frames() -> torch.Tensor:
    """uint8 (2, 2, 256, 256, 3)."""
    return crop(pictures(4), 256).permute(0, 2, 3, 1).to(torch.uint8).unflatten(0, (2, 2))


def test_only_training_changes_the_frames(frames: torch.Tensor) -> None:
    model = EndToEnd(network(), Augmentation())
    exact = normalise(crop(pictures(4))).unflatten(0, (2, 2))
    with torch.inference_mode():
        assert torch.equal(model.eval()(frames, MASK), model.network(exact, MASK))
        model.train()
        model.network.head.eval()  # without its dropout
        assert not torch.equal(model(frames, MASK), model.network(exact, MASK))
        model.augmentation = None
        assert torch.equal(model(frames, MASK), model.network(exact, MASK))


def test_the_backbone_learns_later_and_more_slowly() -> None:
    module = FineTuner(network(), SETTINGS, steps=6)
    made = module.configure_optimizers()
    optimizer, schedule = made["optimizer"], made["lr_scheduler"]["scheduler"]  # type: ignore[call-overload,index]
    rates = []
    for _ in range(24):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    head, backbone = [row[0] for row in rates], [row[2] for row in rates]
    assert max(head) == pytest.approx(SETTINGS.lr) and all(row[0] == row[1] and row[2] == row[3] for row in rates)
    assert backbone[:12] == [0.0] * 12 and 0 < backbone[12] < backbone[14]
    assert all(b == pytest.approx(0.1 * h) for h, b in zip(head[18:], backbone[18:], strict=True))


def test_a_frozen_backbone_has_no_group() -> None:
    made = FineTuner(network(unfreeze=0), SETTINGS, steps=6).configure_optimizers()
    assert len(made["optimizer"].param_groups) == 2  # type: ignore[call-overload,index]


def test_steps_are_counted_after_accumulation() -> None:
    assert FineTuner(network(), replace(SETTINGS, accumulate=4), steps=9).steps == 3


def test_every_tensor_is_saved_once_under_the_network_s_names() -> None:
    module = FineTuner(network(), SETTINGS, steps=6)
    assert {name.removeprefix("model.network.") for name in module.state_dict()} == set(network().state_dict())


def test_a_batch_whose_clips_have_all_failed_teaches_nothing(frames: torch.Tensor) -> None:
    module = FineTuner(network(), SETTINGS, steps=6)
    empty = Batch(frames[:0], MASK[:0], torch.zeros(0, dtype=torch.long))
    assert module.training_step(empty, 0) is None
    module.validation_step(empty, 0)
    module.validation_step(Batch(frames, MASK, torch.tensor([0, 1])), 0)
    assert module.sums[2] == 2
