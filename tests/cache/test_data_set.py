from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from har_cache import FeatureCache
from har_cache.cache.data_set import tell_changes
from har_cache.cache.manifest import TESTED, UNTESTED, Splits, read_manifest
from har_cache.cache.verify import verify
from har_cache.data.splits import TEST, TRAIN
from har_cache.errors import SettingError
from har_cache.extraction import extract as extraction
from har_cache.progress import Progress
from har_cache.settings.extraction import ExtractSettings

from ..conftest import contents
from ..helpers.caches import write_cache
from ..helpers.fake_extraction import fake_extraction, made_with
from ..helpers.own_data import UCF101, plain_lists, table, ucf101_lists, write_clips, write_text


class Lines(Progress):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture(autouse=True)
def without_decoding() -> Iterator[None]:
    with fake_extraction():
        yield


def extract(root: Path, **changes: Any) -> tuple[FeatureCache, list[str]]:
    lines = Lines()
    wanted = made_with(root, **changes)
    extraction.extract(wanted, lines)
    return FeatureCache(wanted.cache), lines.said


def told(cache: FeatureCache) -> list[tuple[Any, ...]]:
    return list(
        zip(cache.clip_keys, cache.labels.tolist(), cache.sources, map(tuple, cache.subsets.tolist()), strict=True)
    )


def test_class_folders_tables_plain_lists_and_those_of_ucf101_give_the_same_cache(tmp_path: Path) -> None:
    data = write_clips(tmp_path / "data", *UCF101)
    lists = tmp_path / "lists"
    expected, said = extract(tmp_path, splits=ucf101_lists(lists / "ucf"), cache=tmp_path / "official")
    assert not any("WARNING" in line for line in said)
    assert [row[2:] for row in told(expected)] == [(key.rpartition("_")[0], subsets) for key, subsets in UCF101.items()]
    forms: dict[str, dict[str, Any]] = {
        "table": {"lists": table(lists / "clips.csv")},
        "plain": {"lists": plain_lists(lists)},
    }
    for name, form in forms.items():
        cache, _ = extract(tmp_path, cache=tmp_path / name, **{k: tuple(v) for k, v in form.items()})
        assert told(cache) == told(expected) and cache.classes == expected.classes
        assert contents(cache.path / "shards") == contents(expected.path / "shards")
        assert verify(cache.path, data) == [] and cache.files(data) == expected.files(data)
    ucf101_lists(data / "ucfTrainTestlist")
    found, _ = extract(tmp_path, cache=tmp_path / "found")
    assert contents(found.path) == contents(expected.path)


def test_a_cache_of_listed_clips_knows_where_they_are(tmp_path: Path) -> None:
    data = write_clips(tmp_path / "data", "one/a.mp4", "two/a.mp4", "b.mp4", "c.mp4")
    rows = "one/a.mp4,x,anna", "two/a.mp4,x,bob", "b.mp4,y,anna", "c.mp4,y,bob"
    path = write_text(data / "list.csv", "path,label,source", *rows)
    cache, _ = extract(tmp_path, data=None, lists=(str(path),), folds=2)
    assert dict(zip(cache.clip_keys, cache.sources, strict=True)) == {
        "x/one__a.mp4": "x/anna",
        "x/two__a.mp4": "x/bob",
        "y/b.mp4": "y/anna",
        "y/c.mp4": "y/bob",
    }
    assert cache.splits == (1, 2) and cache.manifest.sources_from == "given"
    folds = dict(zip(cache.clip_keys, map(tuple, cache.subsets.tolist()), strict=True))
    assert {folds["x/one__a.mp4"], folds["x/two__a.mp4"]} == {(TEST, TRAIN), (TRAIN, TEST)}
    assert folds["x/one__a.mp4"] == folds["y/b.mp4"] and folds["x/two__a.mp4"] == folds["y/c.mp4"]
    assert verify(cache.path, data) == []
    (data / "two/a.mp4").write_bytes(b"good, but another")
    (data / "b.mp4").unlink()
    assert sorted(verify(cache.path, data)) == [
        "x/two__a.mp4: the file has changed since it was cached",
        f"y/b.mp4: no longer in {data}",
    ]


