import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import Phase, settings

if TYPE_CHECKING:
    from .helpers.releases import Copy
    from .helpers.websites import Website

# Tests run in as many processes as there are cores. Before torch is imported, or it does not see this.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_configure(config: pytest.Config) -> None:
    """Tests compare with what the CPU gives, on machines with a GPU too; those that are marked `gpu` are run there by
    `-m gpu`, as `make gpu-check` does.
    """
    if "gpu" not in config.option.markexpr:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


# The first example of a test may import torch, and machines that run tests are busy: time says nothing.
settings.register_profile("har-cache", deadline=None)
settings.register_profile(
    "mutants", deadline=None, phases=[Phase.explicit, Phase.generate]
)  # no time for the least case
settings.load_profile("har-cache")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests that need a GPU where there is none."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if marked:
        import torch

        if not torch.cuda.is_available():
            for item in marked:
                item.add_marker(pytest.mark.skip(reason="needs a GPU"))


@dataclass(frozen=True)
class Finished:
    """A data set and its finished cache. Tests read both, and change only copies."""

    data: Path
    cache: Path

    def settings(self, **changes: Any) -> Any:
        """The settings that the cache was made with, some of them changed."""
        from har_cache.settings.extraction import ExtractSettings as Settings

        same = {"weights": "random", "shard_clips": 2, "workers": 2}
        return Settings(**{"data": self.data, "cache": self.cache, **same, **changes})

    def copy(self, folder: Path) -> "Finished":
        """Both of them again, to be changed at will."""
        shutil.copytree(self.data, folder / "data")
        shutil.copytree(self.cache, folder / "cache")
        return Finished(folder / "data", folder / "cache")


@pytest.fixture(scope="session")
def sample_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of 2 actions with 8 clips each, and split lists."""
    from har_cache.sample_data.draw import draw
    from har_cache.settings.tools import SampleSettings

    out = tmp_path_factory.mktemp("drawn") / "data"
    return draw(SampleSettings(out=out, classes=2, clips=8, workers=1)).path


@pytest.fixture(scope="session")
def finished(sample_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The finished cache of `sample_data`: random weights, PCA, everything else as by default; 8 shards of 2 clips."""
    from har_cache.extraction.extract import extract

    made = Finished(sample_data, tmp_path_factory.mktemp("finished") / "cache")
    extract(made.settings())
    return made


def contents(folder: Path) -> dict[str, bytes]:
    """The bytes of all files below a folder, by their paths in it."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def settled(folder: Path) -> dict[str, bytes]:
    """`contents`, less what a killed writer left half-written."""
    return {name: data for name, data in contents(folder).items() if ".tmp-" not in name}


@pytest.fixture
def copy(tmp_path: Path) -> "Copy":
    """A small data set as it would be published: archives, and what is in them."""
    from .helpers.releases import small_copy

    return small_copy(tmp_path / "published")


@pytest.fixture
def site(copy: "Copy") -> Iterator["Website"]:
    """A server that publishes the archives of `copy`."""
    from .helpers.websites import website

    with website(copy.files) as site:
        yield site


@pytest.fixture(scope="session")
def in_worker() -> Iterator[Callable[..., Any]]:
    """Calls a function in a worker process that embeds in all views; gives what came of it, or its ClipError."""
    from har_cache.encoder.folded import fold
    from har_cache.workers.pool import WorkerPool
    from har_cache.workers.tasks import Job

    from .helpers.networks import calibrated_model

    with WorkerPool(Job("pyav", fold(calibrated_model()), "fp32", ("center", "flip", "full")), 1) as workers:
        yield lambda function, *args: workers.outcome(workers.submit(function, *args))


@pytest.fixture(scope="session")
def moving_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip of 37 frames, no two alike."""
    from .helpers.videos import moving_frames, write_video

    return write_video(tmp_path_factory.mktemp("clips") / "clip.avi", moving_frames(37, 320, 240))
