from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from har_cache.comparison.tables import text
from har_cache.data.splits import TEST, TRAIN, UNUSED, VALIDATE
from har_cache.scoring import overlap as module
from har_cache.scoring.data_set import DataSet
from har_cache.scoring.overlap import Overlap, overlap, table
from har_cache.settings.evaluation import LeakageSettings

from ..helpers import caches
from ..helpers.shared import HMDB51, OFFICIAL_LISTS


def of_subsets(path: Path, subsets: Mapping[str, tuple[int, ...]], sources: Mapping[str, str] | None = None) -> Overlap:
    caches.write_cache(path, caches.random_embeddings(dict.fromkeys(subsets, 1)), subsets=subsets, sources=sources)
    return overlap(LeakageSettings(cache=path))


def test_each_list_with_each_of_as_many_splits_as_there_are(tmp_path: Path) -> None:
    subsets = {
        "run/1.avi": (TRAIN, TEST),
        "run/2.avi": (TEST, VALIDATE),
        "run/3.avi": (TEST, TEST),
        "walk/4.avi": (TEST, UNUSED),
    }
    sources = {"run/1.avi": "run/park", "run/2.avi": "run/hall", "run/3.avi": "run/park", "walk/4.avi": "walk/park"}
    found = of_subsets(tmp_path / "cache", subsets, sources)
    counts = {
        (c.trained_on, c.tested_on): (c.train_clips, c.seen, c.sibling, c.clean, c.other_class) for c in found.cells
    }
    assert counts == {
        (1, 1): (1, 0, 1, 2, 1),
        (1, 2): (1, 1, 1, 0, 0),
        (2, 1): (1, 1, 0, 2, 0),
        (2, 2): (1, 0, 0, 2, 0),
    }
    shown = text(table(found))
    assert "test list 2" in shown and "test list 3" not in shown and "1 (33.3%)" in shown


@given(st.lists(st.tuples(*[st.sampled_from((UNUSED, TRAIN, TEST, VALIDATE))] * 3), min_size=1, max_size=12))
@settings(max_examples=40)
def test_the_three_groups_are_the_whole_list(parts: list[tuple[int, ...]]) -> None:
    subsets = {f"{'ab'[i % 2]}/{i}.avi": part for i, part in enumerate(parts)}
    sources = {key: f"{key[0]}/film{i % 3}" for i, key in enumerate(subsets)}
    data = DataSet("x", ("a", "b"), sources, subsets, {}, {}, {}, (1, 2, 3), "lists", "given")
    for i in data.splits:
        for j in data.splits:
            cell = module._cell(data, i, j)
            assert cell.seen + cell.sibling + cell.clean == cell.clips == sum(part[j - 1] == TEST for part in parts)
            assert cell.seen == sum(part[i - 1] in (TRAIN, VALIDATE) and part[j - 1] == TEST for part in parts)
            assert cell.other_class <= cell.clean


@pytest.mark.skipif(not OFFICIAL_LISTS.is_dir(), reason="the official lists are not here")
def test_the_official_lists_of_hmdb51() -> None:
    found = overlap(LeakageSettings(data=HMDB51))
    on_third = found.on(1)[2]
    assert (on_third.seen, on_third.sibling, on_third.clean, on_third.other_class) == (1150, 162, 218, 94)
    assert [cell.other_class for cell in found.cells if cell.trained_on == cell.tested_on] == [457, 527, 529]
    assert (found.clips, found.classes) == (6766, 51) and found.absent > 4000
    assert "1,150 (75.2%)" in text(table(found)) and "are not there, and are counted all the same" in text(table(found))
