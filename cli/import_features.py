"""`har-cache import`."""

from har_cache.settings.exchange import ImportSettings

from .console import Bar
from .extract import tell
from .options import AllowFailed, Json


def import_features(settings: ImportSettings, allow_failed: AllowFailed = False, as_json: Json = False) -> None:
    """Features that another tool has made -> a verified cache: train-head, evaluate and report work from there.

    A file a clip, .npy or .npz, (frames, dim), as video_features, clip-video-encode and export-features write them. Run
    it again to go on, or to add new clips. Exit code 3: some clips failed (see failures.csv in the cache).
    """
    from har_cache.exchange.import_features import import_features as take

    tell(take(settings, Bar()), settings.cache, "Imported", allow_failed, as_json)
