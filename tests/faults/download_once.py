"""`har-cache download` of a small copy of HMDB51's archives, as a process that can be killed: PUBLISHED OUT."""

# ruff: noqa: I001 - the command's own start comes first: until all is imported, Ctrl-C ends the process at once
import har_cache_cli.starting  # noqa: F401

import pickle
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from har_cache.downloading import download as module
from har_cache.downloading.download import Means
from har_cache.downloading.fetch import RetryPolicy
from har_cache.settings.tools import DownloadSettings

from ..helpers.websites import website

from har_cache_cli.main import main

_download = module.download


def _from_beside(settings: DownloadSettings, *more: Any) -> Any:
    """Serve the archives of a folder, whose release is pickled in it, and download them from there."""
    published = Path(settings.mirrors[0])
    release = pickle.loads((published / "release.pickle").read_bytes())
    with website({f"/{path.name}": path.read_bytes() for path in published.glob("*.rar")}) as site:
        hurry = RetryPolicy(timeout_s=2, attempts=2, pause_s=0.01)
        return _download(replace(settings, mirrors=(site.url,)), *more, Means(release=release, retry=hurry))


if __name__ == "__main__":
    module.download = _from_beside
    sys.argv = ["har-cache", "download", "--from", sys.argv[1], "--out", sys.argv[2]]
    main()
