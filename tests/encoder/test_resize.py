import torch
import torch.nn.functional as F
from hypothesis import example, given, settings
from hypothesis import strategies as st

from har_cache.encoder import resize
from har_cache.encoder.resize import Window


def noise(height, width, count=1):
    generator = torch.Generator().manual_seed(height * 1000 + width)
    return torch.randint(0, 256, (count, height, width, 3), generator=generator, dtype=torch.uint8)


def torchs(frames, window):
    """What torch's kernel for the CPU gives."""
    whole = F.interpolate(
        frames.permute(0, 3, 1, 2).float(), (window.height, window.width), mode="bilinear", antialias=True
    )
    return whole[..., window.top : window.top + window.rows, window.left : window.left + window.columns].round()


def tap_by_tap(frames, window):
    """What a GPU computes, here."""
    height, width = frames.shape[1:3]
    rows = resize._taps(height, window.height, window.top, window.rows, frames.device)
    columns = resize._taps(width, window.width, window.left, window.columns, frames.device)
    return resize._by_taps(frames, rows, columns)


@settings(max_examples=25)
@given(st.integers(8, 900), st.integers(8, 900), st.integers(16, 300), st.integers(16, 300), st.data())
@example(1080, 1920, 224, 224, None)  # long sums, a part of which the CPU's kernel rounds twice
@example(480, 640, 256, 341, None)
@example(8192, 23, 224, 224, None)
def test_tap_by_tap_pixels_are_those_of_torchs_kernel_for_the_cpu(height, width, tall, wide, data):
    frames = noise(height, width)
    top, left = (data.draw(st.integers(0, size - 8)) if data else 0 for size in (tall, wide))
    window = Window(tall, wide, top, left, tall - top, wide - left)
    found = tap_by_tap(frames, window)
    assert torch.equal(found, torchs(frames, window))
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_without_the_order_of_the_cpus_sums_pixels_would_differ(monkeypatch):
    """Else nothing would have to be imitated."""
    frames, window = noise(480, 640, 4), Window(224, 224, 0, 0, 224, 224)
    assert torch.equal(tap_by_tap(frames, window), torchs(frames, window))
    resize._taps.cache_clear()
    monkeypatch.setattr(resize, "_UNROLLED", 1 << 20)
    assert not torch.equal(tap_by_tap(frames, window), torchs(frames, window))
    resize._taps.cache_clear()


def test_by_products_pixels_are_those_that_torch_resizes():
    frames, window = noise(240, 320, 2), Window(256, 341, 16, 58, 224, 224)
    assert torch.equal(resize._by_products(frames, window), torchs(frames, window))
