import numpy as np
import pytest
import torch

from har_cache.finetuning.augment import augmented
from har_cache.model.head import Head
from har_cache.model.network import Backbone, CNNBidirectionalRNN
from har_cache.settings.names import CELLS
from har_cache.settings.training import HeadSettings
from har_cache.training.batches import Batch, Sequences, TrainBatches
from har_cache.training.loop import parameter_groups
from har_cache.training.step import Step, adamw

from ..helpers.networks import calibrated_model
from ..helpers.tapes import NoWaiting


def step_of(model: torch.nn.Module) -> Step:
    return Step(model.train(), model, adamw(parameter_groups(model, 0.1), 1e-3), 0.1)


@pytest.mark.parametrize("cell", CELLS)
def test_no_step_of_a_head_waits_for_the_device(cell: str) -> None:
    """Nor does drawing its batch, clips that are shorter than it included."""
    lengths = torch.tensor([0, 3, 9, 40])
    rows = torch.randn(2, 40, 256).half()
    batches = TrainBatches(Sequences(rows, lengths, torch.arange(3)), np.arange(3), 8, 2, seed=0)
    step, waiting = step_of(Head(3, HeadSettings(cell=cell, hidden=4, width=4))), NoWaiting()
    with waiting:
        for batch in batches:
            step.prepare([1e-3, 1e-3], 0.5)
            step(batch)
    assert waiting.operations > 100


@pytest.mark.parametrize("unfrozen", [0, 2])
def test_no_step_of_a_network_waits_for_the_device(unfrozen: int) -> None:
    """Nor does its augmentation."""
    network = CNNBidirectionalRNN(Backbone(calibrated_model(), unfrozen), Head(3, HeadSettings(hidden=4, width=4)))
    step, waiting = step_of(network), NoWaiting()
    frames = torch.randint(256, (2, 2, 256, 256, 3), dtype=torch.uint8)
    with waiting:
        for last in (False, True):
            images = augmented(frames)
            step(Batch(images, torch.ones(2, 2, dtype=torch.bool), torch.tensor([0, 2])), 2, last)
    assert waiting.operations > 400


def test_each_group_has_a_rate_of_its_own_that_stays_where_it_is() -> None:
    layer = torch.nn.Linear(3, 2)
    optimizer = adamw([{"params": [layer.weight]}, {"params": [layer.bias], "lr": 0.5}], 0.25)
    step = Step(layer, layer, optimizer, 0.0)
    rates = [group["lr"] for group in optimizer.param_groups]
    assert [float(rate) for rate in rates] == [0.25, 0.5]
    step.prepare([0.125, 0.0625], 0.0)
    assert [float(rate) for rate in rates] == [0.125, 0.0625]
    assert all(group["lr"] is rate for group, rate in zip(optimizer.param_groups, rates, strict=True))
