import pickle
import subprocess
import sys
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from har_cache.encoder.folded import fold, without_linear_biases
from har_cache.encoder.transform import normalise

from ..helpers.networks import picture_crops


def test_the_folded_encoder_holds_every_convolution_and_the_projection(model, folded):
    convs = [conv for block in folded.blocks for conv in block.convs]
    plain = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d)]
    assert [conv.weight.shape for conv in convs] == [tuple(layer.weight.shape) for layer in plain]
    assert len(folded.blocks) == 18
    assert [block.residual for block in folded.blocks[1:-1]] == [
        block.apply_residual for stack in list(model.layers)[8:14] for block in stack
    ]
    assert any(block.residual for block in folded.blocks)
    assert np.array_equal(folded.weight, model.classifier.weight.detach())
    assert np.array_equal(folded.bias, model.classifier.bias.detach())


def test_folding_leaves_the_model_alone_and_shares_nothing_with_it(model):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    folded = fold(model)
    for block in folded.blocks:
        for conv in block.convs:
            conv.weight.fill(0)
    folded.weight.fill(0)
    folded.bias.fill(0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_the_folded_encoder_travels_to_workers_as_plain_arrays(folded):
    data = pickle.dumps(folded)
    assert b"torch" not in data
    assert np.array_equal(pickle.loads(data).blocks[3].convs[1].weight, folded.blocks[3].convs[1].weight)


def test_workers_need_not_import_torchvision():
    code = "import sys, har_cache.encoder; sys.exit('torchvision' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@torch.inference_mode()
def run(folded, crops):
    """What the blocks make of some frames, convolution by convolution, in float64: (frames, 1280, 7, 7)."""
    x = normalise(crops).double()
    for block in folded.blocks:
        y = x
        for conv in block.convs:
            shape = conv.stride, conv.padding, 1, conv.groups
            y = F.conv2d(y, torch.from_numpy(conv.weight).double(), torch.from_numpy(conv.bias).double(), *shape)
            y = y.relu() if conv.relu else y
        x = x + y if block.residual else y
    return x


def test_without_linear_biases_the_network_gives_the_same(folded):
    pushed = without_linear_biases(folded)
    convs = [conv for block in pushed.blocks for conv in block.convs]
    assert [conv.relu for conv in convs].count(False) == 17
    assert all(conv.bias.any() == conv.relu for conv in convs)
    assert all(conv.bias.dtype == np.float32 for conv in convs)
    expected, found = run(folded, picture_crops()[:2]), run(pushed, picture_crops()[:2])
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6 * float(expected.max()))


def test_linear_biases_are_pushed_in_float64(folded):
    """Biases a million times as large as the rest: float32 sums on the way would show."""
    large = replace(
        folded.blocks[1],
        convs=(*folded.blocks[1].convs[:-1], replace(folded.blocks[1].convs[-1], bias=np.float32([1e6, 1e-3] * 8))),
    )
    before = replace(folded, blocks=(folded.blocks[0], large, *folded.blocks[2:]))
    pushed = without_linear_biases(before)
    second = folded.blocks[2].convs[0]
    lacking = large.convs[-1].bias.astype(np.float64)
    exact = second.bias + second.weight[:, :, 0, 0].astype(np.float64) @ lacking
    assert np.array_equal(pushed.blocks[2].convs[0].bias, exact.astype(np.float32))


def test_pushing_biases_leaves_the_folded_encoder_as_it_was(folded):
    before = [conv.bias.copy() for block in folded.blocks for conv in block.convs]
    without_linear_biases(folded)
    after = [conv.bias for block in folded.blocks for conv in block.convs]
    assert all(map(np.array_equal, before, after))
    assert any((conv.bias != 0).any() for block in folded.blocks for conv in block.convs if not conv.relu)
