import dataclasses
import json
import threading
import time

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from har_cache.cache.manifest import Plan, Splits
from har_cache.cache.record import ClipRecord, ShardRecord, read_record, standing_failures
from har_cache.cache.writer import CommitThread, Store
from har_cache.errors import CacheError, FileError
from har_cache.storage.files import read_csv, seal, sha256, unseal

from ..helpers.caches import ENCODER, embedded, make_recipe, random_embeddings, write_cache

KEYS = st.sets(st.text(min_size=1, max_size=8), max_size=60)


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "cache")
    store.create()
    return store


def results(keys, failures=(), seed=0):
    embeddings = random_embeddings(dict.fromkeys(keys, 4), seed=seed)
    return [
        ClipRecord(key, reason="empty file", source_sha256=sha256(b""))
        if key in failures
        else embedded(key, embeddings[key], 29.97, 5)
        for key in keys
    ]


def committed(store, plan, index=0, failures=()):
    return store.commit(index, plan.recipe, results(plan.shards[index], failures))


def record(good=(), failed=()):
    clips = tuple(ClipRecord(key, 1) for key in good)
    return ShardRecord("", clips, tuple(ClipRecord(key, reason=reason) for key, reason in failed))


# the plan


@given(KEYS, st.integers(1, 20))
def test_a_plan_holds_every_key_once_in_order_in_shards_of_about_equal_size(keys, shard_clips):
    plan = Plan(make_recipe()).extended(keys, shard_clips)
    assert [key for shard in plan.shards for key in shard] == sorted(keys)
    sizes = [len(shard) for shard in plan.shards]
    assert len(sizes) == -(-len(keys) // shard_clips)
    if sizes:
        assert 1 <= min(sizes) <= max(sizes) <= shard_clips
        assert max(sizes) - min(sizes) <= 1
    assert plan.keys == keys


@given(KEYS, KEYS, st.integers(1, 9), st.integers(1, 9))
def test_new_clips_become_new_shards_and_leave_the_others_alone(old, new, before, after):
    plan = Plan(make_recipe()).extended(old, before)
    longer = plan.extended(new - old, after)
    assert longer.recipe == plan.recipe
    assert longer.shards[: len(plan.shards)] == plan.shards
    added = longer.shards[len(plan.shards) :]
    assert sorted(key for shard in added for key in shard) == sorted(new - old)
    assert longer.keys == old | new


@given(st.permutations(["a/1", "a/2", "b/1", "b/2", "c/1"]))
def test_the_order_in_which_clips_are_found_does_not_matter(keys):
    assert Plan(make_recipe()).extended(keys, 2) == Plan(make_recipe()).extended(sorted(keys), 2)


def test_a_plan_survives_its_file(store):
    plan = Plan(make_recipe(views=("center", "flip"))).extended(["a/é,\n.avi", "b/2", "c/3"], 2)
    assert store.read_plan() is None
    store.write_plan(plan)
    assert store.read_plan() == plan


def test_a_damaged_plan_is_refused_by_name(store):
    store.write_plan(Plan(make_recipe()).extended(["a/1"], 2))
    data = (store.root / "plan.json").read_bytes()
    (store.root / "plan.json").write_bytes(data.replace(b"a/1", b"a/2"))
    with pytest.raises(CacheError, match=r"plan\.json: damaged"):
        store.read_plan()


# a shard and its record


@pytest.fixture
def plan(store):
    plan = Plan(make_recipe()).extended(["a/1", "a/2", "b/1", "b/2", "c/1"], 3)
    store.write_plan(plan)
    return plan


def test_a_shard_is_done_once_it_is_committed(store, plan):
    assert store.done(plan, 0) is None
    record = committed(store, plan)
    assert store.done(plan, 0) == record
    assert store.done(plan, 1) is None
    assert record.shard_sha256 == sha256(store.shard_path(0).read_bytes())
    assert record.sha256 == sha256(store.record_path(0).read_bytes())
    assert list(record.clips) == [ClipRecord(key, 4, 29.97, 5, sha256(key.encode())) for key in plan.shards[0]]
    assert json.loads(store.record_path(0).read_bytes())["clips"] == [
        {"key": key, "frames": 4, "declared_frames": 5, "fps": 29.97, "source_sha256": sha256(key.encode())}
        for key in plan.shards[0]
    ]


def test_failed_clips_are_in_the_record_and_not_in_the_shard(store, plan):
    record = committed(store, plan, 0, failures=["a/1"])
    assert store.done(plan, 0) == record
    assert [clip.key for clip in record.clips] == [key for key in plan.shards[0] if key != "a/1"]
    assert json.loads(store.record_path(0).read_bytes())["failures"] == [
        {"key": "a/1", "reason": "empty file", "source_sha256": sha256(b"")}
    ]
    assert record.failures == (ClipRecord("a/1", reason="empty file", source_sha256=sha256(b"")),)


def test_a_shard_in_which_every_clip_failed_is_done_too(store, plan):
    record = committed(store, plan, 0, failures=plan.shards[0])
    assert store.done(plan, 0) == record
    assert not record.clips


def test_the_same_results_give_the_same_bytes(store, plan, tmp_path):
    other = Store(tmp_path / "other")
    other.create()
    assert committed(store, plan, failures=["a/2"]) == committed(other, plan, failures=["a/2"])
    for path in (Store.shard_path, Store.record_path):
        assert path(store, 0).read_bytes() == path(other, 0).read_bytes()


def test_committing_again_changes_nothing(store, plan):
    first = committed(store, plan)
    assert committed(store, plan) == first
    assert store.done(plan, 0) == first


@given(st.data())
@settings(max_examples=40)
def test_a_shard_with_any_flipped_bit_in_it_or_its_record_is_not_done(tmp_path_factory, data):
    store = Store(tmp_path_factory.mktemp("cache"))
    store.create()
    plan = Plan(make_recipe()).extended(["a/1", "a/2"], 2)
    committed(store, plan)
    path = data.draw(st.sampled_from([store.shard_path(0), store.record_path(0)]))
    content = bytearray(path.read_bytes())
    bit = data.draw(st.integers(0, 8 * len(content) - 1))
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)
    assert store.done(plan, 0) is None
    committed(store, plan)
    assert store.done(plan, 0) is not None


