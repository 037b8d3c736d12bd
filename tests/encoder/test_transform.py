import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from torchvision.models import MNASNet0_5_Weights
from torchvision.transforms import functional as official

from har_cache.encoder import resize, transform
from har_cache.encoder.transform import (
    CROP,
    MEAN,
    STD,
    TRANSFORM,
    Square,
    Transform,
    crop,
    described,
    normalise,
    squash,
)

from ..helpers.fake_cuda import fake_cuda, recorded
from ..helpers.networks import pictures

OFFICIAL = MNASNet0_5_Weights.IMAGENET1K_V1.transforms()
SIZES = st.integers(8, 700)


def noise(height, width, count=2):
    generator = torch.Generator().manual_seed(height * 1000 + width)
    return torch.randint(0, 256, (count, height, width, 3), generator=generator, dtype=torch.uint8)


def official_crop(frames, side=CROP):
    """The official transform up to its rounded pixels."""
    pixels = official.resize(frames.permute(0, 3, 1, 2), 256, OFFICIAL.interpolation, antialias=OFFICIAL.antialias)
    return official.center_crop(pixels, side)


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


def official_whole(frames, side=CROP):
    planes = frames.permute(0, 3, 1, 2).contiguous()
    return official.resize(planes, [side, side], OFFICIAL.interpolation, antialias=OFFICIAL.antialias).float()


@given(SIZES, SIZES, st.sampled_from([CROP, 256]))
@example(1, 700, CROP)
@example(700, 1, CROP)
@example(4000, 2, CROP)
@example(8, 8192, 256)
@example(240, 320, CROP)
@example(224, 224, CROP)
@example(224, 320, CROP)
@example(100, 300, CROP)
@settings(max_examples=80)
def test_whole_frames_of_every_size_are_those_of_the_official_resize_bit_for_bit(height, width, side):
    frames = noise(height, width)
    before = frames.clone()
    whole = squash(frames, side)
    assert whole.shape == (2, 3, side, side) and whole.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(whole, official_whole(frames, side))
    assert torch.equal(frames, before)


def test_whole_frames_show_what_crops_leave_out():
    frames = torch.zeros(1, 240, 320, 3, dtype=torch.uint8)
    frames[:, :, :40] = 255
    center, full = transform.pictures(frames, ("center", "flip", "full"))
    assert center.max() == 0 and torch.equal(center, crop(frames))
    assert full[..., :27].min() == 255 and torch.equal(full, squash(frames))
    assert [torch.equal(picture, center) for picture in transform.pictures(frames, ("center", "flip"))] == [True]


def test_only_the_full_view_is_told_beside_the_official_transform():
    assert described(("center",)) == described(("center", "flip")) == TRANSFORM
    assert described(("center", "flip", "full")) == described(("center", "full"))
    assert described(("center", "full")) == f"{TRANSFORM}; full: all of the frame, resize 224x224 bilinear antialias"


@pytest.mark.parametrize(("square", "same"), [(Square(), (256, 256)), (Square(CROP, whole=True), (CROP, CROP))])
def test_squares_are_the_same_pixels_and_once_made_stay(square, same):
    frames = noise(240, 320)
    made = square.of(frames)
    assert made.dtype == torch.uint8 and made.shape == (2, *same, 3)
    assert torch.equal(made.permute(0, 3, 1, 2), (squash(frames) if square.whole else crop(frames, 256)).byte())
    assert square.of(made) is made


def test_frames_as_large_as_a_crop_are_cropped_nevertheless():
    frames = noise(CROP, CROP)
    assert torch.equal(Square(CROP).of(frames).permute(0, 3, 1, 2), crop(frames).byte())


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


@pytest.mark.parametrize(("height", "width"), [(300, 47), (240, 320), (201, 155), (155, 201)])
def test_more_of_a_frame_has_the_official_pixels_up_to_its_edges(height, width):
    """Also where a bilinear sum lies half way between two whole numbers, as at the lower edge of 300x47: there pixels
    show in what order numbers are added, which for a band of one result is another one.
    """
    frames = noise(height, width, 1)
    assert torch.equal(crop(frames, 256), official_crop(frames, 256).float())


def torchs_weights(length, resized):
    """What torch's own resize makes of the unit matrix: float32 (resized, length)."""
    unit = torch.eye(length)[None, None]
    return F.interpolate(unit, (resized, length), mode="bilinear", antialias=True)[0, 0].numpy()


@given(st.integers(1, 400), st.integers(1, 700), st.data())
@example(240, 256, None)
@example(1, 256, None)
@example(320, 341, None)
@example(8, 256, None)
@example(256, 8, None)
@example(7, 7, None)
@settings(max_examples=150)
def test_weights_are_torchs_own_bit_for_bit(length, resized, data):
    first = data.draw(st.integers(0, resized - 1)) if data else 0
    count = data.draw(st.integers(1, resized - first)) if data else resized
    start, weights = resize._dense(length, resized, first, count)
    found = np.zeros((count, length), np.float32)
    found[:, start : start + weights.shape[1]] = weights
    assert np.array_equal(found, torchs_weights(length, resized)[first : first + count])


