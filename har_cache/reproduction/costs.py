"""What the steps of a reproduction cost, by rates that were measured on one machine: to be said before they begin."""

from dataclasses import dataclass

from ..cache.manifest import Manifest
from ..cache.recipe import EMBEDDING
from ..data.hmdb51 import CLIPS, FRAMES, TRAIN_CLIPS
from ..data.splits import TRAIN
from ..settings.names import SPLITS
from ..settings.tools import ReproduceSettings
from ..settings.training import TrainSettings

MACHINE = "4 cores of an AMD EPYC (Zen 4), no GPU"
_EMBEDDED = 1210.0  # frames a second, of one view
_TRAINED = 64 * 3060 * 32 / 300  # frames of clips a second, as a head sees them
_TUNED = 1.49 * 32  # the same of a whole network, trained the naive way, which fine-tuning is not slower than
_SCORED_S = 10.0  # a head on a test list, with its linear probes
_ENCODER_BYTES, _RUN_BYTES, _TUNED_RUN_BYTES = 5e6, 20e6, 60e6
_DOWNLOADED = 4.2e9  # archives and clips


@dataclass(frozen=True)
class Cost:
    """Hours on MACHINE, None where the network decides, and bytes on disk."""

    hours: float | None
    size: float

    def __str__(self) -> str:
        return f"{'your network' if self.hours is None else duration(self.hours)}, {self.size / 1e9:.1f} GB"


@dataclass(frozen=True)
class Costs:
    """Costs for a data set of so many clips and frames, `train` of the clips in the training list of a split."""

    settings: ReproduceSettings
    clips: int = CLIPS
    frames: int = FRAMES
    train: int = TRAIN_CLIPS
    splits: tuple[int, ...] = SPLITS

    @classmethod
    def of(cls, settings: ReproduceSettings, manifest: Manifest | None, clips: int | None) -> "Costs":
        """Of the cache, where there is one; else of a data set of so many clips, as long as those of HMDB51; else of
        HMDB51.
        """
        if manifest:
            splits = tuple(range(1, manifest.splits.count + 1))
            train = max(sum(parts[k - 1] == TRAIN for parts in manifest.splits.subsets.values()) for k in splits)
            return cls(settings, manifest.counts.clips, manifest.counts.frames, train, splits)
        share = 1.0 if clips is None else clips / CLIPS
        return cls(settings, round(CLIPS * share), round(FRAMES * share), round(TRAIN_CLIPS * share))

    def download(self) -> Cost:
        """HMDB51 itself."""
        return Cost(None, _DOWNLOADED)

    def extract(self) -> Cost:
        """All frames in all views."""
        embedded = self.frames * len(self.settings.views)
        return Cost(embedded / _EMBEDDED / 3600, embedded * EMBEDDING * 2)

    def heads(self, count: int) -> Cost:
        """So many heads."""
        return Cost(count * self._seen(self.settings.training) / _TRAINED / 3600, count * _RUN_BYTES)

    def scored(self, count: int) -> Cost:
        """So many evaluations of heads."""
        return Cost(count * _SCORED_S * self.train / TRAIN_CLIPS / 3600, 0)

    def tuned(self, training: TrainSettings) -> Cost:
        """A fine-tuned network."""
        return Cost(self._seen(training) / _TUNED / 3600, _TUNED_RUN_BYTES)

    def tuned_scored(self) -> Cost:
        """An evaluation of one, on raw frames: in three places and all views."""
        test = self.train * 3 / 7
        frames = 3 * len(self.settings.views) * self.settings.training.frames
        return Cost(test * frames / _EMBEDDED / 3600, 0)

    def _seen(self, training: TrainSettings) -> float:
        """Frames of clips that a training sees; `frames` is None where it is that of the head."""
        return self.train * training.epochs * (training.frames or self.settings.training.frames)


def duration(hours: float) -> str:
    """Hours in words."""
    return f"{hours:.1f} h" if hours >= 1 else f"{60 * hours:.0f} min" if hours * 60 >= 1 else "under a minute"