@pytest.mark.parametrize("path", [Store.shard_path, Store.record_path])
def test_a_shard_that_lacks_one_of_its_files_is_not_done(store, plan, path):
    committed(store, plan)
    path(store, 0).unlink()
    assert store.done(plan, 0) is None


def test_a_shard_of_another_recipe_is_not_done(store, plan):
    committed(store, plan)
    assert store.done(dataclasses.replace(plan, recipe=make_recipe(seed=1)), 0) is None
    with pytest.raises(CacheError, match=r"00000\.json: belongs to another recipe"):
        read_record(store.record_path(0), make_recipe(seed=1).fingerprint)


@pytest.mark.parametrize("shards", [(("a/1", "a/2"),), (("a/1", "a/2", "b/1", "b/2"),), (("a/1", "a/2", "z/1"),)])
def test_a_shard_of_other_clips_is_not_done(store, plan, shards):
    committed(store, Plan(plan.recipe, (("a/1", "a/2", "b/1"),)))
    assert store.done(Plan(plan.recipe, (("b/1", "a/2", "a/1"),)), 0) is not None
    assert store.done(Plan(plan.recipe, shards), 0) is None


def test_the_record_is_written_after_the_shard(store, plan, monkeypatch):
    written = []
    monkeypatch.setattr("har_cache.cache.writer.write_file", lambda path, data: written.append((path, data)))
    monkeypatch.setattr("har_cache.cache.writer.read_record", lambda path, fingerprint: None)
    committed(store, plan)
    assert [path for path, _ in written] == [store.shard_path(0), store.record_path(0)]
    assert unseal(written[1][1], written[1][0])["shard_sha256"] == sha256(written[0][1])


# failures


def test_a_failure_stands_until_a_later_shard_holds_the_clip():
    first = record(good=["a/1"], failed=[("b/1", "empty file"), ("c/1", "no video stream")])
    second = record(good=["b/1"], failed=[("c/1", "it hangs")])
    assert standing_failures([first]) == {"b/1": "empty file", "c/1": "no video stream"}
    assert standing_failures(iter([first, second])) == {"c/1": "it hangs"}
    assert standing_failures([]) == {}


def test_failures_are_told_by_key():
    failures = standing_failures([record(failed=[("b/1", "x"), ("a/2", "y")]), record(failed=[("a/1", "z")])])
    assert list(failures) == ["a/1", "a/2", "b/1"]


@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), st.text("a,\"'\n ;"), max_size=4
    )
)
@example({'a,b/"c".avi': "x", "a\nb/-c.avi": "y", "a\rb/c\td.avi": "z", " a/ü ": ", "})
@settings(max_examples=40)
def test_failures_csv_can_be_read_whatever_the_names(tmp_path_factory, failures):
    store = Store(tmp_path_factory.mktemp("cache"))
    store.create()
    store.write_encoder(ENCODER)
    plan = Plan(make_recipe())
    store.write_plan(plan)
    store.finish(plan, [record(failed=failures.items())], [], Splits("drawn", {}), {})
    rows = read_csv(store.root / "failures.csv")
    assert rows[0] == ["key", "reason"]
    assert rows[1:] == [[key, failures[key]] for key in sorted(failures)]


