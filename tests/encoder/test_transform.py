import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from torchvision.models import MNASNet0_5_Weights
from torchvision.transforms import functional as official

from har_cache.encoder.transform import CROP, MEAN, STD, crop, normalise

from ..helpers.networks import pictures

OFFICIAL = MNASNet0_5_Weights.IMAGENET1K_V1.transforms()
SIZES = st.integers(8, 700)


def noise(height, width, count=2):
    generator = torch.Generator().manual_seed(height * 1000 + width)
    return torch.randint(0, 256, (count, height, width, 3), generator=generator, dtype=torch.uint8)


def official_crop(frames):
    """The official transform up to its rounded pixels."""
    pixels = official.resize(frames.permute(0, 3, 1, 2), 256, OFFICIAL.interpolation, antialias=OFFICIAL.antialias)
    return official.center_crop(pixels, CROP)


def assert_official(frames):
    crops = crop(frames)
    assert crops.shape == (len(frames), 3, CROP, CROP)
    assert torch.equal(crops, official_crop(frames).float())
    torch.testing.assert_close(normalise(crops), OFFICIAL(frames.permute(0, 3, 1, 2)), rtol=0, atol=1e-6)


@given(SIZES, SIZES)
@example(8, 48)
@example(48, 8)
@example(700, 117)
@example(256, 700)
@example(700, 256)
@example(224, 224)
@example(255, 378)
@example(489, 255)
@settings(max_examples=80)
def test_every_size_gives_the_official_pixels_bit_for_bit(height, width):
    assume(max(height, width) <= 6 * min(height, width))
    assert_official(noise(height, width))


@pytest.mark.parametrize(
    ("width", "height"),
    [(320, 240), (424, 240), (560, 240), (340, 256), (240, 320), (256, 256), (255, 257), (257, 255), (1280, 720)],
)
def test_the_sizes_of_real_clips_give_the_official_pixels_bit_for_bit(width, height):
    assert_official(noise(height, width))
    assert_official(pictures(1, height, width))


def test_constants_are_the_official_ones():
    assert list(MEAN) == OFFICIAL.mean
    assert list(STD) == OFFICIAL.std
    assert OFFICIAL.crop_size == [CROP]


@pytest.mark.parametrize(("height", "width"), [(240, 320), (256, 340), (256, 256), (224, 224)])
def test_crops_are_whole_numbers_in_channels_last_and_the_frames_stay_as_they_were(height, width):
    frames = noise(height, width)
    before = frames.clone()
    crops = crop(frames)
    assert crops.dtype == torch.float32
    assert crops.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(crops, crops.round())
    assert crops.min() >= 0
    assert crops.max() <= 255
    crops.fill_(0)
    assert torch.equal(frames, before)


def test_normalise_keeps_the_layout_and_leaves_its_input_alone():
    crops = crop(noise(240, 320))
    before = crops.clone()
    normalised = normalise(crops)
    assert normalised.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(crops, before)


def test_a_frame_does_not_depend_on_its_neighbours():
    frames = noise(240, 320, count=5)
    together = crop(frames)
    for i in range(len(frames)):
        assert torch.equal(crop(frames[i : i + 1]), together[i : i + 1])


def test_frames_need_not_be_contiguous():
    frames = noise(240, 320, count=6)
    assert torch.equal(crop(frames[::2].flip(2)), crop(frames[::2].flip(2).contiguous()))


@given(SIZES, SIZES)
@settings(max_examples=30)
@example(240, 320)
@example(320, 240)
@example(256, 301)
@example(333, 256)
def test_more_of_a_frame_has_the_same_pixels_in_its_middle(height, width):
    assume(max(height, width) < 20 * min(height, width))
    wide = crop(noise(height, width), 256)
    assert wide.shape == (2, 3, 256, 256)
    assert torch.equal(wide[..., 16:240, 16:240], crop(noise(height, width)))
