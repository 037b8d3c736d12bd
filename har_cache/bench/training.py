"""Stage two on a stand-in for HMDB51's cache: opening it, and an epoch of training, beside what they cannot beat."""

import hashlib
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ..cache.reader import FeatureCache
from ..data.hmdb51 import CLASSES, CLIPS
from ..data.splits import TEST, TRAIN
from ..model.head import Head
from ..progress import Progress
from ..sample_data.standin import Strengths, write_standin
from ..settings.training import TrainSettings
from ..training.batches import Batch, Sequences, TrainBatches
from ..training.heads import head_trainer
from ..training.loop import parameter_groups
from .measurements import Measurements

FRAMES, _BATCH = 32, 64
_STEPS = 20
_MB = 1e6


class HeadTraining:
    """A cache of HMDB51's size, ready to be opened and trained on."""

    def __init__(self, folder: Path, device: str) -> None:
        """`folder`: where the cache and runs may be written."""
        self._folder, self._device = folder, device
        self._cache = write_noise(folder / "standin")
        self._sequences = Sequences.from_cache(self._cache, device)

    def measure(self, measured: Measurements) -> None:
        """Open the cache once, and train for two epochs, of which the second counts."""
        files = sorted((self._cache.path / "shards").glob("*.h5"))
        size = sum(file.stat().st_size for file in files) / _MB
        hashed = _seconds(lambda: [hashlib.sha256(file.read_bytes()).digest() for file in files])
        opened = _seconds(lambda: Sequences.from_cache(FeatureCache(self._cache.path)))
        measured.record("open the cache", "MB/s", size / opened, size / hashed, "reading and hashing its files")

        clips = np.arange(_STEPS * _BATCH)
        batches = TrainBatches(self._sequences, clips, FRAMES, _BATCH, seed=0)
        bare = self._bare(list(batches))
        ours = self._ours(batches, self._sequences.eval_batches(clips[:_BATCH], FRAMES))
        what = f"a bare loop over ready batches of {_BATCH} x {FRAMES} frames"
        measured.record("train the head", "clips/s", len(clips) / ours, len(clips) / bare, what)

    def _model(self) -> Head:
        torch.manual_seed(0)
        return Head(len(self._cache.classes)).to(self._device)

    def _ours(self, batches: TrainBatches, held_out: list[Batch]) -> float:
        trainer = head_trainer(self._model(), TrainSettings(epochs=2), _STEPS)
        trainer.fit(batches, held_out, Path(tempfile.mkdtemp(dir=self._folder)), Progress(), resume=False)
        return trainer.rows[1]["seconds"]

    def _bare(self, batches: Iterable[Batch]) -> float:
        model, settings = self._model().train(), TrainSettings()
        optimizer = torch.optim.AdamW(parameter_groups(model, settings.weight_decay), lr=settings.lr)
        kind = torch.device(self._device).type
        amp = kind == "cuda" and torch.cuda.is_bf16_supported()

        def epoch() -> None:
            for inputs, mask, labels in batches:
                with torch.autocast(kind, torch.bfloat16, enabled=amp):
                    logits = model(inputs, mask)
                loss = F.cross_entropy(logits.float(), labels, label_smoothing=settings.label_smoothing)
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
            if kind == "cuda":
                torch.cuda.synchronize()

        epoch()
        return _seconds(epoch)


def write_noise(root: Path) -> FeatureCache:
    """A cache of HMDB51's size, of noise: 6,766 clips of 51 classes, about 640,000 frames, 330 MB. Half of each class's
    clips train in all splits, and the others test.
    """
    parts = [TRAIN if i // CLASSES % 2 else TEST for i in range(CLIPS)]
    subsets = {f"action{i % CLASSES:02d}/{i:05d}.avi": (part, part, part) for i, part in enumerate(parts)}
    return write_standin(root, subsets, Strengths(noise=1), splits_from="drawn")


def _seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun
