import json
import multiprocessing
import pickle
import re
import subprocess
import sys
import tomllib
import tracemalloc
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from har_cache import FeatureCache
from har_cache.cache.manifest import Counts, Plan, Splits, read_manifest
from har_cache.cache.verify import verify
from har_cache.cache.writer import Store
from har_cache.errors import CacheError, HarCacheError
from har_cache.storage.files import seal, unseal

from ..helpers.caches import action_embeddings, embedded, random_embeddings, subsets_by_source, write_cache

LENGTHS = {
    "jump/a_jump_f_cm_np1_fr_med_0.avi": 5,
    "jump/a_jump_f_cm_np1_fr_med_1.avi": 1,
    "jump/b_jump_f_cm_np1_fr_med_0.avi": 300,
    "sit/-[x] #;&(!+~.avi": 7,
    "sit/ü_sit_0.mp4": 2,
    "wave/c.avi": 4,
    "wave/d.avi": 3,
}
PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"
# What the package requires beside numpy and h5py: the names of distributions, and of their modules.
DISTRIBUTIONS = {
    "av": "av",
    "decord": "decord",
    "jinja2": "jinja2",
    "matplotlib": "matplotlib",
    "onnx": "onnx",
    "onnxruntime": "onnxruntime",
    "pillow": "PIL",
    "rarfile": "rarfile",
    "safetensors": "safetensors",
    "scikit-learn": "sklearn",
    "scipy": "scipy",
    "threadpoolctl": "threadpoolctl",
    "torch": "torch",
    "torchvision": "torchvision",
    "tqdm": "tqdm",
    "typer": "typer",
}


@pytest.fixture(scope="module")
def embeddings():
    return random_embeddings(LENGTHS, views=2)


@pytest.fixture(scope="module")
def path(tmp_path_factory, embeddings):
    """A finished cache that nobody may write into: 3 shards."""
    path = tmp_path_factory.mktemp("cache")
    subsets = {**subsets_by_source(list(LENGTHS)[:-1]), "jump/missing.avi": (1, 2, 0)}
    failures = {"sit/empty.avi": "empty file", "walk/bad.avi": "no video stream"}
    write_cache(path, embeddings, failures=failures, subsets=subsets, views=("center", "flip"), fps=29.97)
    return path


@pytest.fixture
def own(tmp_path, embeddings):
    """A finished cache to do damage to."""
    write_cache(tmp_path / "cache", embeddings, views=("center", "flip"))
    return tmp_path / "cache"


@pytest.fixture
def cache(path):
    return FeatureCache(path)


def flip_a_bit(path, place=0.5):
    data = bytearray(path.read_bytes())
    data[int(place * len(data))] ^= 1
    path.write_bytes(data)


# what it gives


def test_clips_and_classes(cache):
    assert cache.clip_keys == tuple(LENGTHS)
    assert len(cache) == len(LENGTHS)
    assert list(cache) == list(LENGTHS)
    assert cache.classes == ("jump", "sit", "walk", "wave")
    assert [cache.classes[label] for label in cache.labels] == [key.split("/")[0] for key in LENGTHS]
    assert cache.labels.dtype == np.int64


def test_membership_is_that_of_the_keys(cache):
    assert all(key in cache for key in LENGTHS)
    assert "sit/empty.avi" not in cache
    assert "jump/missing.avi" not in cache
    assert 3 not in cache


def test_every_clip_gives_its_own_embeddings(cache, embeddings):
    for key in cache:
        clip = cache[key]
        assert clip.dtype == np.float16
        assert clip.shape == (2, LENGTHS[key], 256)
        assert np.array_equal(clip, embeddings[key])


def test_clips_in_any_order_and_again(cache, embeddings):
    for key in [*reversed(cache.clip_keys), *cache.clip_keys]:
        assert np.array_equal(cache[key], embeddings[key])


def test_what_is_given_is_the_callers_own(cache, embeddings):
    key = cache.clip_keys[0]
    cache[key][:] = 0
    assert np.array_equal(cache[key], embeddings[key])