# the manifest


def test_the_manifest_tells_counts_failures_and_every_files_sha256(tmp_path):
    embeddings = random_embeddings({"a/1": 3, "a/2": 5, "b/1": 7, "b/2": 0})
    recipe = write_cache(tmp_path, embeddings, failures={"b/3": "empty file"}, shard_clips=2)
    manifest = unseal((tmp_path / "manifest.json").read_bytes(), tmp_path)
    assert manifest["schema"] == "har-cache/2"
    assert manifest["fingerprint"] == recipe.fingerprint
    assert manifest["recipe"] == recipe.to_dict()
    assert manifest["counts"] == {"clips": 4, "frames": 15, "failures": 1, "shards": 3}
    assert manifest["failures"] == [{"key": "b/3", "reason": "empty file"}]
    assert manifest["classes"] == ["a", "b"]
    told = dict(manifest["files"])
    for entry in manifest["shards"]:
        told[f"shards/{entry['file']}"] = entry["sha256"]
        told[f"shards/{entry['file']}".replace(".h5", ".json")] = entry["record_sha256"]
    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert files == told.keys() | {"manifest.json"}
    assert all(sha256((tmp_path / name).read_bytes()) == digest for name, digest in told.items())


def test_the_same_cache_is_written_as_the_same_bytes(tmp_path):
    embeddings = random_embeddings({"a/1": 3, "b/1": 7})
    for name in ("first", "second"):
        write_cache(tmp_path / name, embeddings, failures={"b/2": "empty file"})
    for path in (tmp_path / "first").rglob("*.*"):
        assert path.read_bytes() == (tmp_path / "second" / path.relative_to(tmp_path / "first")).read_bytes()


# the directory


def test_create_makes_the_directory_and_may_be_called_again(tmp_path):
    store = Store(tmp_path / "a" / "b")
    store.create()
    store.create()
    assert [path.name for path in store.root.iterdir()] == ["shards"]


def test_a_directory_that_holds_other_things_is_refused_and_left_as_it_is(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(CacheError, match=r"holds other files \(thesis\.tex, \.\.\.\); choose an empty directory"):
        Store(tmp_path).create()
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_cache_may_be_given_other_files_later(tmp_path):
    write_cache(tmp_path, random_embeddings({"a/1": 3}))
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / ".hidden").write_text("")
    Store(tmp_path).create()


def test_hidden_files_are_no_reason_to_refuse(tmp_path):
    (tmp_path / ".gitignore").write_text("")
    Store(tmp_path).create()


def test_a_file_in_place_of_the_directory_is_refused(tmp_path):
    (tmp_path / "cache").write_text("")
    with pytest.raises(FileError, match=f"{tmp_path / 'cache'}: cannot be created"):
        Store(tmp_path / "cache").create()


def test_clear_removes_the_cache_and_nothing_else(tmp_path):
    write_cache(tmp_path, random_embeddings({"a/1": 3, "b/1": 2}), shard_clips=1)
    foreign = [tmp_path / "notes.txt", tmp_path / "shards" / "2024 notes.txt", tmp_path / "shards" / "00000.h5.bak"]
    for path in foreign:
        path.write_text("")
    (tmp_path / "shards" / "1").mkdir()
    store = Store(tmp_path)
    store.clear()
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(foreign)
    assert store.read_plan() is None
    store.clear()


def test_clear_removes_the_manifest_first(tmp_path, monkeypatch):
    write_cache(tmp_path, random_embeddings({"a/1": 3}))
    removed = []
    monkeypatch.setattr("har_cache.cache.writer.remove_file", removed.append)
    Store(tmp_path).clear()
    assert removed[0] == tmp_path / "manifest.json"
    assert {path.name for path in removed} >= {"plan.json", "encoder.safetensors", "failures.csv", "00000.h5"}


def test_what_cannot_be_cleared_is_one_clear_line(tmp_path):
    (tmp_path / "manifest.json").mkdir()
    with pytest.raises(FileError, match=r"manifest\.json: cannot be removed"):
        Store(tmp_path).clear()


def test_the_encoder_comes_back(store):
    store.write_encoder(b"weights")
    assert store.encoder_bytes() == b"weights"


def test_a_sealed_record_of_something_else_is_not_done(store, plan):
    committed(store, plan)
    content = json.loads(store.record_path(0).read_bytes())
    store.record_path(0).write_bytes(seal({**content, "shard_sha256": sha256(b"")}))
    assert store.done(plan, 0) is None


