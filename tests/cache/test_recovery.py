from pathlib import Path

import pytest

from har_cache.cache.manifest import Plan, Splits
from har_cache.cache.record import ClipRecord
from har_cache.cache.recovery import recover_plan
from har_cache.cache.writer import Store
from har_cache.errors import CacheError

from ..conftest import Finished
from ..helpers.caches import ENCODER, embedded, make_recipe, random_embeddings

SHARDS = (("a/1.avi", "a/2.avi"), ("a/3.avi", "b/4.avi"))


def made(root: Path, shards: int = 2, finished: bool = True, **machine: str) -> tuple[Store, Plan]:
    """A cache with a clip that failed, of whose planned shards so many are there."""
    store, recipe = Store(root), make_recipe(device="cuda" if machine else "cpu")
    store.create()
    store.write_encoder(ENCODER)
    plan = Plan(recipe, SHARDS, machine)
    store.write_plan(plan)
    rows = random_embeddings({key: 3 for shard in SHARDS for key in shard})
    clips = [[embedded(key, rows[key]) for key in shard] for shard in SHARDS]
    clips[0][0] = ClipRecord("a/1.avi", reason="empty file")
    records = [store.commit(i, recipe, clips[i]) for i in range(shards)]
    if finished:
        store.finish(plan, records, ["a", "b"], Splits("drawn", {}), {"numpy": "2", **machine})
    return store, plan


@pytest.mark.parametrize("machine", [{}, {"gpu": "one / another", "driver": "1", "torch": "2.11"}])
def test_a_lost_plan_comes_back_byte_for_byte(tmp_path: Path, machine: dict[str, str]) -> None:
    store, plan = made(tmp_path, **machine)
    before = (tmp_path / "plan.json").read_bytes()
    (tmp_path / "plan.json").unlink()
    assert recover_plan(tmp_path) == plan
    store.write_plan(plan)
    assert (tmp_path / "plan.json").read_bytes() == before


def test_shards_that_were_added_after_the_manifest_count(tmp_path: Path) -> None:
    store, plan = made(tmp_path)
    new = random_embeddings({"b/9.avi": 2})
    store.commit(3, plan.recipe, [embedded("b/9.avi", new["b/9.avi"])])
    (tmp_path / "shards" / "99999999.h5").touch()  # nobody plans that many
    (tmp_path / "plan.json").unlink()
    found = recover_plan(tmp_path)
    assert found is not None and found.shards == (*SHARDS, (), ("b/9.avi",))


def test_without_a_record_its_clips_are_left_to_be_added(tmp_path: Path) -> None:
    made(tmp_path)
    (tmp_path / "shards" / "00000.json").write_bytes(b"{")
    found = recover_plan(tmp_path)
    assert found is not None and found.shards == ((), SHARDS[1])


def test_without_a_manifest_it_is_refused(tmp_path: Path) -> None:
    made(tmp_path, shards=1, finished=False)
    (tmp_path / "plan.json").unlink()
    with pytest.raises(CacheError, match=r"plan\.json: lost, and no manifest to recover it from"):
        recover_plan(tmp_path)


def test_where_there_is_no_shard_nothing_is_lost(tmp_path: Path) -> None:
    made(tmp_path, shards=0, finished=False)
    assert recover_plan(tmp_path) is None
    assert recover_plan(tmp_path / "none") is None


def test_of_a_real_cache_it_is_the_same_file(finished: Finished, tmp_path: Path) -> None:
    own = finished.copy(tmp_path)
    before = (own.cache / "plan.json").read_bytes()
    (own.cache / "plan.json").write_bytes(before.replace(b'"seed": 0', b'"seed": 1'))
    plan = recover_plan(own.cache)
    assert plan is not None
    Store(own.cache).write_plan(plan)
    assert (own.cache / "plan.json").read_bytes() == before