def test_an_unknown_key_is_named_with_the_cache(cache, path):
    with pytest.raises(KeyError) as caught:
        cache["jump/none.avi"]
    assert caught.value.args == (f"'jump/none.avi' is not in the cache {path}",)


def test_arrays_hold_every_clip_at_its_offsets(cache):
    rows, offsets = cache.arrays()
    assert rows.dtype == np.float16
    assert rows.shape == (2, sum(LENGTHS.values()), 256)
    assert rows.flags.c_contiguous
    assert offsets.dtype == np.int64
    assert offsets.tolist() == np.cumsum([0, *LENGTHS.values()]).tolist()
    assert np.array_equal(offsets, cache.offsets)
    for i, key in enumerate(cache.clip_keys):
        assert np.array_equal(rows[:, offsets[i] : offsets[i + 1]], cache[key])


def test_arrays_are_not_held_twice(tmp_path):
    write_cache(tmp_path, random_embeddings({f"a/{i}": 100 for i in range(80)}), shard_clips=1)
    cache = FeatureCache(tmp_path)
    tracemalloc.start()
    rows, _ = cache.arrays()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.5 * rows.nbytes  # the rows, and a shard a thread
    assert all(np.array_equal(clip, cache[key][0]) for key, clip in zip(cache, np.split(rows[0], 80), strict=True))


def test_a_copy_that_fails_fails_the_arrays(cache, monkeypatch):
    def no_memory(parts):
        raise MemoryError

    monkeypatch.setattr("har_cache.cache.reader.copy_parts", no_memory)
    with pytest.raises(MemoryError):
        cache.arrays()


def test_frames_rates_and_sources(cache):
    assert cache.frames.tolist() == list(LENGTHS.values())
    np.testing.assert_allclose(cache.fps, 29.97, rtol=1e-6)
    assert cache.sources == (
        "jump/a",
        "jump/a",
        "jump/b",
        "sit/-[x] #;&(!+~",
        "sit/ü",
        "wave/c",
        "wave/d",
    )


def test_subsets_are_those_of_the_split_lists(cache):
    assert cache.subsets.shape == (7, 3)
    assert cache.subsets[0].tolist() == cache.subsets[1].tolist() == [2, 1, 1]
    assert cache.subsets[2].tolist() == [1, 2, 1]
    assert cache.subsets[-1].tolist() == [0, 0, 0]
    assert cache.missing_subsets == {"jump/missing.avi": (1, 2, 0)}


def test_recipe_and_views(cache):
    assert cache.views == ("center", "flip")
    assert cache.recipe.views == cache.views
    assert cache.fingerprint == cache.recipe.fingerprint == cache.manifest.fingerprint


def test_it_introduces_itself(cache, path):
    assert repr(cache) == f"FeatureCache({str(path)!r}: 7 clips, 322 frames, ('center', 'flip') views)"


def test_a_path_may_be_text(path):
    assert FeatureCache(str(path)).clip_keys == FeatureCache(path).clip_keys


@pytest.mark.parametrize("failures", [{}, {"a/1": "empty file"}])
def test_a_cache_without_clips_is_one(tmp_path, failures):
    write_cache(tmp_path, {}, failures=failures)
    cache = FeatureCache(tmp_path)
    rows, offsets = cache.arrays()
    assert len(cache) == 0
    assert rows.shape == (1, 0, 256)
    assert offsets.tolist() == [0]
    assert cache.labels.shape == (0,)
    assert cache.subsets.shape == (0, 0)


def test_more_shards_than_are_kept_open_are_read_all_the_same(tmp_path):
    embeddings = random_embeddings({f"a/{i:02d}": 1 + i % 3 for i in range(25)})
    write_cache(tmp_path, embeddings, shard_clips=1)
    cache = FeatureCache(tmp_path)
    for _ in range(2):
        for key in cache:
            assert np.array_equal(cache[key], embeddings[key])


