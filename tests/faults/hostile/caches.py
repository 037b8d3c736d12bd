"""Hostile manifests, plans, records and odd files of caches."""

import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from har_cache.cache.manifest import MANIFEST, PLAN, read_manifest
from har_cache.cache.reader import FeatureCache
from har_cache.cache.recovery import recover_plan
from har_cache.cache.verify import verify
from har_cache.cache.writer import Store
from har_cache.training.batches import Sequences

from .case import Calls, Case, must, one_line
from .place import Place, edit, put, sealed
from .values import changes


def cache_calls(cache: Path) -> Calls:
    """All that reads a cache."""
    return {
        "read_manifest": lambda: read_manifest(cache),
        "FeatureCache": lambda: _read(cache),
        "Sequences": lambda: Sequences.from_cache(FeatureCache(cache), "cpu"),
        "verify": lambda: [one_line(line) for line in verify(cache)],
        "the plan": lambda: _read_plan(cache),
        "a recovered plan": lambda: recover_plan(cache),
    }


def _read(path: Path) -> None:
    cache = FeatureCache(path)
    repr(cache)
    if verify(path):
        cache.arrays()
        for key in cache:
            cache[key]
        return
    array, offsets = cache.arrays()
    for i, key in enumerate(cache):
        item = cache[key]
        must(item.shape == (len(cache.views), cache.frames[i], 256), f"{key} has shape {item.shape}")
        same = np.array_equal(item.view(np.uint16), array[:, offsets[i] : offsets[i + 1]].view(np.uint16))
        must(same, f"{key} differs between the two ways to read it")


def _read_plan(cache: Path) -> None:
    store = Store(cache)
    if plan := store.read_plan():
        for i in range(min(len(plan.shards), 20)):
            store.done(plan, i)
        plan.in_later_shards()
        plan.extended({"a/b.avi"}, 2)


def manifests(rng: random.Random, world: Path) -> Iterator[Case]:
    """Without end."""
    for name, content in changes(json.loads((world / "cache" / MANIFEST).read_text()), rng):
        yield Case("manifests", name, _with_file(MANIFEST, sealed, content))


def plans(rng: random.Random, world: Path) -> Iterator[Case]:
    """Without end."""
    for name, content in changes(json.loads((world / "cache" / PLAN).read_text()), rng):
        yield Case("plans", name, _with_file(PLAN, sealed, content))


def _with_file(name: str, to_bytes: Callable[[dict], bytes], content: dict) -> Callable[[Place], Calls]:
    def make(place: Place) -> Calls:
        cache = place.copy("cache")
        put(cache / name, to_bytes(content))
        if name == PLAN:
            from har_cache.storage.files import file_sha256

            edit(cache / MANIFEST, lambda manifest: manifest["files"].update({PLAN: file_sha256(cache / PLAN)}))
        return cache_calls(cache)

    return make


def records(rng: random.Random, world: Path) -> Iterator[Case]:
    """Without end."""
    for name, content in changes(json.loads((world / "cache" / "shards" / "00000.json").read_text()), rng):
        yield Case("records", name, lambda place, c=content: cache_calls(place.cache_with(record=sealed(c))))


def odd_files(rng: random.Random) -> Iterator[Case]:
    """Each file of a cache and of a run as what is no file."""
    from .runs import run_calls

    def make(where: str, name: str, kind: str) -> Callable[[Place], Calls]:
        def spoilt(place: Place) -> Calls:
            folder = place.copy(where)
            path = folder / name
            path.unlink()
            _ODD[kind](path)
            return cache_calls(folder) if where == "cache" else run_calls(place, folder, evaluates=False)

        return spoilt

    names = [
        ("cache", name) for name in (MANIFEST, PLAN, "encoder.safetensors", "shards/00000.h5", "shards/00000.json")
    ]
    names += [
        ("evaluated", name) for name in ("config.json", "clips.csv", "model.safetensors", "metrics.csv", "last.ckpt")
    ]
    found = [Case("odd files", f"{name}: {kind}", make(where, name, kind)) for where, name in names for kind in _ODD]
    rng.shuffle(found)
    yield from found


_ODD: dict[str, Callable[[Path], object]] = {
    "a folder": lambda path: path.mkdir(),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a link to nothing": lambda path: path.symlink_to("nothing"),
    "a pipe": os.mkfifo,
    "a link to /dev/zero": lambda path: path.symlink_to("/dev/zero"),
    "a link to /dev/null": lambda path: path.symlink_to("/dev/null"),
}