def test_clips_that_a_later_list_does_not_name_keep_their_place_and_source(tmp_path: Path) -> None:
    data = write_clips(tmp_path / "data", "one/a.mp4", "b.mp4")
    for name, line in (("first", "one/a.mp4,x,anna"), ("second", "b.mp4,x,bob")):
        path = write_text(data / f"{name}.csv", "path,label,source", line)
        cache, _ = extract(tmp_path, lists=(str(path),))
    assert dict(zip(cache.clip_keys, cache.sources, strict=True)) == {"x/a.mp4": "x/anna", "x/b.mp4": "x/bob"}
    assert verify(cache.path, data) == []


def test_each_file_for_a_source_of_its_own_is_a_warning_unless_names_or_a_pattern_tell(tmp_path: Path) -> None:
    write_clips(tmp_path / "data", "x/anna-1.mp4", "x/anna-2.mp4", "x/bob-1.mp4", "x/other.mp4")
    cache, said = extract(tmp_path)
    (warning,) = (line for line in said if line.startswith("WARNING"))
    assert "each file is taken for a source of its own" in warning and "--source-pattern" in warning
    assert cache.manifest.sources_from == "files" and len(set(cache.sources)) == 4
    cache, said = extract(tmp_path, source_pattern="^([a-z]+)-")
    assert not any(line.startswith("WARNING") for line in said)
    assert "1 of no source that is told: each is taken for a source of its own: x/other.mp4" in said
    assert cache.manifest.sources_from == "given"
    assert cache.sources == ("x/anna", "x/anna", "x/bob", "x/other.mp4")


def test_videos_without_labels_are_cached_without_splits(tmp_path: Path) -> None:
    data = write_clips(tmp_path / "data", "a.mp4", "b.mp4")
    cache, said = extract(tmp_path)
    assert cache.clip_keys == ("unlabelled/a.mp4", "unlabelled/b.mp4") and cache.splits == ()
    assert (cache.manifest.splits.from_, dict(cache.manifest.splits.subsets)) == ("none", {})
    assert not any(line.startswith("WARNING") for line in said)
    assert verify(cache.path, data) == []
    alone, _ = extract(tmp_path, data=data / "a.mp4", cache=tmp_path / "alone")
    assert alone.clip_keys == ("unlabelled/a.mp4",) and verify(alone.path, data) == [] == verify(
        alone.path, data / "a.mp4"
    )


def test_neither_data_nor_a_list_is_wrong_usage() -> None:
    with pytest.raises(SettingError, match="--data: which videos"):
        ExtractSettings(cache=Path("cache")).check()


def test_other_splits_are_told_and_that_clips_the_projection_may_know_are_tested_now(tmp_path: Path) -> None:
    write_clips(tmp_path / "data", *UCF101)
    first, said = extract(tmp_path, splits=ucf101_lists(tmp_path / "ucf"))
    untested = {key for key in first if TEST not in first.manifest.splits.subsets[key]}
    assert untested and not any("than before" in line for line in said)

    folds, said = extract(tmp_path, folds=3)  # which test every clip
    changed = sum(first.manifest.splits.subsets[key] != folds.manifest.splits.subsets[key] for key in first)
    assert any(f"NOTE: {changed} of {len(first)} clips are in other parts" in line for line in said)
    honest = "that no split tests on" in first.recipe.projection_fit
    assert folds.manifest.tested_since == (len(untested) if honest else 0)

    again, said = extract(tmp_path, folds=3)
    assert again.manifest == folds.manifest and not any("than before" in line for line in said)


def test_a_projection_that_test_clips_may_have_made_is_told_from_one_that_none_has(tmp_path: Path) -> None:
    write_cache(tmp_path, {"a/1.avi": np.zeros((1, 2, 256), np.float16)})
    manifest = read_manifest(tmp_path)
    before = replace(
        manifest, splits=Splits("drawn", {"a/1.avi": (1,), "a/2.avi": (2,), "a/3.avi": (0,)}), tested_since=0
    )
    lines = Lines()
    assert tell_changes(before, Splits("drawn", {"a/1.avi": (2,), "a/2.avi": (1,), "a/3.avi": (2,)}), lines) == 2
    assert "NOTE: 3 of 3 clips" in lines.said[0] and "WARNING" in lines.said[1] and "2 of which" in lines.said[1]
    since = replace(before, tested_since=2)
    assert TESTED in since.projection_fit and UNTESTED not in since.projection_fit
    assert before.projection_fit == before.recipe.projection_fit
    lines.said.clear()
    assert tell_changes(since, before.splits, lines) == 2 and not lines.said
