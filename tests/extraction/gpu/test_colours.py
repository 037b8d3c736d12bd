import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from har_cache.extraction.gpu import colours
from har_cache.extraction.gpu.colours import to_rgb
from har_cache.video.pixels import Layout, Pixels, from_table, rgb_table
from har_cache.workers.ring import PIECE_BYTES

from ...helpers.fake_cuda import fake_cuda


@pytest.fixture(scope="module")
def table():
    return rgb_table(Pixels.BT601)


def planes_of(frame, layout):
    ends = np.cumsum([rows * width for rows, width in layout.planes])
    return [part.reshape(shape) for part, shape in zip(np.split(frame, ends[:-1]), layout.planes, strict=True)]


@given(height=st.integers(1, 20), width=st.integers(1, 33), count=st.integers(1, 5), at_once=st.integers(1, 2000))
@settings(max_examples=60, deadline=None)
def test_planes_become_the_tables_colours(table, height, width, count, at_once):
    layout = Layout(height, width, Pixels.BT601)
    frames = np.random.default_rng(height * width).integers(0, 256, (count, layout.frame_bytes), np.uint8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(colours, "_AT_ONCE", at_once)
        rgb = to_rgb(torch.from_numpy(frames), layout, {Pixels.BT601: torch.from_numpy(table.view(np.int32))})
    assert rgb.dtype == torch.uint8
    assert np.array_equal(rgb.numpy(), [from_table(planes_of(frame, layout), table) for frame in frames])


def test_rgb_stays_as_it_is():
    frames = torch.arange(2 * 3 * 4 * 3, dtype=torch.uint8).view(2, -1)
    rgb = to_rgb(frames, Layout(3, 4), {})
    assert rgb.shape == (2, 3, 4, 3) and rgb.data_ptr() == frames.data_ptr()


@pytest.mark.parametrize(
    ("size", "count"), [((240, 320), 256), ((240, 427), 256), ((1080, 1920), 21), ((4320, 7680), 1)]
)
def test_a_gpu_does_it_in_a_few_kernels_and_little_memory(size, count):
    """Of pieces as large as they come."""
    layout = Layout(*size, Pixels.BT601)
    with fake_cuda() as operations:
        table = torch.empty(1 << 24, dtype=torch.int32, device="cuda")
        stored = torch.empty(count, layout.frame_bytes, dtype=torch.uint8, device="cuda")
        assert stored.numel() <= PIECE_BYTES
        operations.clear()
        rgb = to_rgb(stored, layout, {Pixels.BT601: table})
        assert rgb.shape == (count, *size, 3) and rgb.device.type == "cuda"
    assert not any(operation.mixes_devices for operation in operations)
    assert not any("cpu" in operation.devices for operation in operations)
    assert operations.largest <= 128 << 20
    assert operations.kernels <= 8 * -(-count * size[0] * size[1] // (1 << 25)) + 1
