"""`har-cache standin`."""

from har_cache.settings.tools import StandinSettings

from .console import Bar, print_json, say
from .options import Json


def standin(settings: StandinSettings, as_json: Json = False) -> None:
    """Make a cache without any video: the clips of split lists, with embeddings that are made up.

    To rehearse training and evaluation at full size. What a model reaches on it says nothing about the data set.
    """
    from har_cache.sample_data.standin import make_standin

    cache = make_standin(settings, Bar())
    frames = int(cache.frames.sum())
    if as_json:
        counts = {"clips": len(cache), "classes": len(cache.classes), "frames": frames}
        print_json({"cache": str(cache.path), "fingerprint": cache.fingerprint, **counts})
    say(f"{len(cache):,} clips of {len(cache.classes)} classes, {frames:,} frames, in {cache.path}: made up, no videos")
