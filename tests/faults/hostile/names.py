"""Hostile names of classes and clips, through index, cache, tables, evaluation: they come back as they were."""

import os
import random
from collections.abc import Iterator
from pathlib import Path

from har_cache.cache.manifest import read_manifest
from har_cache.cache.reader import FeatureCache
from har_cache.cache.verify import verify
from har_cache.data.index import read_index
from har_cache.evaluation.results import read_evaluation
from har_cache.evaluation.tables import join_names, split_names
from har_cache.storage.files import read_csv

from ...helpers.caches import random_embeddings, write_cache
from ...helpers.evaluations import write_evaluation
from .case import Calls, Case, must
from .place import Place

_NAMES = (
    "=cmd|' C calc'!A0",
    "@SUM(1)",
    "+1",
    "-rf",
    "'quote",
    'a"b',
    "a,b",
    "a\nb",
    "a\r\nb",
    "\r",
    "\t",
    "\x1b[2J",
    "\x07\x9b31m",
    "\u202egpj",
    "\u2028",
    "\x7f",
    "$(touch marker)",
    "`touch marker`",
    "%s%n",
    "{0.__class__}",
    "{{ 7 * 7 }}",
    "<script>alert(1)",
    "a|b\\c",
    "\\",
    " ",
    " a ",
    "...",
    ".hidden",
    "CON",
    "nan",
    "1e5",
    "key",
    "\u0130",
    "e\u0301",
    "\U0001f3c3",
    "\udcff",
    "a\udc80b",
    "x" * 240,
)


def cases(rng: random.Random) -> Iterator[Case]:
    """All of them."""
    found = [Case("names", repr(name)[:60], lambda place, n=name: _calls(place, n)) for name in _NAMES]
    rng.shuffle(found)
    yield from found


def _calls(place: Place, name: str) -> Calls:
    return {
        "index": lambda: _index(place, name),
        "cache": lambda: _cache(place, name),
        "tables": lambda: _tables(place, name),
    }


def _index(place: Place, name: str) -> None:
    data = place.work / "data"
    for folder in (name, "plain"):
        for i in range(3):
            path = data / "videos" / folder / f"{name}_{i}.avi"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x")
    index = read_index(data)
    there = {f"{path.parent.name}/{path.name}" for path in data.rglob("*.avi")}
    must({clip.key for clip in index.clips} <= there, "keys that are no files")
    must(all(clip.path.is_file() for clip in index.clips), "a clip that is no file")
    valid = _is_utf8(name) and not name.startswith(".")
    must(not valid or len(index.clips) == len(there), f"{len(index.clips)} of {len(there)} clips are in the index")


def _cache(place: Place, name: str) -> None:
    if not _is_utf8(name):
        return  # no key: the index has left it out
    keys = [f"{name}/{name}_{i}.avi" for i in range(4)]
    cache = place.work / "made"
    write_cache(cache, random_embeddings(dict.fromkeys(keys[:3], 5)), failures={keys[3]: f"because of {name}"})
    found = FeatureCache(cache)
    must(list(found) == sorted(keys[:3]) and found.classes == (name,), f"{list(found)} of {found.classes}")
    must(not verify(cache), f"{verify(cache)}")
    must(read_manifest(cache).failures[0].key == keys[3], "another failure")
    must(read_csv(cache / "failures.csv")[1:] == [[keys[3], f"because of {name}"]], "failures.csv differs")


def _tables(place: Place, name: str) -> None:
    if not _is_utf8(name):
        return
    keys = [f"{name}/{name}_{i}.avi" for i in range(4)]
    folder = write_evaluation(place.work / "a run", keys, wrong=keys[:1])
    found = read_evaluation(folder).predictions
    must([row.key for row in found] == keys and {row.true for row in found} == {name}, "predictions differ")
    must(split_names(join_names([name, "b", name])) == [name, "b", name], "joined names differ")
    text = (Path(folder) / "predictions.csv").read_text()
    must(not any(cell[:1] in ("=", "@") for line in text.splitlines() for cell in line.split(",")), "a formula")


def _is_utf8(name: str) -> bool:
    try:
        return bool(os.fsencode(name).decode())
    except UnicodeDecodeError:
        return False
