"""Every file of a cache edited, cut or flipped, its seal right or wrong: read as it was, or refused in one line."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from har_cache_cli.main import app
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from har_cache.cache.manifest import read_manifest, read_plan
from har_cache.cache.reader import FeatureCache
from har_cache.cache.recovery import recover_plan
from har_cache.cache.shard import ShardImage
from har_cache.cache.verify import verify
from har_cache.errors import HarCacheError
from har_cache.extraction.extract import extract
from har_cache.storage.files import seal, sha256, unseal

from ..helpers.bad_files import DEEP, damaged, mutated
from ..helpers.caches import random_embeddings, settled_files, write_cache
from ..helpers.fake_extraction import GOOD, embeddings_of, fake_extraction, made_with

SEALED = ("manifest.json", "plan.json", "shards/00000.json")
FILES = (*SEALED, "encoder.safetensors", "failures.csv", "shards/00000.h5")
KEYS = [f"{'ab'[i % 2]}/{i}.avi" for i in range(5)]
FEW = settings(
    max_examples=int(os.environ.get("HAR_CACHE_BAD_FILES", 6)),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a data set and its cache: three shards, a failed clip."""
    root = tmp_path_factory.mktemp("bad_files")
    for i, key in enumerate(KEYS):
        path = root / "data" / "videos" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(GOOD if i else b"bad")
    with fake_extraction():
        extract(made_with(root))
    return root


@contextmanager
def replaced(root: Path, name: str, data: bytes) -> Iterator[None]:
    """For the time being."""
    path = root / "cache" / name
    before = settled_files(root / "cache")
    path.write_bytes(data)
    try:
        yield
    finally:
        for other, content in before.items():
            (root / "cache" / other).write_bytes(content)


def refused(call: Callable[..., Any], *arguments: Any) -> str:
    """The error of a call, one line that names something; nothing where there was none. Any other error is raised."""
    try:
        call(*arguments)
    except HarCacheError as error:
        assert str(error).strip() and len(str(error)) < 2000
        return str(error)
    return ""


def read_all(root: Path, embeddings: dict[str, np.ndarray] | None) -> None:
    """All that reads a cache; what it gives of clips is right, where `embeddings` are given."""
    cache = root / "cache"
    for call, where in ((read_manifest, cache), (read_plan, cache / "plan.json"), (recover_plan, cache)):
        refused(call, where)
    found = verify(cache, root / "data")
    assert all(found)
    for flags in ([], ["--json"]):
        result = CliRunner().invoke(app, ["info", str(cache), *flags])
        assert result.exit_code in (0, 1), result.exception
        assert isinstance(result.exception, SystemExit | None), result.exception
    refused(lambda: items(cache, embeddings))
    refused(lambda: FeatureCache(cache).arrays())


def items(cache: Path, embeddings: dict[str, np.ndarray] | None) -> None:
    opened = FeatureCache(cache)
    for key in opened:
        found = opened[key]
        assert embeddings is None or np.array_equal(found, embeddings[key])


@pytest.mark.parametrize("name", SEALED)
@given(data=st.data())
@FEW
def test_what_was_edited_and_sealed_anew_is_read_or_refused_in_one_line(
    whole: Path, name: str, data: st.DataObject
) -> None:
    path = whole / "cache" / name
    content = unseal(path.read_bytes(), path)
    changed = data.draw(mutated(content))
    with replaced(whole, name, seal(changed)):
        read_all(whole, None)
        with fake_extraction():
            refused(extract, made_with(whole))


@pytest.mark.parametrize("name", FILES)
@given(data=st.data())
@FEW
def test_what_was_damaged_is_never_read_as_something_else(whole: Path, name: str, data: st.DataObject) -> None:
    with replaced(whole, name, data.draw(damaged((whole / "cache" / name).read_bytes()))):
        read_all(whole, {key: embeddings_of(key) for key in KEYS})


def test_a_file_nested_without_end_is_refused(whole: Path) -> None:
    for name in SEALED:
        with replaced(whole, name, DEEP):
            read_all(whole, None)
            assert any(name in problem for problem in verify(whole / "cache"))


ATTRIBUTES = [None, b"\xff\xfe", "x" * 5000, 7, 1.5, [1, 2], ["har-cache/1"], np.float16(1), h5py.Empty("f")]


@pytest.mark.parametrize("name", ["schema", "fingerprint"])
@pytest.mark.parametrize("value", ATTRIBUTES, ids=lambda value: type(value).__name__)
def test_a_shard_with_hostile_attributes_is_refused(tmp_path: Path, name: str, value: Any) -> None:
    write_cache(tmp_path / "cache", random_embeddings({"a/0.avi": 2}))
    path = tmp_path / "cache" / "shards" / "00000.h5"
    with h5py.File(path, "r+") as file:
        del file.attrs[name]
        if value is not None:
            file.attrs[name] = value
    image = path.read_bytes()
    sealed_as_it_is(tmp_path / "cache", image)
    assert verify(tmp_path / "cache")
    refused(lambda: items(tmp_path / "cache", None))
    if name == "schema":
        with pytest.raises(HarCacheError), ShardImage(image, "x"):
            pass


def sealed_as_it_is(cache: Path, image: bytes) -> None:
    """Have record and manifest name the sha256 of this first shard."""
    for path, name in ((cache / "shards" / "00000.json", "shard_sha256"), (cache / "manifest.json", "shards")):
        content = unseal(path.read_bytes(), path)
        record = sha256((cache / "shards" / "00000.json").read_bytes())
        entry = {"file": "00000.h5", "sha256": sha256(image), "record_sha256": record}
        path.write_bytes(seal({**content, name: sha256(image) if name == "shard_sha256" else [entry]}))


@given(data=st.data())
@FEW
def test_a_damaged_shard_whose_seals_are_right_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    cache = tmp_path_factory.mktemp("sealed") / "cache"
    write_cache(cache, random_embeddings({"a/0.avi": 2, "b/1.avi": 1}))
    image = data.draw(damaged((cache / "shards" / "00000.h5").read_bytes()[:9000]))
    (cache / "shards" / "00000.h5").write_bytes(image)
    sealed_as_it_is(cache, image)
    verify(cache)
    refused(lambda: items(cache, None))
    refused(lambda: FeatureCache(cache).arrays())


def test_json_of_info_is_strict_whatever_the_manifest_holds(whole: Path) -> None:
    path = whole / "cache" / "manifest.json"
    content = unseal(path.read_bytes(), path)
    with replaced(whole, "manifest.json", seal({**content, "versions": {"x": "\ud800"}})):
        result = CliRunner().invoke(app, ["info", str(whole / "cache"), "--json"])
        assert result.exit_code == 1 or json.loads(result.stdout.encode())