@pytest.mark.parametrize(("height", "width"), [(8, 1024), (1024, 8), (1, 200)])
def test_thin_frames_give_the_pixels_that_torch_resizes(height, width):
    frames = noise(height, width)
    resized = (256, 256 * width // height) if height < width else (256 * height // width, 256)
    whole = F.interpolate(frames.permute(0, 3, 1, 2).float(), resized, mode="bilinear", antialias=True)
    assert torch.equal(crop(frames), official.center_crop(whole, CROP).round())


THINNEST = pytest.mark.parametrize(
    ("height", "width"),
    [(2, 700), (700, 2), (4000, 2), (2, 4000), (8192, 8), (8, 8192), (8192, 1), (1, 8192), (16, 4096)],
)


EACH = 74  # of the columns that are compared where frames are tall: all of them would take 6 GB


def torchs_window(frames):
    """What torch resizes, one direction after the other, as it does itself, only the window's lines of the first one
    going on; of tall frames a few columns.
    """
    planes = frames.permute(0, 3, 1, 2).float()
    height, width = planes.shape[2:]
    resized = (256, 256 * width // height) if height < width else (256 * height // width, 256)
    wide = middle(F.interpolate(planes, (height, resized[1]), mode="bilinear", antialias=True), 3)
    wide = wide[..., ::EACH] if height > width else wide
    tall = F.interpolate(wide, (resized[0], wide.shape[3]), mode="bilinear", antialias=True)
    return middle(tall, 2).round()


def compared(crops, height, width):
    return crops[..., ::EACH] if height > width else crops


def middle(pixels, dim):
    """The middle 224 of a direction, as `CenterCrop` finds it."""
    return pixels.narrow(dim, round((pixels.shape[dim] - CROP) / 2.0), CROP)


@pytest.mark.parametrize(("height", "width"), [(8, 400), (400, 8), (300, 17)])
def test_torch_resizes_one_direction_after_the_other(height, width):
    frames = noise(height, width)
    assert torch.equal(torchs_window(frames), compared(official_crop(frames).float(), height, width))


@THINNEST
def test_the_thinnest_frames_give_the_pixels_that_torch_resizes(height, width):
    frames = noise(height, width, 1)
    assert torch.equal(compared(crop(frames), height, width), torchs_window(frames))


@THINNEST
def test_the_thinnest_frames_cost_what_their_window_costs(height, width):
    frames = noise(height, width, 2)
    crop(frames)  # makes the weights, which stay
    with recorded() as asked:
        crop(frames)
    assert asked.largest <= 2 * CROP * CROP * 3 * 4
    with recorded() as asked:
        squash(frames)
    assert asked.largest <= max(2 * CROP * CROP * 3, frames.numel()) * 4


@THINNEST
def test_the_thinnest_frames_show_their_middle(height, width):
    frames = torch.zeros(1, height, width, 3, dtype=torch.uint8)
    middle = (
        frames[:, height // 2 - 8 : height // 2 + 8]
        if height > width
        else frames[:, :, width // 2 - 8 : width // 2 + 8]
    )
    middle[:] = torch.tensor([50, 100, 200])
    crops = crop(frames)
    assert crops.shape == (1, 3, CROP, CROP)
    assert [crops[:, colour].unique().tolist() for colour in range(3)] == [[50], [100], [200]]


@pytest.mark.parametrize("at_once", [1, 2, 5])
@pytest.mark.parametrize(("height", "width"), [(300, 400), (400, 300)])
def test_pictures_that_shrink_give_the_same_however_many_are_resized_at_once(monkeypatch, height, width, at_once):
    frames = noise(height, width, count=5)
    expected = crop(frames)
    monkeypatch.setattr(resize, "_WHOLE_BYTES", at_once * 4 * 3 * height * width)
    crops = crop(frames)
    assert torch.equal(crops, expected)
    assert crops.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(squash(frames), official_whole(frames))
    assert squash(frames).is_contiguous(memory_format=torch.channels_last)


def on_fake_cuda(count, height, width, made=crop):
    with fake_cuda() as asked:
        crops = made(torch.empty(count, height, width, 3, dtype=torch.uint8, device="cuda"))
    assert crops.shape == (count, 3, CROP, CROP)
    assert crops.is_contiguous(memory_format=torch.channels_last)
    assert crops.device.type == "cuda"
    assert not [operation for operation in asked if operation.mixes_devices]
    return asked


@pytest.mark.parametrize(
    ("height", "width", "parts"),
    [
        (240, 320, 3),
        (360, 640, 4),
        (720, 1280, 7),
        (64, 8192, 3),  # enlarged: it costs what the window costs
        (8192, 64, 3),
        (16, 4096, 3),
        (256, 256, 0),
    ],
)
def test_on_cuda_as_many_frames_of_a_batch_are_resized_at_once_as_fit_the_bound(height, width, parts):
    asked = on_fake_cuda(256, height, width)
    assert asked.largest <= max(256 << 20, 256 * height * width * 3)  # the frames themselves
    assert (
        max([made.bytes for each in asked for made in each.made if made.dtype == torch.float64], default=0) <= 128 << 20
    )
    assert asked.count("round_") == parts
    assert asked.count("_upsample_bilinear2d_aa") == asked.count("mm") == 0
    assert not [each for each in asked if each.waits]


@pytest.mark.parametrize(("height", "width", "parts"), [(240, 320, 3), (720, 1280, 8), (64, 8192, 3), (112, 112, 3)])
def test_on_cuda_whole_frames_keep_to_the_bound_too(height, width, parts):
    asked = on_fake_cuda(256, height, width, squash)
    assert asked.largest <= max(256 << 20, 256 * height * width * 3)
    assert asked.count("round_") == parts and asked.count("_upsample_bilinear2d_aa") == 0


@pytest.mark.parametrize(("height", "width"), [(8192, 1), (1, 8192), (16, 8192), (8192, 23)])
def test_on_cuda_a_thin_frame_costs_what_its_window_costs(height, width):
    asked = on_fake_cuda(3, height, width)
    assert asked.largest <= max(3 * CROP * CROP * 3 * 8, 3 * height * width * 3)


def test_on_cuda_other_kernels_are_torchs_own():
    asked = on_fake_cuda(4, 240, 320, lambda frames: crop(frames, transform=Transform(kernel="bicubic")))
    assert asked.count("_upsample_bicubic2d_aa") == 1
