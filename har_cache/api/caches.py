"""Data sets and caches: fetched or drawn, embedded, checked, in from other tools and out to them."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..progress import Progress
from ..settings.exchange import ExportFeaturesSettings, ImportSettings
from ..settings.extraction import ExtractSettings
from ..settings.tools import DownloadSettings, SampleSettings
from .keywords import PathLike, command, settings
from .listener import listener

if TYPE_CHECKING:
    from ..downloading.download import DownloadReport
    from ..exchange.export_features import FeatureExport
    from ..extraction.update import ExtractReport
    from ..sample_data.draw import SampleReport


@command(ExtractSettings)
def extract(
    data: PathLike | None, cache: PathLike, *, progress: bool | Progress = True, **options: Any
) -> "ExtractReport":
    """Stage one: embed every frame of the videos in `data` with a frozen encoder, into the directory `cache`.

        report = har_cache.extract("data/sample", "data/caches/sample", weights="random", workers=2)
        print(report.clips, report.failures)

    Called again it goes on after an interruption, or adds what is new. `data` is None where `list=` says which clips
    there are. Clips that cannot be decoded are left out: `report.failures` says why. Raises HarCacheError: bad
    options or data, a cache of another recipe, a directory that cannot be written.
    """
    given = settings(ExtractSettings, options, data=data, cache=cache)
    from ..extraction.extract import extract as stage

    return stage(given, listener(progress))


@command(ImportSettings)
def import_features(
    features: PathLike,
    list: PathLike | Iterable[PathLike],
    cache: PathLike,
    *,
    progress: bool | Progress = True,
    **options: Any,
) -> "ExtractReport":
    """Make a cache of features that another tool has made: a folder of .npy or .npz files, or a Parquet table.

        report = har_cache.import_features("features", "clips.csv", "data/caches/theirs", origin="VideoMAE")

    `list` names the clips, as `extract` has it. Raises HarCacheError: bad options, no such files, a cache of others.
    """
    given = settings(ImportSettings, options, features=features, lists=list, cache=cache)
    from ..exchange.import_features import import_features as take

    return take(given, listener(progress))


@command(ExportFeaturesSettings)
def export_features(
    cache: PathLike, to: PathLike, format: str, *, progress: bool | Progress = True, **options: Any
) -> "FeatureExport":
    """Write the features of a cache for other tools, with labels, sources, splits and times. `format`: npy, parquet,
    webdataset or datasets.

        har_cache.export_features("data/caches/sample", "features", "npy")

    Raises HarCacheError: no such cache or view, a folder that holds other things, a library that is not there.
    """
    given = settings(ExportFeaturesSettings, options, cache=cache, to=to, format=format)
    from ..exchange.export_features import export_features as export

    return export(given, listener(progress))


@command()
def verify(cache: PathLike, data: PathLike | None = None, *, progress: bool | Progress = True) -> list[str]:
    """Recompute every checksum and count of a cache; gives what is wrong, a line each: an empty list where nothing is.
    With `data`, the data set, its files are compared with those that were read, too.

        assert har_cache.verify("data/caches/sample") == []

    Raises DataError where the data set cannot be read.
    """
    from ..cache.verify import verify as find_problems

    return find_problems(Path(cache), None if data is None else Path(data), listener(progress))


@command(DownloadSettings)
def download(out: PathLike, *, progress: bool | Progress = True, **options: Any) -> "DownloadReport":
    """Fetch HMDB51 into the folder `out`, unpack it, and check that all of it is there. Called again it goes on.

        report = har_cache.download("data/hmdb51")
        print(report.missing)

    Raises DownloadError where an archive cannot be had or is not the published one, FileError for the disk.
    """
    given = settings(DownloadSettings, options, out=out)
    given.check()
    from ..downloading.download import download as fetch

    return fetch(given, listener(progress))


@command(SampleSettings)
def sample(out: PathLike, *, progress: bool | Progress = True, **options: Any) -> "SampleReport":
    """Draw a small data set in HMDB51's layout, to try everything on: what tells its classes apart is order in time.

        har_cache.sample("data/sample", classes=4, clips=16)

    Raises HarCacheError: bad options, a folder that holds anything else.
    """
    given = settings(SampleSettings, options, out=out)
    from ..sample_data.draw import draw

    return draw(given, listener(progress))
