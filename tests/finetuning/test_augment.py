from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from har_cache.encoder.transform import crop, normalise, squash
from har_cache.finetuning import augment
from har_cache.finetuning.augment import Augmentation, augmentation_for, augmented, centred

from ..helpers.caches import make_recipe
from ..helpers.fake_cuda import fake_cuda
from ..helpers.networks import pictures

NOTHING = Augmentation(least_area=1.0, aspect=1.0, colour=0.0, flip=0.0)


def clips(b: int = 2, t: int = 3) -> torch.Tensor:
    """uint8 (b, t, 256, 256, 3): all frames of a clip are the same picture."""
    frames = crop(pictures(b), 256).permute(0, 2, 3, 1).to(torch.uint8)
    return frames[:, None].expand(b, t, -1, -1, -1).contiguous()


def test_what_is_evaluated_is_the_transform_to_the_last_bit() -> None:
    assert torch.equal(centred(clips())[:, 0], normalise(crop(pictures(2))))
    whole = squash(pictures(2))
    assert torch.equal(centred(whole.permute(0, 2, 3, 1).to(torch.uint8)[:, None])[:, 0], normalise(whole))


def test_without_change_the_whole_picture_is_seen() -> None:
    seen = augmented(clips(), NOTHING)
    small = torch.nn.functional.interpolate(crop(pictures(2), 256), (224, 224), mode="bilinear")
    torch.testing.assert_close(seen[:, 0], normalise(small), rtol=0, atol=1e-3)


def test_frames_of_a_clip_are_changed_alike_and_clips_are_not() -> None:
    torch.manual_seed(0)
    seen = augmented(clips(2, 4), Augmentation())
    assert seen.shape == (2, 4, 3, 224, 224) and seen.dtype == torch.float32
    assert (seen == seen[:, :1]).all()
    same = clips(1, 4).repeat(2, 1, 1, 1, 1)
    first, second = augmented(same, Augmentation())
    assert (first - second).abs().mean() > 0.05


def test_the_same_seed_draws_the_same() -> None:
    draws = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        draws.append(augmented(clips(), Augmentation()))
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])


def test_a_flip_mirrors() -> None:
    plain = augmented(clips(), NOTHING)
    mirrored = augmented(clips(), Augmentation(least_area=1.0, aspect=1.0, colour=0.0, flip=1.0))
    torch.testing.assert_close(mirrored, plain.flip(-1), rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("views", "flip", "whole"),
    [
        (("center",), 0.0, 0.0),
        (("center", "flip"), 0.5, 0.0),
        (("center", "full"), 0.0, 1 / 2),
        (("center", "flip", "full"), 0.5, 1 / 3),
    ],
)
def test_clips_are_mirrored_and_shown_whole_only_where_stage_two_saw_such_ones(
    views: tuple[str, ...], flip: float, whole: float
) -> None:
    """Of 64 clips all alike: none, or about half."""
    how = augmentation_for(make_recipe(views=views))
    assert how == replace(Augmentation(), flip=flip, whole=whole)
    torch.manual_seed(0)
    windows = augment._windows(64, how, torch.device("cpu"))
    mirrored = int((windows[:, 0, 0] < 0).sum())
    assert mirrored == 0 if flip == 0 else 20 < mirrored < 44


def test_colours_stay_colours() -> None:
    torch.manual_seed(0)
    wild = augmented(clips(4, 1), Augmentation(least_area=1.0, aspect=1.0, colour=0.9, flip=0.0))
    low, high = normalise(torch.zeros(1, 3, 224, 224)).amin(), normalise(torch.full((1, 3, 224, 224), 255.0)).amax()
    assert wild.isfinite().all() and wild.amin() >= low - 1e-5 and wild.amax() <= high + 1e-5


def test_autocast_around_it_changes_no_pixel() -> None:
    """In bfloat16 it would move them by half of one."""
    exact = centred(clips())
    torch.manual_seed(0)
    random = augmented(clips())
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(centred(clips()), exact)
        torch.manual_seed(0)
        assert torch.equal(augmented(clips()), random)


@pytest.mark.parametrize("transform", [centred, augmented])
def test_on_a_gpu_nothing_is_brought_there_but_once(transform: Callable[[torch.Tensor], torch.Tensor]) -> None:
    augment._grey.cache_clear()
    with fake_cuda() as asked:
        frames = torch.zeros(2, 3, 256, 256, 3, dtype=torch.uint8, device="cuda")
        for _ in range(2):
            asked.clear()
            assert transform(frames).device.type == "cuda"
    augment._grey.cache_clear()
    assert asked.kernels > 0 and not any(operation.mixes_devices for operation in asked)
    assert not any("cpu" in operation.devices for operation in asked)
    assert all(made.device.type == "cuda" for operation in asked for made in operation.made)