def test_embeddings_are_stored_as_float16(store, plan):
    keys = plan.shards[0]
    wide = [embedded(key, np.ones((1, 2, 256), np.float32)) for key in keys]
    narrow = [embedded(key, np.ones((1, 2, 256), np.float16)) for key in keys]
    assert store.commit(0, plan.recipe, wide) == store.commit(0, plan.recipe, narrow)


# --------------------------------------------------------------------------------------- commits in a thread


class Disk:
    """Stands for a store whose disk is slow: a commit waits for `let`; that of shard `full` fails."""

    def __init__(self, full=None):
        self.full, self.written, self.free = full, [], threading.Semaphore(0)

    def let(self, count):
        self.free.release(count)

    def commit(self, index, recipe, clips):
        assert self.free.acquire(timeout=60)
        if index == self.full:
            raise FileError("no space")
        self.written.append((index, threading.current_thread()))
        return record([f"a/{index}"])


def told_by(disk):
    """A CommitThread of the disk, and what it tells: each shard, and the thread that it tells it in."""
    told = []

    def done(index, found, seconds):
        assert found.keys == {f"a/{index}"} and seconds >= 0
        told.append((index, threading.current_thread()))

    return CommitThread(disk, make_recipe(), done), told


def in_thread(numbers, thread):
    return [(i, thread) for i in numbers]


def test_shards_are_committed_in_order_in_one_thread_and_told_of_in_this_one():
    disk = Disk()
    commits, told = told_by(disk)
    with commits:
        disk.let(2)
        for i in (3, 1, 2):
            commits.add(i, [])
        while len(disk.written) < 2:
            commits.collect()
        disk.let(1)
    assert [i for i, _ in disk.written] == [3, 1, 2]
    [thread] = {thread for _, thread in disk.written}
    assert thread is not threading.current_thread()
    assert told == in_thread([3, 1, 2], threading.current_thread())


def test_at_most_two_shards_wait_for_the_one_that_is_written():
    disk = Disk()
    commits, told = told_by(disk)
    with commits:
        for i in range(3):
            commits.add(i, [])  # waits for nothing
        assert told == []
        threading.Timer(0.2, disk.let, [1]).start()
        commits.add(3, [])  # waits for the first
        assert [i for i, _ in told] == [0]
        disk.let(3)
    assert [i for i, _ in told] == [0, 1, 2, 3]


def test_an_error_is_raised_at_once_and_nothing_is_committed_after_it():
    disk = Disk(full=1)
    commits, told = told_by(disk)
    disk.let(9)
    with pytest.raises(FileError, match="no space"), commits:
        for i in range(3):
            commits.add(i, [])
        for _ in range(1000):
            commits.collect()
            time.sleep(0.01)
    assert [i for i, _ in disk.written] == [i for i, _ in told] == [0]


def test_the_error_of_the_last_commit_is_raised_at_the_end():
    disk = Disk(full=2)
    commits, told = told_by(disk)
    with pytest.raises(FileError, match="no space"), commits:
        for i in range(3):
            commits.add(i, [])
        disk.let(9)
    assert [i for i, _ in told] == [0, 1]


@pytest.mark.parametrize("error", [KeyboardInterrupt, CacheError])
def test_what_was_made_before_an_interrupt_is_committed(error):
    disk = Disk()
    commits, _ = told_by(disk)
    with pytest.raises(error), commits:
        for i in range(3):
            commits.add(i, [])
        disk.let(3)
        raise error
    assert [i for i, _ in disk.written] == [0, 1, 2]


# ------------------------------------------------------------------------------------- machines of a plan


def test_a_plan_says_on_which_machines_its_shards_are_made(store):
    plan = Plan(make_recipe(device="cuda"), (("a/1",),)).made_on({"gpu": "A", "driver": "1"})
    assert plan.machine == {"gpu": "A", "driver": "1"} and plan.shards == (("a/1",),)
    store.write_plan(plan)
    assert store.read_plan() == plan
    mixed = plan.extended(["b/1"], 1).made_on({"gpu": "B", "driver": "1", "cudnn": "9"})
    assert mixed.machine == {"gpu": "A / B", "driver": "1", "cudnn": "9"}
    assert mixed.made_on({"gpu": "A"}).made_on({"gpu": "B"}).machine == mixed.machine


def test_a_plan_of_no_machine_is_the_file_that_it_always_was(store):
    plan = Plan(make_recipe(), (("a/1",),))
    assert plan.to_dict().keys() == {"schema", "recipe", "fingerprint", "shards"}
    assert plan.made_on({}) == plan


def test_a_plans_machine_of_another_type_is_refused(store):
    content = {**Plan(make_recipe()).to_dict(), "machine": ["A"]}
    (store.root / "plan.json").write_bytes(seal(content))
    with pytest.raises(CacheError, match=r"plan\.json: machine: expected an object"):
        store.read_plan()
