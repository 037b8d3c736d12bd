"""What a format of exported features is."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from ..cache.reader import FeatureCache
from .clips import ClipFeatures


class FeatureFormat(ABC):
    """Files of features in a folder, a shard's clips at a time. Raises FileError where they cannot be written."""

    @abstractmethod
    def files(self, name: str, keys: Sequence[str]) -> list[str]:
        """Which files the clips of a shard of this name become, in the folder."""

    @abstractmethod
    def write(self, folder: Path, name: str, clips: Sequence[ClipFeatures]) -> None:
        """Write the clips of a shard, of which there are some: each file is whole or absent."""

    def finish(self, folder: Path, cache: FeatureCache) -> None:  # noqa: B027 - most have nothing of the kind
        """Write what is there once, after all shards."""
