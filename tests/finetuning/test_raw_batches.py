from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from har_cache.encoder.transform import Square
from har_cache.finetuning.augment import centred
from har_cache.finetuning.raw_batches import RawClips, RawEvalBatches
from har_cache.settings.training import TuneSettings
from har_cache.training.batches import Batch
from har_cache.workers.prefetch import FramePrefetcher, LoaderStats

from ..helpers.moves import cuda_in_name
from ..helpers.videos import moving_frames, reference_frames, write_video

SIZES = [(320, 240), (176, 240), (360, 288), (256, 256), (640, 360), (640, 64), (240, 320)]
FRAMES = 3


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Clips of 2 to 8 frames, and one that is none."""
    folder = tmp_path_factory.mktemp("clips")
    files = [write_video(folder / f"{i}.avi", moving_frames(2 + i, *size)) for i, size in enumerate(SIZES)]
    (folder / "none.avi").write_bytes(b"none")
    return [*files[:3], folder / "none.avi", *files[3:]]


@contextmanager
def opened(files: list[Path], as_decoded: bool, device: str = "cpu") -> Iterator[RawClips]:
    keys = [f"a/{file.name}" for file in files]
    cache: Any = SimpleNamespace(clip_keys=keys, frames=np.array([2, 3, 4, 2, 5, 6, 7, 8]))
    with FramePrefetcher(FRAMES, workers=1, ahead=3, as_decoded=as_decoded) as prefetcher:
        yield RawClips(cache, np.arange(len(files)), dict(zip(keys, files, strict=True)), prefetcher, device)


def batches(
    files: list[Path], as_decoded: bool, device: str = "cpu", whole: list[bool] | None = None
) -> tuple[list[Batch], dict[str, str]]:
    with opened(files, as_decoded, device) as raw:
        clips, place = torch.arange(len(files)), torch.tensor(0.5)
        return list(raw.batches(clips, FRAMES, place, 3, LoaderStats(), whole)), raw.failures


def same(a: list[Batch], b: list[Batch]) -> bool:
    pairs = [(x, y) for one, other in zip(a, b, strict=True) for x, y in zip(one, other, strict=True)]
    return all(x.dtype == y.dtype and torch.equal(x, y) for x, y in pairs)


def test_validation_takes_the_middles_as_the_network_takes_them_and_leaves_out_what_fails(files: list[Path]) -> None:
    settings = TuneSettings(frames=FRAMES, batch_size=3)
    shown, _ = batches(files, as_decoded=False)
    with opened(files, as_decoded=False) as raw:
        found = list(RawEvalBatches(raw, np.arange(len(files)), settings))
    assert [batch.labels.tolist() for batch in found] == [[0, 1, 2], [4, 5], [6, 7]]
    assert same(found, [batch._replace(inputs=centred(batch.inputs)) for batch in shown])


def test_frames_that_the_device_resizes_are_those_that_workers_resize(
    files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clips of all sizes in one batch, and one that fails."""
    by_workers, failures = batches(files, as_decoded=False)
    assert list(failures) == ["a/none.avi"] and [len(batch.labels) for batch in by_workers] == [3, 2, 2]
    # Each clip has kept its own.
    assert [batch.labels.tolist() for batch in by_workers] == [[0, 1, 2], [4, 5], [6, 7]]
    assert [batch.mask.sum(1).tolist() for batch in by_workers] == [[2, 3, 3], [3, 3], [3, 3]]
    assert all(batch.inputs.shape[1:] == (FRAMES, 256, 256, 3) for batch in by_workers)
    assert not by_workers[0].mask[0, 2] and torch.equal(by_workers[0].inputs[0, 2], by_workers[0].inputs[0, 0])
    assert same(batches(files, as_decoded=True)[0], by_workers)
    with cuda_in_name(monkeypatch) as cuda:
        assert same(batches(files, as_decoded=True, device="cuda:1")[0], by_workers)
    assert "cuda:1" in cuda.places


@pytest.mark.parametrize("as_decoded", [False, True])
def test_clips_are_shown_whole_one_by_one(files: list[Path], as_decoded: bool) -> None:
    every = [batches(files, as_decoded, whole=[shown] * len(files))[0] for shown in (False, True)]
    middles, wholes = (torch.cat([batch.inputs for batch in found]) for found in every)
    assert wholes.shape == middles.shape and wholes.dtype == torch.uint8
    frames = torch.from_numpy(reference_frames(files[1])[[0, 1, 2]])
    assert torch.equal(wholes[1], Square(whole=True).of(frames)) and not torch.equal(wholes[1], middles[1])
    drawn = [False, True, True, False, True, False, False, True]
    mixed = torch.cat([batch.inputs for batch in batches(files, as_decoded, whole=drawn)[0]])
    del drawn[3]  # of the clip that fails
    assert torch.equal(mixed, torch.stack([(wholes if shown else middles)[i] for i, shown in enumerate(drawn)]))
