import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from har_cache.encoder import folded as fused
from har_cache.encoder.folded import Block, Conv, PackedConv, fold

from ..helpers.networks import activations, calibrated_model

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model():
    return calibrated_model()


@pytest.fixture(scope="module")
def folded(model):
    return fold(model)


@pytest.fixture(params=["packed", "plain"])
def kind(request, monkeypatch):
    if request.param == "plain":
        monkeypatch.setattr(fused, "can_pack", lambda dtype: False)
    elif not fused.can_pack(torch.float32):
        pytest.skip("this build of torch has no fused convolutions")
    return request.param


@torch.inference_mode()
def test_every_block_gives_what_torchvisions_layers_give(model, folded, kind):
    for block, (x, y) in zip(folded.blocks, activations(model), strict=True):
        fast = Block(block, torch.float32, CPU)
        assert {type(conv) for conv in fast.convs} == {PackedConv if kind == "packed" else Conv}
        torch.testing.assert_close(fast(x.clone()), y, rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_a_block_takes_any_number_of_frames_whatever_it_met_first(model, folded, kind):
    x, y = list(activations(model))[2]
    for first in (1, 4):
        fast = Block(folded.blocks[2], torch.float32, CPU)
        fast(x[:first].clone())
        for n in (2, 3, 1, 4):
            torch.testing.assert_close(fast(x[:n].clone()), y[:n], rtol=1e-4, atol=1e-4)


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


def test_without_the_cpus_support_for_a_type_nothing_is_packed(monkeypatch):
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_fp16_supported", lambda: False, raising=False)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False, raising=False)
    assert not fused.can_pack(torch.float16)
    assert not fused.can_pack(torch.bfloat16)
