"""Where a hostile file is tried: copies of what it spoils, and the outside, which nothing may touch."""

import ctypes
import json
import os
import random
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from har_cache.storage.files import sha256

from ...helpers.sealed import change_sealed

_ANY_TOUCH = 0x1 | 0x2 | 0x4 | 0x20 | 0x40 | 0x80 | 0x100 | 0x200 | 0x400  # inotify: read, written, opened, moved, ...
_NEW_NAMES = 0x40 | 0x80 | 0x100 | 0x200
_NONBLOCK = os.O_NONBLOCK
DEEP = "@deep@"  # as a JSON value: stands for lists in lists


@dataclass(frozen=True)
class Place:
    """`work`: all that a call may touch; `outside`: a folder beside it, with a file of each kind, that it may not;
    `marker`: a file that hostile code makes.
    """

    world: Path
    top: Path
    rng: random.Random

    @property
    def work(self) -> Path:
        """What may be touched."""
        return self.top / "work"

    @property
    def outside(self) -> Path:
        """What may not."""
        return self.top / "outside"

    @property
    def marker(self) -> Path:
        """What shows that code has run."""
        return self.top / "outside" / "marker"

    def make(self) -> None:
        """Both folders."""
        self.work.mkdir(parents=True)
        self.outside.mkdir()
        shutil.copy(self.world / "cache" / "shards" / "00001.h5", self.outside / "secret.h5")
        (self.outside / "secret.txt").write_text("key,subset\n")

    def copy(self, name: str) -> Path:
        """A copy of `cache`, `run` or `evaluated` of the world, whose files are put in place of, never written into."""
        return Path(shutil.copytree(self.world / name, self.work / name, copy_function=_linked))

    def cache_with(
        self, shard: bytes | None = None, record: bytes | None = None, change: Callable[[dict[str, Any]], object] = id
    ) -> Path:
        """A copy of the cache whose first shard, or its record, is this; the hashes in record and manifest are right.
        `change` edits the record where the shard is another one.
        """
        cache = self.copy("cache")
        files = {"h5": cache / "shards" / "00000.h5", "json": cache / "shards" / "00000.json"}
        if shard is not None:
            put(files["h5"], shard)
            edit(files["json"], lambda content: (content.update(shard_sha256=sha256(shard)), change(content)))
        if record is not None:
            put(files["json"], record)
        digests = {"sha256": sha256(files["h5"].read_bytes()), "record_sha256": sha256(files["json"].read_bytes())}
        edit(cache / "manifest.json", lambda content: content["shards"][0].update(digests))
        return cache


def _linked(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def put(path: Path, data: bytes) -> None:
    """Put a new file in the place of one, which may have other names."""
    path.unlink(missing_ok=True)
    path.write_bytes(data)


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Edit a sealed JSON file; its seal is right."""
    data = path.read_bytes()
    put(path, data)
    change_sealed(path, change)


def sealed(content: Mapping[str, Any]) -> bytes:
    """`content` with its seal, as `storage.files.seal`, of values that this refuses too: NaN, depths without end."""

    def text(values: Mapping[str, Any]) -> bytes:
        plain = json.dumps(values, indent=1, sort_keys=True) + "\n"
        return plain.replace(f'"{DEEP}"', "[" * 100_000 + "]" * 100_000).encode()

    body = {key: value for key, value in content.items() if key != "sha256"}
    return text({**body, "sha256": sha256(text(body))})


class Watch:
    """What is done in the outside of a place, to files as to names, by whatever means."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = self._libc.inotify_init1(_NONBLOCK)
        for folder, events in ((place.outside, _ANY_TOUCH), (place.top, _NEW_NAMES), (place.top.parent, _NEW_NAMES)):
            if self._libc.inotify_add_watch(self._descriptor, os.fsencode(folder), events) < 0:
                raise OSError(ctypes.get_errno(), f"{folder} cannot be watched")

    def touched(self) -> str:
        """What was, empty where nothing was."""
        try:
            events = os.read(self._descriptor, 1 << 16)
        except BlockingIOError:
            return ""
        return f"touched what lies outside ({len(events)} bytes of events: {events[16:80]!r})"

    def close(self) -> None:
        """No more."""
        os.close(self._descriptor)
