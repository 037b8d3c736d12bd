"""An offline feature cache for human action recognition in video, and a trainer on top of it."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .cache.reader import FeatureCache

__all__ = ["FeatureCache"]


def __getattr__(name: str) -> Any:
    if name == "FeatureCache":  # on first use: the command line's --help must not pay for its imports
        from .cache.reader import FeatureCache

        return FeatureCache
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
