"""JSON and CSV with one thing changed: dropped, of another type, or extreme."""

import json
import random
from collections.abc import Iterator
from typing import Any

from .place import DEEP

EXTREMES: dict[str, Any] = {
    "null": None,
    "true": True,
    "-1": -1,
    "2^70": 1 << 70,
    "4000 digits": 10**4000,
    "1e308": 1e308,
    "NaN": float("nan"),
    "infinity": float("inf"),
    "half": 0.5,
    "no text": "",
    "a text": "x",
    "a list": [],
    "lists": [[]],
    "an object": {},
    "keys": {"a/b": [1, 2, 3]},
    "a surrogate": "\ud800\udfff",
    "control characters": "\x1b[2J\x00\n\r\u202e",
    "a way up": "../../outside/secret",
    "a path": "/etc/passwd",
    "a code": "%s {0.__class__} $(reboot)",
    "a million characters": "x" * 1_000_000,
    "a million entries": list(range(1_000_000)),
    "many names": {f"{i}/x": [0, 0, 0] for i in range(200_000)},
    "depths": DEEP,
}

Path = tuple[str | int, ...]


def changes(content: dict[str, Any], rng: random.Random) -> Iterator[tuple[str, dict[str, Any]]]:
    """The content with one thing changed, without end, and what that is."""
    places = [place for place in _places(content) if place != ("sha256",)]
    while True:
        place = rng.choice(places)
        changed = json.loads(json.dumps(content))
        inner = changed
        for step in place[:-1]:
            inner = inner[step]
        where, key = "/".join(map(str, place))[:80], place[-1]
        how = rng.choice(["drop", "rename", "twice", *EXTREMES])
        if how == "drop":
            del inner[key]
        elif how == "rename" and isinstance(inner, dict):
            inner[rng.choice(["", "../x", "a\nb", "\ud800", "x" * 5000])] = inner.pop(key)
        elif how == "twice" and isinstance(inner, list):
            inner.append(inner[key])
        elif how in EXTREMES:
            inner[key] = EXTREMES[how]
        else:
            continue
        yield f"{where}: {how}", changed


def _places(content: Any, above: Path = ()) -> Iterator[Path]:
    """Of all values, the first ones of long lists."""
    entries: list[tuple[str | int, Any]] = []
    if isinstance(content, dict):
        entries = list(content.items())[:40]
    elif isinstance(content, list):
        entries = list(enumerate(content))[:2]
    for key, value in entries:
        yield (*above, key)
        yield from _places(value, (*above, key))


CELLS = (
    "",
    "nan",
    "inf",
    "-inf",
    "1e999",
    "-1",
    "0",
    "1" * 5000,
    "99999999999999999999",
    "1_0",
    "\u0663",
    "../../outside/secret.txt",
    "=cmd|' /C calc'!A0",
    "\x1b[2J",
    "a\nb",
    "\u202e",
    "x" * 200_000,
    "train",
    "fold99999999999999999999",
    "seen",
    "sit",
)


def tables(data: bytes, rng: random.Random) -> Iterator[tuple[str, bytes]]:
    """A table with one thing changed, without end, and what that is."""
    lines = data.decode().splitlines()
    whole: dict[str, bytes] = {
        "no file": b"",
        "a header alone": lines[0].encode() + b"\r\n",
        "no header": "\r\n".join(lines[1:]).encode(),
        "NUL": data.replace(b",", b"\0,", 3),
        "no UTF-8": data + b"\xff\xfe,\r\n",
        "a byte order mark": b"\xef\xbb\xbf" + data,
        "UTF-16": data.decode().encode("utf-16"),
        "an open quote": data + b'"open',
        "carriage returns": data.replace(b"\r\n", b"\r"),
        "a blank line": data + b"\r\n\r\n",
        "rows twice": data + b"\r\n".join(data.split(b"\r\n")[1:]),
        "many rows": data + (lines[-1] + "\r\n").encode() * 20_000,
        "a million columns": data + b"," * 1_000_000 + b"\r\n",
        "noise": rng.randbytes(5000),
        "half": data[: len(data) // 2],
    }
    fixed = rng.sample(sorted(whole.items()), len(whole))
    while True:
        if fixed and rng.random() < 0.5:
            yield fixed.pop()
            continue
        row, cell = rng.randrange(1, len(lines)), rng.choice(CELLS)
        cells = lines[row].split(",")
        column = rng.randrange(len(cells))
        cells[column] = '"' + cell.replace('"', '""') + '"'
        changed = [*lines[:row], ",".join(cells), *lines[row + 1 :]]
        yield f"row {row}, column {column}: {cell[:30]!r}", ("\r\n".join(changed) + "\r\n").encode()