def test_the_helper_makes_classes_that_only_order_tells_apart(tmp_path):
    embeddings = action_embeddings(classes=2, sources=3, clips=2)
    write_cache(tmp_path, embeddings)
    cache = FeatureCache(tmp_path)
    assert len(cache) == 12
    assert len(set(cache.sources)) == 6
    assert sorted({tuple(row) for row in cache.subsets.tolist()}) == [(1, 1, 2), (1, 2, 1), (2, 1, 1)]
    first, last = (np.stack([cache[key][0, i] for key in cache]).astype(float) for i in (0, -1))
    forward, backward = cache.labels == 0, cache.labels == 1
    between = np.abs(first[forward].mean(0) - last[backward].mean(0)).mean()
    assert between < 0.3 < np.abs(first[forward].mean(0) - last[forward].mean(0)).mean()


# processes


def test_it_can_be_pickled_and_takes_no_embeddings_along(cache, embeddings):
    fresh = len(pickle.dumps(cache))
    for key in cache:
        cache[key]
    data = pickle.dumps(cache)
    assert len(data) == fresh < 100_000
    copy = pickle.loads(data)
    assert copy.clip_keys == cache.clip_keys
    assert all(np.array_equal(copy[key], embeddings[key]) for key in copy)
    assert np.array_equal(cache[cache.clip_keys[0]], embeddings[cache.clip_keys[0]])


class Clips:
    """A data set for torch's DataLoader."""

    def __init__(self, path):
        self.cache = FeatureCache(path)

    def __len__(self):
        return len(self.cache)

    def __getitem__(self, i):
        return self.cache.clip_keys[i], self.cache[self.cache.clip_keys[i]]


