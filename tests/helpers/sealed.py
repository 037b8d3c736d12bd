"""JSON files of caches, runs and evaluations, changed by hand, with the seal that they then need."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from har_cache.storage.files import seal


def write_sealed(path: Path, content: Mapping[str, Any]) -> None:
    """`content` as JSON with its own sha256."""
    path.write_bytes(seal(content, in_order=True))


def change_sealed(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Have `change` edit the content of a JSON file in place."""
    content = json.loads(path.read_text())
    change(content)
    write_sealed(path, content)
