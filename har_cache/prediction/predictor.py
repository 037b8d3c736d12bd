"""A run's network, ready for any video that decodes, from the run's directory alone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..data.leakage import groups
from ..encoder.encoder import CPU_BATCH, Encoder
from ..encoder.folded import fold
from ..encoder.transform import crop
from ..errors import HarCacheError
from ..evaluation.inference import probabilities
from ..evaluation.scores import ranked
from ..model.load import load_network
from ..model.load import read_info as read_facts
from ..model.run import Run
from ..system import resolve_device
from ..training.batches import Sequences
from ..video.decode import VideoInfo, probe, read_chunks

_CHUNK_BYTES = 32 << 20  # of frames decoded at a time


@dataclass(frozen=True)
class Prediction:
    """What a run makes of one video.

    `embeddings`: of every frame, float32 (views, frames, 256); `probabilities`: float32 (classes). `true`: the class
    whose folder the video is in, None where it is in no such folder; `known`: what the run knew of the clip before,
    `seen`, `sibling` or `clean`, None where that cannot be told.
    """

    video: Path
    info: VideoInfo
    embeddings: Tensor
    classes: Sequence[str]
    probabilities: np.ndarray
    true: str | None
    known: str | None

    @property
    def frames(self) -> int:
        """How many frames decode."""
        return self.embeddings.shape[1]

    @property
    def correct(self) -> bool | None:
        """Whether the likeliest class is the true one; None where that is not known."""
        return None if self.true is None else self.top(1)[0][0] == self.true

    def top(self, count: int) -> list[tuple[str, float]]:
        """The likeliest classes and their probabilities, in falling order."""
        order = ranked(self.probabilities[None])[0, :count]
        return [(self.classes[i], float(self.probabilities[i])) for i in order]


class Predictor:
    """The network of a run on one device. Raises HarCacheError where the run, or the device, cannot be used."""

    def __init__(self, run: Run, device: str = "auto") -> None:
        self.device = resolve_device(device)
        self.run, self.facts = run, read_facts(run)
        network = load_network(run)
        self._encoder = Encoder(fold(network.encoder), "fp32", self.facts.views, self.device)
        self._head = network.head

    def predict(self, video: Path) -> Prediction:
        """What the network makes of a video. Raises ClipError where that does not decode."""
        info = probe(video)
        size = max(1, min(CPU_BATCH, _CHUNK_BYTES // (3 * info.width * info.height)))
        parts = [self._encoder(crops.to(self.device)) for crops in _crops(video, size)]
        embeddings = torch.cat(parts, dim=1)
        folder = video.absolute().parent.name
        true = folder if folder in self.facts.classes else None
        known = groups(self.run.clips, [f"{folder}/{video.name}"])[0] if true else None
        found = self.judge(embeddings)
        return Prediction(video, info, embeddings, self.facts.classes, found, true, known)

    def judge(self, embeddings: Tensor) -> np.ndarray:
        """Class probabilities, float32 (classes), from embeddings of a clip's frames, (views, frames, 256).

        As `evaluate` has them: averaged over the views, and over three ways to take the run's number of frames. Of a
        clip's first frames alone it says what it would say if there were no more.
        """
        clip = torch.tensor([0, embeddings.shape[1]], device=self.device)
        sequences = Sequences(embeddings, clip, clip[:1])
        found = probabilities(self._head, sequences, np.zeros(1, np.int64), self.facts.frames)[0]
        if not np.isfinite(found).all():
            raise HarCacheError(f"{self.run.path}: the model's probabilities are not finite; train it again")
        return found


def _crops(video: Path, size: int) -> Iterator[Tensor]:
    return (crop(torch.from_numpy(chunk)) for chunk in read_chunks(video, size=size))
