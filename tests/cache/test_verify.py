import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from har_cache.cache.manifest import Plan, Splits
from har_cache.cache.recipe import Recipe
from har_cache.cache.record import ClipRecord, read_record
from har_cache.cache.verify import verify
from har_cache.cache.writer import Store
from har_cache.errors import DataError
from har_cache.storage.files import read_file, seal, sha256, unseal

from ..conftest import Finished
from ..helpers.caches import ENCODER, embedded, make_recipe, random_embeddings


@pytest.fixture(scope="module")
def tampered(finished: Finished, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the cache for tests that put back what they break."""
    return shutil.copytree(finished.cache, tmp_path_factory.mktemp("tampered") / "cache")


@pytest.fixture
def own(finished: Finished, tmp_path: Path) -> Finished:
    return finished.copy(tmp_path)


def files(cache: Path) -> list[Path]:
    return sorted(path for path in cache.rglob("*") if path.is_file())


def only_problem(cache: Path, data: Path | None = None) -> str:
    [problem] = verify(cache, data)
    assert "\n" not in problem
    return problem


def test_a_finished_cache_is_as_it_was_written(finished: Finished) -> None:
    assert verify(finished.cache) == []
    assert verify(finished.cache, finished.data) == []


def test_a_cache_where_everything_failed_but_one_clip_is_sound(tmp_path: Path) -> None:
    recipe, store = make_recipe(), Store(tmp_path)
    store.create()
    store.write_encoder(ENCODER)
    plan = Plan(recipe, (("a/1.avi", "a/2.avi"), ("a/3.avi",)))
    store.write_plan(plan)
    [(key, rows)] = random_embeddings({"a/1.avi": 5}).items()
    bad = [ClipRecord(name, reason="empty file") for name in ("a/2.avi", "a/3.avi")]
    records = [store.commit(0, recipe, [embedded(key, rows), bad[0]]), store.commit(1, recipe, bad[1:])]
    store.finish(plan, records, ["a"], Splits("drawn", {}), {})
    assert verify(tmp_path) == []


def flipped(path: Path, position: int, bit: int, cache: Path) -> list[str]:
    """What is found with that bit flipped; it is put back."""
    with path.open("r+b") as file:
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes([byte ^ 1 << bit]))
        file.flush()
        try:
            return verify(cache)
        finally:
            file.seek(position)
            file.write(bytes([byte]))


@given(st.data())
def test_a_flipped_bit_anywhere_is_found(tampered: Path, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(files(tampered)))
    position = data.draw(st.integers(0, path.stat().st_size - 1))
    problems = flipped(path, position, data.draw(st.integers(0, 7)), tampered)
    assert any(path.name in problem for problem in problems)


def test_a_flipped_bit_at_either_end_of_any_file_is_found(tampered: Path) -> None:
    assert len(files(tampered)) == 4 + 2 * 8
    for path in files(tampered):
        for position in (0, path.stat().st_size - 1):
            for bit in (0, 7):
                assert any(path.name in problem for problem in flipped(path, position, bit, tampered))
    assert verify(tampered) == []


def test_a_cut_or_lengthened_file_is_found(own: Finished) -> None:
    for path in files(own.cache):
        whole = path.read_bytes()
        for other in (whole[:-1], whole + b"\n", b""):
            path.write_bytes(other)
            assert any(path.name in problem for problem in verify(own.cache))
        path.write_bytes(whole)
    assert verify(own.cache) == []


def test_a_deleted_file_is_found(own: Finished) -> None:
    for path in files(own.cache):
        whole = path.read_bytes()
        path.unlink()
        problem = only_problem(own.cache)
        assert path.name in problem or (path.name == "manifest.json" and "not finished" in problem)
        path.write_bytes(whole)


def test_shards_of_another_place_are_found(own: Finished) -> None:
    shards = own.cache / "shards"
    for suffix in ("h5", "json"):
        first, second = (shards / f"0000{i}.{suffix}" for i in (1, 2))
        data = first.read_bytes()
        first.write_bytes(second.read_bytes())
        second.write_bytes(data)
    problems = verify(own.cache)
    assert {name for name in ("00001.h5", "00002.h5", "00001.json", "00002.json") if name in " ".join(problems)} == {
        "00001.h5",
        "00002.h5",
        "00001.json",
        "00002.json",
    }


@pytest.mark.parametrize(("count", "changed"), [("clips", 17), ("frames", 1)])
def test_wrong_counts_in_the_manifest_are_found(own: Finished, count: str, changed: int) -> None:
    path = own.cache / "manifest.json"
    manifest = unseal(read_file(path), path)
    manifest["counts"][count] = changed
    path.write_bytes(seal(manifest))
    assert str(changed) in only_problem(own.cache)


def written(root: Path, planned: tuple[tuple[str, ...], ...], shard: tuple[str, ...], changed: Recipe) -> Path:
    """A cache of one shard, everything sealed; its file holds the clips of `shard` and says it is of `changed`."""
    store, embeddings = Store(root), random_embeddings({"a/1.avi": 2, "a/2.avi": 3})
    store.create()
    store.write_encoder(ENCODER)
    plan = Plan(make_recipe(), planned)
    store.write_plan(plan)
    ours = store.commit(0, plan.recipe, [embedded(key, embeddings[key]) for key in planned[0]])
    others = Store(root / "other")
    others.create()
    theirs = others.commit(0, changed, [embedded(key, embeddings[key]) for key in shard])
    shutil.copy(others.shard_path(0), store.shard_path(0))
    record = replace(ours, shard_sha256=theirs.shard_sha256)
    path = store.record_path(0)
    path.write_bytes(seal(record.to_dict(plan.recipe)))
    store.finish(plan, [read_record(path, plan.recipe.fingerprint)], ["a"], Splits("drawn", {}), {})
    shutil.rmtree(root / "other")
    return root


def test_a_shard_of_another_recipe_is_found_though_all_is_sealed(tmp_path: Path) -> None:
    same = ("a/1.avi", "a/2.avi")
    assert verify(written(tmp_path / "right", (same,), same, make_recipe())) == []
    assert "another recipe" in only_problem(written(tmp_path / "wrong", (same,), same, make_recipe(seed=1)))


@pytest.mark.parametrize("shard", [("a/1.avi",), ("a/2.avi", "a/1.avi")])
def test_a_shard_of_other_clips_than_its_record_is_found_though_all_is_sealed(
    tmp_path: Path, shard: tuple[str, ...]
) -> None:
    assert "not those of its record" in only_problem(written(tmp_path, (("a/1.avi", "a/2.avi"),), shard, make_recipe()))


def test_fewer_shards_than_are_planned_are_found_though_all_is_sealed(tmp_path: Path) -> None:
    first = ("a/1.avi",)
    assert "2 shards are planned, 1 are finished" in only_problem(
        written(tmp_path, (first, ("a/2.avi",)), first, make_recipe())
    )


def test_no_cache_and_an_unfinished_one_are_told_apart(own: Finished, tmp_path: Path) -> None:
    assert "no such directory" in only_problem(tmp_path / "nothing")
    assert "is no cache" in only_problem(own.data)
    (own.cache / "manifest.json").unlink()
    assert "not finished" in only_problem(own.cache)


def test_an_extension_that_was_not_finished_is_found(own: Finished) -> None:
    store = Store(own.cache)
    plan = store.read_plan()
    assert plan is not None
    store.write_plan(plan.extended(["sit/new.avi"], 2))
    assert "plan.json" in only_problem(own.cache)
    assert "extraction was started" in only_problem(own.cache)


def resealed(path: Path, **changes: object) -> str:
    """Change a JSON file of a cache, its seal made right; gives its sha256."""
    data = seal({**unseal(read_file(path), path), **changes})
    path.write_bytes(data)
    return sha256(data)


def replan(cache: Path, shards: object) -> None:
    """Another plan, which the manifest knows."""
    digest = resealed(cache / "plan.json", shards=shards)
    files = unseal(read_file(cache / "manifest.json"), cache)["files"]
    resealed(cache / "manifest.json", files={**files, "plan.json": digest})


@pytest.mark.parametrize("change", ["order", "another", "moved"])
def test_clips_that_are_not_where_the_plan_says_are_found(own: Finished, change: str) -> None:
    shards = unseal(read_file(own.cache / "plan.json"), own.cache)["shards"]
    if change == "order":
        shards[0].reverse()
    elif change == "another":
        shards[0][0] = "sit/another.avi"
    else:
        shards[1].append(shards[0].pop())
    replan(own.cache, shards)
    problems = verify(own.cache)
    assert len(problems) == (2 if change == "moved" else 1)
    assert all(problem.endswith("its clips are not those of the plan") for problem in problems)


def test_source_files_that_differ_are_named(own: Finished) -> None:
    clips = sorted((own.data / "videos").rglob("*.avi"))
    with clips[0].open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_END)
        file.write(bytes([byte ^ 1]))
    clips[1].unlink()
    new = clips[2].with_name("new.avi")
    shutil.copy(clips[2], new)
    keys = [f"{path.parent.name}/{path.name}" for path in (clips[0], clips[1], new)]
    expected = ["changed", "no longer in", "not in the cache"]
    problems = verify(own.cache, own.data)
    assert len(problems) == 3
    assert all(any(p.startswith(key) and what in p for p in problems) for key, what in zip(keys, expected, strict=True))
    assert verify(own.cache) == []


def test_source_file_that_cannot_be_read_is_named(own: Finished) -> None:
    clip = next((own.data / "videos").rglob("*.avi"))
    clip.unlink()
    clip.symlink_to(own.data / "nothing.avi")
    assert clip.name in only_problem(own.cache, own.data)


def test_no_data_set_is_an_error(finished: Finished, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no videos"):
        verify(finished.cache, finished.cache)
