from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from har_cache import plots
from har_cache.progress import Progress
from har_cache.reproduction.protocol import Protocol, read_protocol
from har_cache.reproduction.reproduce import Reproduction, reproduce
from har_cache.sample_data.standin import Strengths, write_standin
from har_cache.settings.tools import ProtocolSettings, ReproduceSettings
from har_cache.settings.training import HeadSettings, TrainSettings

from ..helpers.synthetic import small_subsets


class Told(Progress):
    """Keeps what is said; interrupts in the second epoch of a training once a file is there."""

    def __init__(self, stop: Path | None = None) -> None:
        self.lines: list[str] = []
        self._stop = stop

    def say(self, text: str) -> None:
        self.lines.append(text)

    def advance(self, count: int = 1, note: str = "") -> None:
        if self._stop and note.startswith("epoch 2 of ") and self._stop.exists():
            raise KeyboardInterrupt


@dataclass(frozen=True)
class Done:
    """A finished reproduction without videos, and what it said. Tests leave its directory as it is."""

    settings: ReproduceSettings
    found: Reproduction
    told: tuple[str, ...]

    @property
    def training(self) -> ProtocolSettings:
        """The settings of the two protocols in it."""
        s = self.settings
        return ProtocolSettings(
            cache=s.cache, run=s.runs / "protocol", training=s.training, head=s.head, device=s.device
        )

    @property
    def protocol(self) -> Protocol:
        """What came of both."""
        return read_protocol(self.training.run)


def _save_nothing(figure: object, path: Path) -> None:
    Image.new("L", (1, 1)).save(path)


@pytest.fixture(scope="session")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """Of a cache of 5 classes of 12 films: hardly any sign of the class, and much of the film and the clip. As in
    HMDB51, no split uses every clip.
    """
    folder = tmp_path_factory.mktemp("reproduction")
    subsets = small_subsets(classes=5, sources=12, clips=3)
    for key in list(subsets)[::5]:
        first, second, third = subsets[key]
        subsets[key] = (first, second, 0) if first == 2 else (0, second, third)
    write_standin(folder / "cache", subsets, Strengths(action=0.1, scene=1.0, film=0.5, clip=1.0, noise=0.3))
    settings = ReproduceSettings(
        cache=folder / "cache",
        runs=folder / "runs",
        seeds="0-1",
        folds=2,
        training=TrainSettings(epochs=6, frames=4, lr=5e-3),
        head=HeadSettings(hidden=8, width=16),
        device="cpu",
    )
    told = Told()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots, "_save", _save_nothing)  # 40 pictures, which take half of the time
        found = reproduce(settings, told)
    assert found is not None
    return Done(settings, found, tuple(told.lines))
