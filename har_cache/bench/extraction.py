"""Stage one, part by part and as a whole: the same code, the same batches, all cores at once."""

import itertools
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from ..cache.record import ClipRecord
from ..cache.writer import Store
from ..data.index import read_index
from ..encoder.architectures.packing import Packed, pack, transform_of
from ..encoder.encoder import favoured
from ..encoder.transform import crop
from ..encoder.weights import load_encoder
from ..errors import ClipError, DataError
from ..extraction.extract import extract
from ..extraction.gpu.batches import BATCH
from ..extraction.gpu.feed import share_tables
from ..settings.extraction import ExtractSettings
from ..settings.names import MNASNET, PRECISIONS
from ..video.decode import VideoReader
from ..workers.pool import WorkerPool
from ..workers.tasks import Job
from . import tasks as rates
from .device import DeviceParts
from .measurements import Measurements

UNIT = "frames/s"
_MOST_CLIPS = 64
_PIPELINE = 8  # times the seconds of a part: it has to get going first


class _FrameTimes:
    """Times at which frames were done, clip by clip."""

    def __init__(self) -> None:
        self._times = [(time.perf_counter(), 0)]

    def add(self, clip: ClipRecord) -> None:
        """Note when a clip was done."""
        self._times.append((time.perf_counter(), self._times[-1][1] + clip.frames))

    def speed(self, workers: int) -> float:
        """Frames a second while all workers were at it: without their first two clips, for which they start, and
        without the last ones, when some have none left. Either weighs nothing in the minutes that HMDB51 takes.
        """
        margin = len(self._times) // 4
        begun, before = self._times[min(2 * workers, margin)]
        ended, after = self._times[-1 - min(workers, margin)]
        return (after - before) / (ended - begun)


