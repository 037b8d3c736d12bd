"""A run's network, ready for any video that decodes, from the run's directory alone."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..cache.record import ClipRecord
from ..data.keys import source_of
from ..data.leakage import CLEAN, groups
from ..encoder.architectures.packing import pack, transform_of
from ..encoder.encoder import favoured
from ..encoder.fp32 import true_fp32
from ..errors import HarCacheError
from ..model.config import HEAD
from ..model.load import load_network
from ..model.run import Run
from ..system import one_thread
from ..training.batches import PLACES, draw_frames
from ..workers.tasks import Job
from .windows import Window, find_windows

_BATCH = 256  # clips, or beginnings of them


@dataclass(frozen=True)
class Prediction:
    """Prediction of a run for one video.

    `fps`: frames a second of those that are embedded, 0 where unknown; `embeddings`: float16 (views, frames, dim);
    `probabilities`: float32 (classes). `true`: the class whose folder the video is in, None where it is in no such
    folder; `known`: what the run knew of the clip before, `seen`, `sibling` or `clean`, None where that cannot be told.
    `pictures`: JPEGs for a film, by how many frames had come in with each, rising to all; `windows`: its parts in time,
    where they were asked for.
    """

    video: Path
    fps: float
    embeddings: np.ndarray
    classes: Sequence[str]
    probabilities: np.ndarray
    true: str | None
    known: str | None
    pictures: Mapping[int, bytes] = field(default_factory=dict)
    windows: Sequence[Window] = ()

    @property
    def frames(self) -> int:
        """Number of frames that are embedded."""
        return self.embeddings.shape[1]

    def __repr__(self) -> str:
        [(name, probability)] = self.top(1)
        return f"Prediction({str(self.video)!r}: {name} {probability:.1%})"

    def to_dict(self, count: int | None = None) -> dict[str, Any]:
        """As JSON types: what is known of the video, the probability of each class, or of so many, likeliest first, and
        windows.
        """
        known = {name: getattr(self, name) for name in ("frames", "fps", "true", "correct", "known")}
        count = len(self.classes) if count is None else count
        windows = [
            {**{name: getattr(w, name) for name in ("begin", "end", "frames")}, "top": _named(self.top_of(w, count))}
            for w in self.windows
        ]
        return {"video": str(self.video), **known, "top": _named(self.top(count)), "windows": windows}

    @property
    def correct(self) -> bool | None:
        """Whether the likeliest class is the true one; None where that is not known."""
        return None if self.true is None else self.top(1)[0][0] == self.true

    def top(self, count: int) -> list[tuple[str, float]]:
        """The likeliest classes and their probabilities, in falling order."""
        return _likeliest(self.classes, self.probabilities, count)

    def top_of(self, window: Window, count: int) -> list[tuple[str, float]]:
        """The same of one of its windows."""
        return _likeliest(self.classes, window.probabilities, count)


def _likeliest(classes: Sequence[str], probabilities: np.ndarray, count: int) -> list[tuple[str, float]]:
    order = np.argsort(-probabilities, kind="stable")[:count]
    return [(classes[i], float(probabilities[i])) for i in order]


def _named(likeliest: list[tuple[str, float]]) -> list[dict[str, Any]]:
    return [{"class": name, "probability": probability} for name, probability in likeliest]


class Predictor:
    """The network of a run: its encoder for worker processes, its head on one device.

        predictor = har_cache.Predictor("data/runs/sample")
        embeddings = cache[key]
        [probabilities] = predictor.probabilities(embeddings, [embeddings.shape[1]])

    Raises HarCacheError where the run cannot be used.
    """

    def __init__(self, run: Run | str | os.PathLike[str], device: str = "cpu") -> None:
        self.run = run = run if isinstance(run, Run) else Run.open(run)
        network = load_network(run)
        self._transform = transform_of(run.config.recipe)
        self._encoder = pack(network.encoder, run.config.recipe.model, self._transform)
        self._device = torch.device(device)
        self._head = network.head.to(self._device)

    def job(self, stall_s: float) -> Job:
        """Job of worker processes that embed videos, on CPUs, as they were embedded for the head.

        The precision is that of the cache that the head learnt from, where CPUs like this one are known to favour it,
        else fp32; nobody has looked how faithful another is to an encoder that was fine-tuned since.
        """
        recipe = self.run.config.recipe
        known = self.run.config.stage == HEAD and recipe.precision in favoured("cpu")
        precision = recipe.precision if known else "fp32"
        return Job(
            "pyav",
            self._encoder,
            precision,
            recipe.views,
            frames=recipe.frames,
            transform=self._transform,
            stall_s=stall_s,
        )

    def predict(self, video: Path, clip: ClipRecord) -> Prediction:
        """Prediction for a video that was embedded by such a job."""
        assert clip.embeddings is not None
        folder = video.absolute().parent.name
        true = folder if folder in self.run.config.classes else None
        known = self._known(f"{folder}/{video.name}") if true else None
        found = self.probabilities(clip.embeddings, [clip.embeddings.shape[1]])[0]
        return Prediction(video, clip.rate, clip.embeddings, self.run.config.classes, found, true, known)

    def windows(self, clip: ClipRecord, seconds: float) -> list[Window]:
        """Predictions for each part of a clip that is so many seconds long. Raises ClipError where its frames have no
        times.
        """
        assert clip.embeddings is not None
        found = find_windows(clip, seconds)
        firsts, counts = [first for _, _, first, _ in found], [count for *_, count in found]
        each = self.probabilities(clip.embeddings, counts, firsts)
        return [Window(*row, probabilities) for row, probabilities in zip(found, each, strict=True)]

    def _known(self, key: str) -> str | None:
        """What the run knew of a clip before; None where that takes the clip's source, which its name does not tell."""
        found = groups(self.run.sources, {key: source_of(key)})[0]
        return None if found == CLEAN and self.run.given_sources else found

    @one_thread()
    @torch.inference_mode()
    def probabilities(
        self,
        embeddings: np.ndarray,
        lengths: Sequence[int] | np.ndarray,
        firsts: Sequence[int] | np.ndarray | None = None,
    ) -> np.ndarray:
        """Class probabilities, float32 (n, classes), from the first frames of a clip, for each of these n numbers of
        them, or from as many frames after others: `firsts` are then the numbers of the first ones. `embeddings`:
        (views, frames, dim).

        As `evaluate` has them: averaged over the views, and over three ways to take the run's number of frames. Of
        the first frames it says what it would say if there were no more.
        """
        views = torch.from_numpy(embeddings).to(self._device)
        places = [torch.tensor(place, device=self._device) for place in PLACES]
        counts = torch.as_tensor(lengths, device=self._device)
        begins = torch.zeros_like(counts) if firsts is None else torch.as_tensor(firsts, device=self._device)
        found = []
        with true_fp32(self._device):
            for part, begin in zip(counts.split(_BATCH), begins.split(_BATCH), strict=True):
                drawn = [draw_frames(part, self.run.config.training.frames, place) for place in places]
                each = [
                    self._head(view[begin[:, None] + frames], mask).softmax(1)
                    for frames, mask in drawn
                    for view in views
                ]
                found.append(torch.stack(each).mean(0))
        probabilities = torch.cat(found).cpu().numpy()
        if not np.isfinite(probabilities).all():
            raise HarCacheError(f"{self.run.path}: the model's probabilities are not finite; train it again")
        return probabilities
