"""An extraction whose clips are not decoded: a file says in its first bytes whether it is a good one. All but decoder,
encoder and their processes is the real thing; torch is not imported.
"""

import sys
from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np

from har_cache.cache import writer
from har_cache.cache.recipe import EMBEDDING, Recipe
from har_cache.cache.record import ClipRecord
from har_cache.errors import FileError
from har_cache.extraction import extract as extraction
from har_cache.extraction.shard_tasks import ShardResult, ShardTask
from har_cache.settings.extraction import ExtractSettings
from har_cache.storage import failpoints, files
from har_cache.storage.files import sha256

from .caches import make_recipe

GOOD = b"good"
MISSING = "no such file"


@contextmanager
def fake_extraction() -> Iterator[None]:
    """For the time being, `extract` is one."""
    prepared = {"har_cache.extraction.prepare": SimpleNamespace(prepare=prepare)}
    with ExitStack() as stack:
        stack.enter_context(mock.patch.multiple(extraction, execute=execute, fork_server=lambda: None))
        stack.enter_context(mock.patch.dict(sys.modules, prepared))
        stack.enter_context(mock.patch.object(extraction.system, "versions", lambda *_: {"har-cache": "0"}))
        stack.enter_context(mock.patch.object(writer, "remove_file", remove_file))
        stack.enter_context(mock.patch("os.fsync"))  # of use where the machine dies, not the process
        yield


def remove_file(path: Path) -> None:
    """As it is, with a step after it at which an extraction can be killed."""
    files.remove_file(path)
    try:
        failpoints.failpoint(f"removed:{path.name}")
    except OSError as error:
        raise FileError(f"{path}: cannot be removed: {error.strerror}") from error


def made_with(root: Path, **changes: Any) -> ExtractSettings:
    """Settings that extract root/data into root/cache."""
    same = {"weights": "random", "precision": "fp32", "decoder": "pyav", "device": "cpu", "shard_clips": 2}
    return ExtractSettings(**{**same, "data": root / "data", "cache": root / "cache", "workers": 1, **changes})


def embeddings_of(key: str) -> np.ndarray:
    """What the cache must hold of a good clip, to the last bit."""
    rng = np.random.default_rng(list(key.encode()))
    return rng.standard_normal((1, int(rng.integers(1, 4)), EMBEDDING)).astype(np.float16)


def reason_of(key: str) -> str:
    """Why a bad clip fails."""
    return f"does not decode: {key}"


def embed(key: str, path: Path) -> ClipRecord:
    """In place of decoder and encoder."""
    try:
        data = path.read_bytes()
    except OSError:
        return ClipRecord(key, reason=MISSING)
    if not data.startswith(GOOD):
        return ClipRecord(key, source_sha256=sha256(data), reason=reason_of(key))
    embeddings = embeddings_of(key)
    return ClipRecord(key, embeddings.shape[1], 30.0, None, sha256(data), embeddings=embeddings)


def execute(tasks: Iterable[ShardTask], *arguments: Any) -> Generator[ShardResult, None, None]:
    """In place of the executors."""
    on_clip = arguments[-1]
    for task in tasks:
        records = tuple(embed(key, path) for key, path in task.clips)
        for record in records:
            on_clip(record)
        yield ShardResult(task.index, records)


def prepare(wanted: ExtractSettings, *_: Any) -> tuple[Recipe, bytes]:
    """In place of the making of an encoder."""
    encoder = f"the encoder of seed {wanted.seed}".encode()
    return make_recipe(seed=wanted.seed, encoder_sha256=sha256(encoder)), encoder
