"""The encoder on CUDA, proved without a GPU: what it asks of one, and what a GPU's rounding would make of it."""

from functools import cache

import numpy as np
import pytest
import torch

from har_cache.encoder import encoder
from har_cache.encoder.encoder import FAITHFUL, Encoder, centred_cosine, choose_precision, favoured
from har_cache.encoder.folded import fold
from har_cache.encoder.projection import fit_pca
from har_cache.encoder.transform import crop, normalise
from har_cache.encoder.weights import build_encoder, calibrate, random_model

from ..helpers.fake_cuda import fake_cuda
from ..helpers.networks import calibrated_model, picture_crops
from ..helpers.rounding import emulated_cuda
from ..helpers.shared import VIDEOS
from ..helpers.videos import read_chunks

VIEWS = ("center", "flip")


@pytest.fixture(scope="module", autouse=True)
def real():
    """What is kept from test to test is made before anything is emulated."""
    reference()


@cache
def folded():
    return fold(calibrated_model())


@cache
def crops():
    return picture_crops()[:24]


@cache
def reference():
    return Encoder(folded())(crops())[0]


def is_depthwise(x, weight):
    return weight.shape[1] == 1


def never(x, weight):
    return False


def always(x, weight):
    return True


def embedded(precision, refuses=never, **how):
    """The encoder of a GPU, emulated, and what it gives for the pictures."""
    with emulated_cuda(refuses, **how):
        gpu = Encoder(folded(), precision, device="cuda")
        return gpu, gpu(crops())[0]


@pytest.mark.parametrize(("refuses", "refused"), [(never, 0), (is_depthwise, 17), (always, 35)])
def test_fused_or_refused_the_embeddings_are_those_of_plain_fp32(refuses, refused):
    gpu, embeddings = embedded("fp32", refuses)
    assert centred_cosine(reference(), embeddings).min() >= 0.99999
    assert len(gpu.refused) == refused
    assert all("unable to find an engine" in reason for reason in gpu.refused)


def test_refused_convolutions_are_told_by_their_place():
    gpu, _ = embedded("fp32", is_depthwise)
    assert [line.partition(":")[0] for line in gpu.refused[:3]] == [
        "block 0, convolution 1",
        "block 1, convolution 1",
        "block 2, convolution 1",
    ]


def test_the_first_frames_decide_what_is_fused_and_later_ones_do_not():
    with emulated_cuda(always):
        gpu = Encoder(folded(), device="cuda")
        assert gpu.refused == []
        first = gpu(crops()[:2])
    with emulated_cuda(never):
        assert torch.equal(gpu(crops()[:2]), first)
    assert len(gpu.refused) == 35


def test_a_cpu_refuses_nothing():
    cpu = Encoder(folded(), "fp16")
    cpu(crops()[:1])
    assert cpu.refused == []


# What a GPU's rounding makes of it


@pytest.mark.parametrize("refuses", [never, is_depthwise, always])
def test_fp16_with_the_stem_in_fp32_is_ten_times_as_faithful_as_asked(refuses):
    _, embeddings = embedded("fp16-mixed", refuses)
    assert centred_cosine(reference(), embeddings).min() >= 0.999


def test_low_precision_in_the_stem_shows():
    lowest = {
        name: float(centred_cosine(reference(), embedded(name)[1]).min()) for name in ("fp16", "bf16", "bf16-mixed")
    }
    assert FAITHFUL <= lowest["fp16"] < 0.999
    assert lowest["bf16"] < lowest["bf16-mixed"] < FAITHFUL


def test_tf32_rounds_as_fp16_does_so_that_fp32_must_be_true():
    _, embeddings = embedded("fp32", tf32=True)
    assert FAITHFUL <= centred_cosine(reference(), embeddings).min() < 0.999


def test_what_auto_takes_first_on_cuda_passes_with_a_margin():
    with emulated_cuda():
        precision, cosine = choose_precision(folded(), crops(), "cuda")
    assert precision == next(favoured("cuda")) == "fp16-mixed"
    assert cosine >= 0.999


