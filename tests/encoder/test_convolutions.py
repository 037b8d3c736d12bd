from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from har_cache.encoder import convolutions
from har_cache.encoder.convolutions import Block, Conv, CudnnConv, PackedConv
from har_cache.encoder.folded import FoldedBlock, FoldedConv

from ..helpers.networks import activations
from ..helpers.rounding import emulated_cuda

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(params=["packed", "plain"])
def kind(request, monkeypatch):
    if request.param == "plain":
        monkeypatch.setattr(convolutions, "can_pack", lambda dtype: False)
    elif not convolutions.can_pack(torch.float32):
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


def test_without_the_cpus_support_for_a_type_nothing_is_packed(monkeypatch):
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_fp16_supported", lambda: False, raising=False)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False, raising=False)
    assert not convolutions.can_pack(torch.float16)
    assert not convolutions.can_pack(torch.bfloat16)


def conv(relu=True, bias=True, channels=8):
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(channels, channels, 3, 3)).astype(np.float32)
    biases = rng.normal(size=channels) if bias else np.zeros(channels)
    return FoldedConv(weight, biases.astype(np.float32), stride=2, padding=1, groups=1, relu=relu)


def pixels(count=2, channels=8):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(count, channels, 9, 9, generator=generator)
    return x.contiguous(memory_format=torch.channels_last)


def plain(folded, x):
    y = F.conv2d(x, torch.from_numpy(folded.weight), torch.from_numpy(folded.bias), 2, 1)
    return y.relu() if folded.relu else y


class Cudnn:
    """Stands for `torch.cudnn_convolution_relu`: counts its calls, and does to the right result what it is told."""

    def __init__(self, change=lambda y, call: y):
        self.calls, self.change = 0, change

    def __call__(self, x, weight, bias, stride, padding, dilation, groups):
        self.calls += 1
        return self.change(F.conv2d(x, weight, bias, stride, padding, dilation, groups).relu(), self.calls)


@pytest.fixture
def cudnn(monkeypatch):
    def install(*args):
        stand_in = Cudnn(*args)
        monkeypatch.setattr(torch, "cudnn_convolution_relu", stand_in)
        return stand_in

    return install


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_cudnn_computes_bias_and_relu_in_one_call_once_it_has_shown_that_it_can(cudnn, dtype):
    stand_in = cudnn()
    fused = CudnnConv(conv(), dtype, CPU)
    x = pixels().to(dtype)
    assert fused.refused == ""
    for calls in (3, 4, 5):  # two to see, then one each
        y = fused(x)
        assert stand_in.calls == calls
        assert y.dtype == dtype
        assert y.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(y.float(), plain(conv(), pixels()), rtol=1e-2, atol=2e-2)
    assert fused.refused == ""


def no_kernel(y, call):
    raise RuntimeError("GET was unable to find an engine\nto execute this computation")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (no_kernel, "GET was unable to find an engine"),
        (lambda y, call: y + call * 1e-6, "other bits the second time"),
        (lambda y, call: y * 1.1, "off by"),
        (lambda y, call: y.where(y > y.max() / 2, np.nan), "other bits"),  # NaN is never equal to itself
        (lambda y, call: torch.zeros_like(y), "off by"),
    ],
)
def test_where_cudnns_kernel_cannot_be_relied_on_the_numbers_are_those_of_plain_operators(cudnn, change, reason):
    stand_in = cudnn(change)
    fused, unfused = CudnnConv(conv(), torch.float32, CPU), Conv(conv(), torch.float32, CPU)
    assert torch.equal(fused(pixels()), unfused(pixels()))
    assert reason in fused.refused
    assert "\n" not in fused.refused
    tried = stand_in.calls
    assert torch.equal(fused(pixels(5)), unfused(pixels(5)))
    assert stand_in.calls == tried  # decided once


def test_what_lies_in_memory_that_a_result_will_take_is_nan_when_cudnn_is_tried(cudnn, monkeypatch):
    poison = []
    full_like = torch.full_like
    monkeypatch.setattr(
        torch, "full_like", lambda y, value: poison.append((tuple(y.shape), value)) or full_like(y, value)
    )
    stand_in = cudnn(lambda y, call: y if len(poison) == call else y + 1)
    fused = CudnnConv(conv(), torch.float32, CPU)
    fused(pixels())
    assert fused.refused == ""
    assert [shape for shape, _ in poison] == [(2, 8, 5, 5)] * 2
    assert all(np.isnan(value) for _, value in poison)
    assert stand_in.calls == 3


def test_too_little_memory_is_no_refusal(cudnn):
    def out_of_memory(y, call):
        raise torch.OutOfMemoryError("CUDA out of memory")

    cudnn(out_of_memory)
    fused = CudnnConv(conv(), torch.float32, CPU)
    with pytest.raises(torch.OutOfMemoryError):
        fused(pixels())
    assert fused.refused == ""
    cudnn()
    fused(pixels())
    assert fused.refused == ""


def test_no_frames_decide_nothing(cudnn):
    stand_in = cudnn()
    fused = CudnnConv(conv(), torch.float32, CPU)
    assert fused(pixels(0)).shape == (0, 8, 5, 5)
    assert stand_in.calls == 0
    fused(pixels())
    assert stand_in.calls == 3


def test_a_residual_is_added_before_the_relu_whatever_cudnn_can_do(cudnn):
    stand_in = cudnn()
    residual = torch.full((2, 8, 5, 5), -1.0).contiguous(memory_format=torch.channels_last)
    y = CudnnConv(conv(), torch.float32, CPU)(pixels(), residual)
    torch.testing.assert_close(y, (plain(replace(conv(), relu=False), pixels()) - 1).relu())
    assert stand_in.calls == 0


def test_a_bias_of_zeros_is_not_added():
    assert Conv(conv(bias=False), torch.float32, CPU).bias is None
    x = pixels()
    torch.testing.assert_close(Conv(conv(bias=False), torch.float32, CPU)(x), plain(conv(bias=False), x))


def test_on_cuda_convolutions_with_a_relu_are_left_to_cudnn():
    block = FoldedBlock((conv(), conv(relu=False)), residual=False)
    with emulated_cuda():
        kinds = [type(each) for each in Block(block, torch.float16, CUDA).convs]
    assert kinds == [CudnnConv, Conv]


@pytest.mark.parametrize("kind", [Conv, CudnnConv])
def test_weights_are_laid_out_as_the_pixels_are(kind):
    """Else cuDNN would be handed a copy of them, laid out anew, in every call."""
    assert kind(conv(), torch.float16, CPU).weight.is_contiguous(memory_format=torch.channels_last)
