"""The judge itself: what has to be seen is seen."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from har_cache.errors import CacheError

from . import case as cases
from .case import Case, must, tried
from .place import Place


def _refuse(text: str) -> None:
    raise CacheError(text)


def _forever() -> None:
    while True:
        pass


CALLS: dict[str, tuple[str, Callable[[Place], object]]] = {
    "nothing": ("survived", lambda place: None),
    "a line": ("survived", lambda place: _refuse("x: damaged")),
    "work": ("survived", lambda place: (place.work / "x").write_bytes(b"x")),
    "a long line": ("wrong", lambda place: _refuse("x" * 3000)),
    "no word": ("wrong", lambda place: _refuse("")),
    "another error": ("traceback", lambda place: {}["x"]),
    "an exit": ("traceback", lambda place: exit()),
    "what is wrong by itself": ("wrong", lambda place: must(False, "not so")),
    "time": ("lost", lambda place: _forever()),
    "memory": ("wrong", lambda place: b"x" * (5 << 20)),
    "all memory": ("traceback", lambda place: bytearray(1 << 40)),
    "a read outside": ("wrong", lambda place: (place.outside / "secret.txt").read_bytes()),
    "a name outside": ("wrong", lambda place: (place.work / ".." / "x").mkdir()),
    "code": ("wrong", lambda place: place.marker.touch()),
}


@pytest.mark.parametrize("name", CALLS)
def test_what_has_to_be_seen_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (tmp_path / "world" / "cache" / "shards").mkdir(parents=True)
    (tmp_path / "world" / "cache" / "shards" / "00001.h5").write_bytes(b"x")
    monkeypatch.setattr(cases, "_CPU_S", 0.05)
    peaks = iter((0, 2 << 30) if name == "memory" else (0, 0))
    monkeypatch.setattr(cases, "_peak", lambda: next(peaks))
    expected, call = CALLS[name]
    place = Place(tmp_path / "world", tmp_path / "place", random.Random(0))
    found = tried(Case("files", name, lambda place: {"read": lambda: call(place)}), place, "seed 0")
    assert found.outcome == expected, found