@pytest.mark.skipif(not VIDEOS.is_dir(), reason="needs real clips beside the checkout")
def test_on_real_clips_what_auto_takes_first_on_cuda_passes_with_a_margin():
    clips = [np.concatenate(list(read_chunks(path))) for path in sorted(VIDEOS.rglob("*.avi"))]
    seen = torch.cat([crop(torch.from_numpy(clip[:: len(clip) // 6][:6])) for clip in clips])
    model = random_model(0)
    calibrate(model, [normalise(seen)])
    weight, bias = fit_pca(Encoder(fold(model)).features(seen).numpy())
    network = fold(build_encoder({**model.state_dict(), "classifier.weight": weight, "classifier.bias": bias}))
    with emulated_cuda():
        precision, cosine = choose_precision(network, seen, "cuda")
    assert precision == next(favoured("cuda")) == "fp16-mixed"
    assert cosine >= 0.999


# What it asks of a GPU


@pytest.fixture(params=["all are fused", "depthwise are not", "none is"])
def unfused(request, monkeypatch):
    """How many convolutions cuDNN does not fuse."""
    refuses, count = {"all are fused": (never, 0), "depthwise are not": (is_depthwise, 17), "none is": (always, 35)}[
        request.param
    ]
    refusal = encoder.CudnnConv._refusal
    monkeypatch.setattr(
        encoder.CudnnConv, "_refusal", lambda conv, x: "refused" if refuses(x, conv.weight) else refusal(conv, x)
    )
    return count


def asked_for(precision, views=VIEWS, count=256):
    """What a batch asks of the device, once all is decided, and the encoder."""
    with fake_cuda() as asked:
        gpu = Encoder(folded(), precision, views, "cuda")
        frames = torch.empty(count, 240, 320, 3, dtype=torch.uint8, device="cuda")
        gpu(crop(frames))
        assert not [operation for operation in asked if operation.mixes_devices]
        asked.clear()
        embeddings = gpu(crop(frames))
        assert embeddings.shape == (len(views), count, 256)
        assert (embeddings.dtype, embeddings.device.type) == (torch.float32, "cuda")
    return asked


@pytest.mark.parametrize("precision", ["fp16", "fp16-mixed", "fp32"])
def test_every_convolution_of_every_view_is_channels_last_on_the_device(unfused, precision):
    asked = asked_for(precision)
    assert len(asked.convolutions) == 2 * 52
    for convolution in asked.convolutions:
        assert convolution.devices == {"cuda:0"}
        (made,) = convolution.made
        assert made.channels_last
    assert not [operation for operation in asked if operation.mixes_devices]


def test_a_view_takes_62_kernels_for_its_blocks_and_two_more_for_each_convolution_that_is_not_fused(unfused):
    asked = asked_for("fp16", ("center",))
    blocks = [each for each in asked if each.is_convolution or each.name in ("relu_", "add_", "add", "relu")]
    assert sum(each.kernels for each in blocks) == 62 + 2 * unfused
    assert asked.count("cudnn_convolution_relu") == 35 - unfused


def test_beside_its_blocks_a_view_takes_few_kernels():
    extra = {name: asked_for(name, ("center",)).kernels - 62 for name in ("fp32", "fp16", "fp16-mixed")}
    # crop, in three parts: 16 for two taps each way and the rounding; joined; normalise, pool, projection, stack; to
    # fp16 and back
    assert extra == {"fp32": 53, "fp16": 55, "fp16-mixed": 55}


def test_the_flip_view_takes_one_kernel_more_than_another_view():
    per_view = 62 + 5  # normalise, to fp16, and back, pool, projection
    assert asked_for("fp16").kernels - asked_for("fp16", ("center",)).kernels == per_view + 1


def test_a_batch_waits_for_nothing_once_all_is_decided(unfused):
    assert asked_for("fp16-mixed").waits == 0


@pytest.mark.parametrize(("precision", "bytes_a_frame"), [("fp16", 224 * 224 * 12), ("fp32", 24 * 112 * 112 * 4)])
def test_the_largest_tensor_of_a_batch_is_that_of_its_pictures_or_of_a_convolution(precision, bytes_a_frame):
    assert asked_for(precision).largest == 256 * bytes_a_frame


def test_from_the_stem_on_no_tensor_of_fp16_mixed_is_fp32():
    convolutions = [operation.made[0].dtype for operation in asked_for("fp16-mixed", ("center",)).convolutions]
    assert convolutions == [torch.float32] * 3 + [torch.float16] * 49
