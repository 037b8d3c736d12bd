import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from har_cache.encoder.folded import FoldedBlock, FoldedConv, fold
from har_cache.encoder.onnx_graph import Graph, _merged

from ..helpers.networks import activations, calibrated_model, picture_crops


@pytest.fixture(scope="module")
def folded():
    return fold(calibrated_model())


@torch.inference_mode()
@pytest.mark.parametrize("blocks", [1, 2, 3, 6, 17, 18])
def test_the_first_blocks_give_what_torchvisions_layers_give(folded, blocks):
    _, expected = list(activations(calibrated_model()))[blocks - 1]
    found = Graph(folded.blocks[:blocks])(picture_crops()[:4])
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0, atol=5e-4)  # rounding adds up from block to block


def test_a_frame_gives_the_same_bits_among_any_others(folded):
    graph, crops = Graph(folded.blocks[:6]), picture_crops()[:5]
    together = graph(crops)
    assert all(torch.equal(graph(crops[i : i + 1])[0], together[i]) for i in range(5))


def test_frames_in_either_memory_format(folded):
    graph, crops = Graph(folded.blocks[:2]), picture_crops()[:2]
    plain = crops.contiguous(memory_format=torch.contiguous_format)
    assert plain.stride() != crops.stride()
    assert torch.equal(graph(plain), graph(crops))


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_do_not_change_a_bit(folded, threads):
    before = torch.get_num_threads()
    expected = Graph(folded.blocks)(picture_crops()[:2])
    try:
        torch.set_num_threads(threads)
        assert torch.equal(Graph(folded.blocks)(picture_crops()[:2]), expected)
    finally:
        torch.set_num_threads(before)


def conv(rng, inputs, outputs, size=1, relu=False):
    weight = rng.standard_normal((outputs, inputs, size, size)).astype(np.float32)
    return FoldedConv(weight, rng.standard_normal(outputs).astype(np.float32), 1, size // 2, 1, relu)


def computed(blocks, x):
    for block in blocks:
        y = x
        for c in block.convs:
            y = F.conv2d(y, torch.from_numpy(c.weight), torch.from_numpy(c.bias), c.stride, c.padding, 1, c.groups)
            y = y.relu() if c.relu else y
        x = y + x if block.residual else y
    return x


CHANNELS = st.integers(1, 12)


@given(st.integers(0, 99), CHANNELS, CHANNELS, CHANNELS, st.booleans(), st.booleans(), st.sampled_from([1, 3]))
def test_merging_changes_nothing(seed, first, middle, last, relu, residual, size):
    rng = np.random.default_rng(seed)
    blocks = [
        FoldedBlock((conv(rng, 4, first, 3, relu=True), conv(rng, first, middle, relu=relu)), residual=False),
        FoldedBlock((conv(rng, middle, last, size), conv(rng, last, middle, relu=True)), residual),
    ]
    x = torch.randn(1, 4, 5, 5, generator=torch.Generator().manual_seed(seed))
    merged = _merged(blocks)
    torch.testing.assert_close(computed(merged, x), computed(blocks, x), rtol=1e-3, atol=1e-3)
    assert sum(len(block.convs) for block in merged) == 4 - (
        not relu and not residual and size == 1 and first * last <= 1.5 * middle * (first + last)
    )


def test_three_in_a_row_are_merged_pair_by_pair():
    rng = np.random.default_rng(0)
    blocks = [FoldedBlock((conv(rng, 4, 4), conv(rng, 4, 4)), residual=False) for _ in range(3)]
    x = torch.randn(1, 4, 5, 5, generator=torch.Generator().manual_seed(0))
    merged = _merged([*blocks, FoldedBlock((conv(rng, 4, 4),), residual=False)])
    assert [len(block.convs) for block in merged] == [2, 1, 1, 1]
    torch.testing.assert_close(computed(merged[:3], x), computed(blocks, x), rtol=1e-3, atol=1e-3)


def test_the_stem_and_the_first_block_are_merged_and_no_others(folded):
    counts = [len(block.convs) for block in folded.blocks]
    assert [len(block.convs) for block in _merged(folded.blocks)] == [3, 2, *counts[2:]]
