"""`har-cache download` of a small copy of HMDB51's archives, as a process that can be killed: PUBLISHED OUT."""

import pickle
import sys
from pathlib import Path

from har_cache_cli.console import Bar, friendly

from har_cache.downloading.download import Means, download
from har_cache.downloading.fetch import RetryPolicy
from har_cache.settings import DownloadSettings

from ..helpers.websites import website


def main(published: Path, out: Path) -> None:
    """Serve the archives of a folder beside, whose release is pickled in it, and download them."""
    release = pickle.loads((published / "release.pickle").read_bytes())
    with website({f"/{path.name}": path.read_bytes() for path in published.glob("*.rar")}) as site:
        hurry = RetryPolicy(timeout_s=2, attempts=2, pause_s=0.01)
        with friendly(False):
            download(DownloadSettings(out=out, mirrors=(site.url,)), Bar(), Means(release=release, retry=hurry))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