class Extraction:
    """Stage one on some clips of a data set, ready to be measured; `precision` is what `auto` chose for them."""

    def __init__(
        self,
        data: Path,
        folder: Path,
        device: str,
        workers: int,
        seconds: float,
        stack: ExitStack,
        encoder: str = MNASNET,
    ) -> None:
        """Raises HarCacheError on data of which no clip can be decoded. `folder`: an empty one, for caches."""
        clips = read_index(data).clips
        self._clips = clips[:: -(-len(clips) // _MOST_CLIPS)]
        self.paths = tuple(clip.path for clip in self._clips)
        self._folder, self._device, self._workers, self._seconds = folder, device, workers, seconds
        self._settings = ExtractSettings(
            data=folder, cache=folder / "cache", encoder=encoder, weights="random", device=device, workers=workers
        )
        # Makes the encoder, and tells how many frames there are.
        self._frames = extract(replace(self._settings, data=self._linked(1))).frames
        if not self._frames:
            raise DataError(f"{data}: none of the {len(self._clips)} clips tried can be decoded")
        store = Store(folder / "cache")
        plan = store.read_plan()
        assert plan is not None
        self.precision = plan.recipe.precision
        model = load_encoder(store.encoder_bytes(), encoder)
        self._pixels = transform_of(plan.recipe)
        self._operations = _operations(model, self._pixels.crop)
        packed = pack(model, encoder, self._pixels)
        encoders = {name: packed for name in PRECISIONS if name in {"fp32", self.precision, *favoured(device)}}
        self._parts = None if device == "cpu" else DeviceParts(encoders, self.paths[0], device, seconds, stack)
        self._pool = stack.enter_context(WorkerPool(self._decoding_job(plan.recipe.decoder, stack), workers))
        self._encoders = {name: self._encoder(packed, name, stack) for name in encoders}

    def measure(self, measured: Measurements) -> None:
        """Every part once, and the whole."""
        decoding = rates.store if self._parts else rates.decode
        decode = self._everywhere(self._pool, decoding, self.paths)
        measured.record(
            "decode", UNIT, decode, self._everywhere(self._pool, rates.bare_decode, self.paths), "the codec alone"
        )
        transform, copied = self._transform()
        measured.record("transform", UNIT, transform, copied, "copying the same bytes")
        speeds = {name: encoder() for name, encoder in self._encoders.items()}
        for name, speed in speeds.items():
            limit = self._products(name) / self._operations
            measured.record(f"encode {name}", UNIT, speed, limit, "matrix products of as many operations")
        computed = 1 / (1 / transform + 1 / speeds[self.precision])
        if self._parts:
            handed = self._parts.hand_over()
            measured.record("hand over", UNIT, handed, self._parts.copy(), "copying the same bytes to the device")
            predicted = min(decode, handed, computed)
        else:
            predicted = 1 / (1 / decode + 1 / computed)
        measured.record("pipeline", UNIT, self._pipeline(predicted), predicted, "what its parts allow")

    def _decoding_job(self, decoder: str, stack: ExitStack) -> Job:
        tables = share_tables(self._parts.tables, stack) if self._parts else ()
        return Job(decoder, tables=tables, transform=self._pixels)

    def _linked(self, times: int) -> Path:
        """A data set of the clips, each of them `times` times."""
        folder = self._folder / f"videos{times}"
        if folder.exists():
            return folder
        for clip, copy in itertools.product(self._clips, range(times)):
            link = folder / Path(clip.key).parent / f"{copy}_{clip.path.name}"
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(clip.path.absolute())
        return folder

    def _pipeline(self, expected: float) -> float:
        times = max(1, round(_PIPELINE * self._seconds * expected / self._frames))
        settings = replace(
            self._settings,
            data=self._linked(times),
            cache=self._folder / "again",
            weights=str(self._folder / "cache" / "encoder.safetensors"),
            precision=self.precision,
            overwrite=True,
        )
        frame_times = _FrameTimes()
        extract(settings, on_clip=frame_times.add)
        return frame_times.speed(self._workers)

    def _everywhere(self, pool: WorkerPool, part: Callable[..., float], *args: Any) -> float:
        """Speed of all workers together, a second."""
        calls = ((None, (*args, self._seconds)) for _ in range(self._workers))
        total = 0.0
        for _, outcome in pool.run(part, calls):
            if isinstance(outcome, ClipError):
                raise outcome
            total += outcome
        return total

    def _transform(self) -> tuple[float, float]:
        if self._device == "cpu":
            path = self.paths[0]
            return self._everywhere(self._pool, rates.transform, path), self._everywhere(self._pool, rates.copy, path)
        with VideoReader(self.paths[0]) as video:
            frames = torch.from_numpy(next(video.chunks(BATCH))).to(self._device)
        how = self._pixels.crop, self._pixels
        crops = crop(frames, *how)
        here = rates.on_device(lambda: len(crop(frames, *how)), self._seconds, self._device)
        copied = rates.on_device(lambda: len(frames.clone()) + 0 * len(crops.clone()), self._seconds, self._device)
        return here, copied

    def _encoder(self, packed: Packed, precision: str, stack: ExitStack) -> Callable[[], float]:
        """Measurement of the encoder at one precision."""
        if self._parts:
            return partial(self._parts.encode, precision)
        pool = stack.enter_context(WorkerPool(Job("pyav", packed, precision, transform=self._pixels), self._workers))
        return partial(self._everywhere, pool, rates.encode, self.paths[0])

    def _products(self, precision: str) -> float:
        """Operations a second of matrix products at the lowest precision in use."""
        dtype = {"fp": "float", "bf": "bfloat"}[precision[:2]] + precision[2:4]
        if self._device == "cpu":
            return self._everywhere(self._pool, rates.multiply, dtype)
        return rates.on_device(rates.products(dtype, self._device, 4096), self._seconds, self._device)


def _operations(model: torch.nn.Module, side: int) -> int:
    """Multiplications and additions that one frame takes."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model(torch.zeros(1, 3, side, side))
    return int(counter.get_total_flops())