@pytest.mark.parametrize("start", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_two_dataloader_workers_read_all_clips(path, embeddings, start):
    from torch.utils.data import DataLoader

    if start not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system cannot {start}")
    clips = Clips(path)
    clips.cache[clips.cache.clip_keys[0]]  # a shard that is open when the workers start
    loader = DataLoader(clips, batch_size=None, num_workers=2, multiprocessing_context=start)
    found = list(loader)
    assert [key for key, _ in found] == list(embeddings)
    assert all(np.array_equal(clip, embeddings[key]) for key, clip in found)


def test_reading_a_cache_takes_numpy_and_h5py_alone(path):
    required = tomllib.loads(PYPROJECT.read_text())["project"]["dependencies"]
    assert {re.match("[a-z0-9-]+", line)[0] for line in required} == {"numpy", "h5py", *DISTRIBUTIONS}
    code = f"""
import sys
sys.modules.update(dict.fromkeys({list(DISTRIBUTIONS.values())}))  # an import of any of them raises ImportError
import har_cache
cache = har_cache.FeatureCache({str(path)!r})
rows, offsets = cache.arrays()
assert all((rows[:, offsets[i] : offsets[i + 1]] == cache[key]).all() for i, key in enumerate(cache))
print(cache.split(1), [cache.label(key) for key in cache], cache.times(cache.clip_keys[0]))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stderr == ""
    assert run.stdout.startswith("Split(train: 2 clips, val: 0, test: 4) [0, 0, 0, 1, 1, 3, 3] [0.        0.0333667 ")


def test_importing_the_package_imports_nothing():
    code = "import sys, har_cache; sys.exit(bool({'torch', 'h5py', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# what it refuses


def test_no_directory(tmp_path):
    with pytest.raises(CacheError, match=r"none: no such directory; make a cache with `har-cache extract --cache "):
        FeatureCache(tmp_path / "none")


def test_a_directory_that_is_no_cache(tmp_path):
    with pytest.raises(CacheError, match=f"{tmp_path}: is no cache"):
        FeatureCache(tmp_path)


def test_a_cache_that_is_not_finished(tmp_path, embeddings):
    write_cache(tmp_path, embeddings, views=("center", "flip"), finish=False)
    with pytest.raises(CacheError, match="is not finished: run the same `har-cache extract` again"):
        FeatureCache(tmp_path)


@pytest.mark.parametrize("place", [0, 0.3, 0.99])
def test_a_damaged_manifest(own, place):
    flip_a_bit(own / "manifest.json", place)
    with pytest.raises(CacheError, match=r"manifest\.json: damaged"):
        FeatureCache(own)


@pytest.mark.parametrize("place", [0, 0.3, 0.99])
def test_a_damaged_record(own, place):
    flip_a_bit(own / "shards" / "00001.json", place)
    with pytest.raises(CacheError, match=r"00001\.json: damaged"):
        FeatureCache(own)


def test_a_missing_record(own):
    (own / "shards" / "00001.json").unlink()
    with pytest.raises(CacheError, match=r"00001\.json: cannot be read"):
        FeatureCache(own)


def test_a_record_that_was_replaced_by_an_intact_one(own):
    path = own / "shards" / "00001.json"
    content = json.loads(path.read_bytes())
    content["clips"][0]["frames"] += 1
    path.write_bytes(seal(content))
    with pytest.raises(CacheError, match=r"the record of 00001\.h5 is not the manifest's; extract again"):
        FeatureCache(own)


@pytest.mark.parametrize("place", [0, 0.5, 0.999])
def test_a_damaged_shard_is_refused_when_it_is_read_and_the_others_are_not(own, embeddings, place):
    flip_a_bit(own / "shards" / "00001.h5", place)
    cache = FeatureCache(own)
    good, bad = cache.clip_keys[0], cache.clip_keys[3]
    assert np.array_equal(cache[good], embeddings[good])
    for read in (lambda: cache[bad], cache.arrays):
        with pytest.raises(CacheError, match=r"00001\.h5: damaged .*run extract again to redo this shard"):
            read()


def test_a_missing_shard_is_refused_when_it_is_read(own):
    (own / "shards" / "00001.h5").unlink()
    cache = FeatureCache(own)
    with pytest.raises(CacheError, match=r"00001\.h5: cannot be read: No such file"):
        cache[cache.clip_keys[3]]


def test_a_shard_of_another_place_is_refused(own):
    (own / "shards" / "00001.h5").write_bytes((own / "shards" / "00000.h5").read_bytes())
    cache = FeatureCache(own)
    with pytest.raises(CacheError, match=r"00001\.h5: damaged"):
        cache[cache.clip_keys[3]]


def test_a_cache_of_another_schema(own):
    content = unseal((own / "manifest.json").read_bytes(), own)
    content["recipe"]["schema"] = "har-cache/3"
    (own / "manifest.json").write_bytes(seal(content))
    with pytest.raises(CacheError, match="schema 'har-cache/3': this version reads har-cache/2 and har-cache/1"):
        FeatureCache(own)


def test_each_frame_has_its_time(cache):
    assert np.array_equal(cache.times("wave/c.avi"), np.arange(4) / 29.97)
    assert len(cache.times("jump/b_jump_f_cm_np1_fr_med_0.avi")) == 300
    with pytest.raises(KeyError, match=r"'wave/x\.avi' is not in the cache"):
        cache.times("wave/x.avi")


def test_a_cache_of_before_timestamps_is_read_and_says_that_it_has_none(tmp_path, embeddings):
    write_cache(tmp_path / "old", embeddings, views=("center", "flip"), schema="har-cache/1")
    cache = FeatureCache(tmp_path / "old")
    assert all(np.array_equal(cache[key], embeddings[key]) for key in cache)
    assert cache.manifest.schema == "har-cache/1"
    with pytest.raises(CacheError, match="made before there were timestamps"):
        cache.times("wave/c.avi")


def test_embeddings_of_any_number_of_dimensions_are_read(tmp_path):
    embeddings = {"a/1.avi": np.ones((1, 3, 7), np.float16), "b/2.avi": np.zeros((1, 2, 7), np.float16)}
    write_cache(tmp_path / "cache", embeddings, model="resnet18")
    cache = FeatureCache(tmp_path / "cache")
    assert cache.recipe.dim == 7 and cache.arrays()[0].shape == (1, 5, 7)
    assert np.array_equal(cache["a/1.avi"], embeddings["a/1.avi"])
    assert verify(tmp_path / "cache") == []


def test_sources_that_names_do_not_tell_come_from_the_manifest(tmp_path):
    embeddings = random_embeddings({"a/1.avi": 2, "a/2.avi": 2})
    write_cache(tmp_path / "cache", embeddings, sources={"a/1.avi": "a/anna"}, subsets={"a/1.avi": (1,)})
    cache = FeatureCache(tmp_path / "cache")
    assert cache.sources == ("a/anna", "a/2")
    assert cache.splits == (1,) and cache.subsets.tolist() == [[1], [0]]


def test_the_manifest_alone(path):
    assert read_manifest(path).counts == Counts(clips=7, frames=322, failures=2, shards=3)


# what is sealed, and still not what it should be

HOSTILE = [
    ("recipe", None),
    ("recipe", {}),
    ("recipe", "a text"),
    ("classes", None),
    ("classes", "jump"),
    ("classes", [1]),
    ("classes", ["sit"]),
    ("splits", None),
    ("splits", {"from": "lists"}),
    ("splits", {"from": 1, "subsets": {}}),
    ("splits", {"from": "lists", "subsets": {"a/1": [1, 2], "a/2": [1, 2, 1]}}),
    ("splits", {"from": "lists", "subsets": {"a/1": [1, 2, 4]}}),
    ("sources", {"a/1": "film"}),
    ("sources", {"../1": "a/film"}),
    ("paths", {"a/../1": "videos/1.avi"}),
    ("paths", {"a/1": "/etc/shadow"}),
    ("paths", {"a/1": "videos/../../1.avi"}),
    ("sources_from", "guessed"),
    ("schema", "har-cache/1"),
    ("splits", {"from": "lists", "subsets": {"a/1": [1, 2, 1 << 70]}}),
    ("splits", {"from": "lists", "subsets": {"../1/2": [1, 2, 0]}}),
    ("splits", {"from": "lists", "subsets": [1]}),
    ("fingerprint", None),
    ("fingerprint", "0" * 64),
    ("counts", None),
    ("counts", {"clips": "7", "frames": 1, "failures": 0, "shards": 3}),
    ("shards", None),
    ("shards", {}),
    ("shards", [1]),
    ("shards", [{"file": "../../x", "sha256": "", "record_sha256": ""}]),
    ("files", None),
    ("files", {"/etc/shadow": ""}),
    ("failures", None),
    ("failures", [{"key": "a/1"}]),
    ("versions", ["torch"]),
]


@pytest.mark.parametrize(("name", "value"), HOSTILE, ids=str)
def test_a_sealed_manifest_that_is_wrong_is_one_clear_error(own, name, value):
    path = own / "manifest.json"
    content = unseal(path.read_bytes(), path)
    if value is None:
        del content[name]
    else:
        content[name] = value
    path.write_bytes(seal(content))
    with pytest.raises(CacheError) as caught:
        FeatureCache(own)
    assert "\n" not in str(caught.value)
    assert verify(own)


RECORDS = [
    ("clips", None),
    ("clips", {}),
    ("clips", [1]),
    ("clips", [{"key": "jump/a.avi"}]),
    ("clips", [{"key": 1, "frames": 1, "declared_frames": None, "fps": 1.0, "source_sha256": ""}]),
    ("clips", [{"key": "jump/../a", "frames": 1, "declared_frames": None, "fps": 1.0, "source_sha256": ""}]),
    ("clips", [{"key": "jump/a", "frames": -1, "declared_frames": None, "fps": 1.0, "source_sha256": ""}]),
    ("clips", [{"key": "jump/a", "frames": 1.5, "declared_frames": None, "fps": 1.0, "source_sha256": ""}]),
    ("clips", [{"key": "jump/a", "frames": 1, "declared_frames": "x", "fps": 1.0, "source_sha256": ""}]),
    ("failures", None),
    ("failures", [{"key": "a/1", "source_sha256": ""}]),
    ("shard_sha256", None),
    ("shard_sha256", 1),
]


@pytest.mark.parametrize(("name", "value"), RECORDS, ids=str)
def test_a_sealed_record_that_is_wrong_is_one_clear_error(own, name, value):
    path = own / "shards" / "00001.json"
    content = unseal(path.read_bytes(), path)
    if value is None:
        del content[name]
    else:
        content[name] = value
    path.write_bytes(seal(content))
    with pytest.raises(CacheError, match=r"00001\.json") as caught:
        FeatureCache(own)
    assert "\n" not in str(caught.value)
    assert [problem for problem in verify(own) if "00001.json" in problem]


def test_a_clip_that_is_there_twice_is_refused(tmp_path):
    embeddings = random_embeddings({"a/1": 3, "a/2": 2})
    write_cache(tmp_path, embeddings)
    store = Store(tmp_path)
    plan = store.read_plan()
    twice = Plan(plan.recipe, (("a/1", "a/2"), ("a/1",)))
    store.write_plan(twice)
    records = [
        store.commit(i, plan.recipe, [embedded(key, embeddings[key]) for key in keys])
        for i, keys in enumerate(twice.shards)
    ]
    store.finish(twice, records, ["a"], Splits("drawn", {}), {})
    with pytest.raises(CacheError, match="a clip is there twice"):
        FeatureCache(tmp_path)
    assert verify(tmp_path) == [f"{tmp_path}: 1 clips are there twice"]


# as a mapping, and split by split


def test_a_cache_is_a_mapping_of_keys_to_embeddings(cache, embeddings):
    assert isinstance(cache, Mapping)
    assert list(cache.keys()) == list(LENGTHS)
    assert all(np.array_equal(clip, embeddings[key]) for key, clip in cache.items())
    assert [clip.shape[1] for clip in cache.values()] == list(LENGTHS.values())
    assert cache.get("jump/none.avi") is None and dict(cache).keys() == LENGTHS.keys()


def test_a_cache_equals_itself_alone_and_has_a_hash(cache, path):
    assert cache == cache and cache != FeatureCache(path) and len({cache, FeatureCache(path)}) == 2


def test_the_label_of_a_clip_is_told_by_its_key(cache):
    assert [cache.label(key) for key in LENGTHS] == cache.labels.tolist()
    with pytest.raises(KeyError, match="is not in the cache"):
        cache.label("jump/none.avi")


def test_a_split_names_its_clips(cache):
    for number in (1, 2, 3):
        column = dict(zip(LENGTHS, cache.subsets[:, number - 1].tolist(), strict=True))
        train, val, test = cache.split(number)
        assert train == tuple(key for key in LENGTHS if column[key] == 1) and val == ()
        assert test == tuple(key for key in LENGTHS if column[key] == 2) == cache.split(number).test
    with pytest.raises(CacheError, match="no split 4: it has 3, counted from 1"):
        cache.split(4)


def test_clips_that_are_set_apart_validate(tmp_path, embeddings):
    write_cache(tmp_path, embeddings, subsets={key: (1 + i % 3,) for i, key in enumerate(LENGTHS)}, views=("a", "b"))
    split = FeatureCache(tmp_path).split(1)
    assert [split.train, split.test, split.val] == [tuple(list(LENGTHS)[i::3]) for i in range(3)]
    with pytest.raises(HarCacheError, match="sets clips apart to validate on: ask for no fold"):
        FeatureCache(tmp_path).split(1, fold=0)


def test_a_fold_holds_whole_films_out_of_the_training_list(tmp_path):
    write_cache(tmp_path, action_embeddings(lengths=(1, 2)))
    cache = FeatureCache(tmp_path)
    whole, split = cache.split(1), cache.split(1, fold=0)
    assert split.val and sorted(split.train + split.val) == sorted(whole.train) and split.test == whole.test
    films = [{cache.sources[cache.clip_keys.index(key)] for key in keys} for keys in (split.train, split.val)]
    assert not films[0] & films[1]


def test_a_table_of_the_clips(cache):
    table = cache.to_pandas()
    assert list(table["key"]) == list(LENGTHS) and list(table["frames"]) == list(LENGTHS.values())
    assert list(table["class"]) == [key.split("/")[0] for key in LENGTHS]
    assert set(table.loc[table["split2"] == "test", "key"]) == set(cache.split(2).test)


def test_without_pandas_a_table_says_what_to_install(cache, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(HarCacheError, match="pip install pandas"):
        cache.to_pandas()
