import os
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from har_cache.data.index import Clip, read_index
from har_cache.data.splits import TEST, TRAIN, UNUSED, read_list
from har_cache.errors import DataError, SettingError

from ..helpers.own_data import UCF101, ucf101_lists, write_clips
from ..helpers.shared import HMDB51
from .test_index import write, write_list

file_names = (
    st.text(st.characters(exclude_characters="/\\\0\n", exclude_categories=["Cs"]), min_size=1)
    .filter(lambda name: name == name.rstrip())
    .map(lambda name: f"{name}.avi")
)


@pytest.mark.parametrize("folder", ["splits", "testTrainMulti_7030_splits", "splits/testTrainMulti_7030_splits"])
def test_lists_are_found_beside_the_videos(tmp_path: Path, folder: str) -> None:
    write(tmp_path, "climb/a.avi", "climb/b.avi", "climb/c.avi")
    write_list(tmp_path / folder, "climb", 1, "a.avi 1 \nb.avi 2 \nc.avi 0 \n")
    write_list(tmp_path / folder, "climb", 3, "a.avi 2 \nb.avi 1 \nc.avi 0 \n")
    index = read_index(tmp_path)
    assert index.splits_from == "lists"
    assert [clip.subsets for clip in index.clips] == [
        (TRAIN, UNUSED, TEST),
        (TEST, UNUSED, TRAIN),
        (UNUSED, UNUSED, UNUSED),
    ]
    assert [clip.tested for clip in index.clips] == [True, True, False]


@pytest.mark.parametrize("nested", [".", "testTrainMulti_7030_splits"])
def test_lists_that_the_user_names_come_first(tmp_path: Path, nested: str) -> None:
    write(tmp_path, "climb/a.avi")
    write_list(tmp_path / "splits", "climb", 1, "a.avi 1")
    write_list(tmp_path / "mine" / nested, "climb", 1, "a.avi 2")
    assert read_index(tmp_path, splits=tmp_path / "mine").clips[0].subsets == (TEST, UNUSED, UNUSED)


def test_missing_and_unlisted_clips_are_named(tmp_path: Path) -> None:
    write(tmp_path, "climb/a.avi", "climb/new.avi", "walk/b.avi")
    write_list(tmp_path / "splits", "climb", 1, "gone.avi 2\na.avi 1\n")
    write_list(tmp_path / "splits", "climb", 2, "gone.avi 1\n")
    write_list(tmp_path / "splits", "run", 3, "no_folder.avi 1\n")
    write_list(tmp_path / "splits", ".junk", 1, b"\0\0")
    index = read_index(tmp_path)
    assert index.classes == ("climb", "walk")
    assert list(index.missing.items()) == [
        ("climb/gone.avi", (TEST, TRAIN, UNUSED)),
        ("run/no_folder.avi", (UNUSED, UNUSED, TRAIN)),
    ]
    assert index.unlisted == ("climb/new.avi", "walk/b.avi")
    assert [clip.subsets for clip in index.clips[1:]] == [(UNUSED, UNUSED, UNUSED)] * 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\ufeffa.avi 1\r\nb.avi 2 \r\n\r\n", {"a.avi": 1, "b.avi": 2}),
        ("two words.avi 1\n\n  \nb  c.avi\t0\t\n", {"two words.avi": 1, "b  c.avi": 0}),
        ("a.avi 1\na.avi 1\n", {"a.avi": 1}),
        ("line\u2028break.avi 1", {"line\u2028break.avi": 1}),
        ("..avi 1", {"..avi": 1}),
        ("", {}),
    ],
)
def test_forms_of_lists(tmp_path: Path, text: str, expected: dict[str, int]) -> None:
    assert read_list(write_list(tmp_path, "climb", 1, text)) == expected


@settings(deadline=None)
@given(
    st.dictionaries(file_names, st.sampled_from([UNUSED, TRAIN, TEST])),
    st.sampled_from(["\n", " \n", " \r\n"]),
)
def test_lists_round_trip(tmp_path_factory: pytest.TempPathFactory, numbers: dict[str, int], end: str) -> None:
    path = tmp_path_factory.getbasetemp() / "round_trip_test_split1.txt"
    path.write_text("".join(f"{name} {number}{end}" for name, number in numbers.items()), newline="")
    assert read_list(path) == numbers


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a.avi 1\nb.avi\n", 2),
        ("a.avi 3\n", 1),
        ("a.avi 1 1x\n", 1),
        ("a.avi 1\n\n1\n", 3),
        ("\u00b2 \u00b2\n", 1),
        ("../x.avi 1\n", 1),
        ("a.avi 1\n/x.avi 1\n", 2),
        ("a\\b.avi 2\n", 1),
        ("a\0.avi 2\n", 1),
        (".. 2\n", 1),
        (". 2\n", 1),
        ("a.avi 1\nb.avi 1\na.avi 2\n", 3),
    ],
)
def test_bad_lines_are_refused_with_file_and_line(tmp_path: Path, text: str, line: int) -> None:
    write(tmp_path, "climb/a.avi", "climb/b.avi")
    path = write_list(tmp_path / "splits", "climb", 2, text)
    with pytest.raises(DataError) as caught:
        read_index(tmp_path)
    assert str(caught.value).startswith(f"{path}, line {line}: ")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("content", [b"caf\xe9.avi 1\n", b"\xff\xfea\x00.\x00", bytes(range(256))])
def test_a_list_that_is_not_utf8_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(DataError, match=r"climb_test_split1\.txt as UTF-8 text"):
        read_list(write_list(tmp_path, "climb", 1, content))


def test_a_list_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "climb_test_split1.txt").mkdir()
    with pytest.raises(DataError, match=r"climb_test_split1\.txt .*directory"):
        read_list(tmp_path / "climb_test_split1.txt")


def test_lists_of_other_data_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "climb/a.mp4")
    write_list(tmp_path / "splits", "climb", 1, "a.avi 1\n")
    with pytest.raises(DataError, match="--splits, or remove them") as caught:
        read_index(tmp_path)
    assert str(tmp_path / "splits") in str(caught.value)


@pytest.mark.parametrize("splits", ["absent", "empty", "climb/a.avi"])
def test_splits_that_the_user_names_must_exist(tmp_path: Path, splits: str) -> None:
    write(tmp_path, "climb/a.avi", "empty/readme.txt")
    with pytest.raises(DataError, match=splits):
        read_index(tmp_path, splits=tmp_path / splits)


def drawn(tmp_path_factory: pytest.TempPathFactory, sizes: list[list[int]], seed: int) -> tuple[Clip, ...]:
    root = tmp_path_factory.mktemp("drawn")
    for label, of_class in enumerate(sizes):
        name = f"class{label}"
        for source, size in enumerate(of_class):
            write(root, *(f"{name}/film{source}_{name}_{clip}.avi" for clip in range(size)))
    index = read_index(root, seed=seed)
    assert (index.splits_from, index.missing, index.unlisted) == ("drawn", {}, ())
    return index.clips


a_class = st.lists(st.integers(1, 6), min_size=1, max_size=6)


@settings(deadline=None)
@given(sizes=st.lists(a_class, min_size=1, max_size=3), seed=st.integers(0, 2**32))
def test_drawn_splits(tmp_path_factory: pytest.TempPathFactory, sizes: list[list[int]], seed: int) -> None:
    clips = drawn(tmp_path_factory, sizes, seed)
    parts = defaultdict(set)
    counts: Counter[tuple[int, int, int]] = Counter()
    for clip in clips:
        for split, subset in enumerate(clip.subsets):
            parts[split, clip.source].add(subset)
            counts[split, clip.label, subset] += 1
    assert all(len(part) == 1 for part in parts.values()), "a source is in training and in test"
    for label, of_class in enumerate(sizes):
        for split in range(3):
            train, test = counts[split, label, TRAIN], counts[split, label, TEST]
            assert train > 0
            assert train + test == sum(of_class)
            assert (test > 0) == (len(of_class) > 1)
            if len(of_class) > 1:
                assert abs(test - 0.3 * sum(of_class)) <= max(of_class)


def test_drawn_splits_depend_on_the_seed_alone(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = [[2] * 20, [1, 3] * 10]
    subsets = [clip.subsets for clip in drawn(tmp_path_factory, sizes, 0)]
    for module in ("folders", "layouts", "splits"):
        monkeypatch.setattr(f"har_cache.data.{module}.scan", _scan_backwards)
    assert [clip.subsets for clip in drawn(tmp_path_factory, sizes, 0)] == subsets
    assert [clip.subsets for clip in drawn(tmp_path_factory, sizes, 1)] != subsets
    assert len(set(zip(*subsets, strict=True))) == 3, "two of the three draws are the same"


def _scan_backwards(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name, reverse=True)


def test_drawn_splits_stay_the_same_between_versions(tmp_path: Path) -> None:
    index = read_index(write(tmp_path, *(f"climb/{letter}.avi" for letter in "abcdefghij")))
    tests = ["".join(clip.path.stem for clip in index.clips if clip.subsets[i] == TEST) for i in range(3)]
    assert tests == ["abj", "dei", "bdg"]


@pytest.mark.skipif(not HMDB51.is_dir(), reason="the official lists of HMDB51 are not here")
def test_official_lists_of_hmdb51(tmp_path: Path) -> None:
    listed = set()
    for path in (HMDB51 / "splits").iterdir():
        class_name = path.name.rpartition("_test_split")[0]
        (tmp_path / class_name).mkdir(exist_ok=True)
        listed |= {f"{class_name}/{name}" for name in read_list(path)}
    for key in listed:
        (tmp_path / key).touch()

    index = read_index(tmp_path, splits=HMDB51 / "splits")
    assert len(index.classes) == 51
    assert len(index.clips) == 6766
    assert (index.missing, index.unlisted, index.ignored) == ({}, (), ())
    for split in range(3):
        counts = Counter(clip.subsets[split] for clip in index.clips)
        assert counts == {TRAIN: 3570, TEST: 1530, UNUSED: 1666}
        train = {clip.source for clip in index.clips if clip.subsets[split] == TRAIN}
        assert not any(clip.source in train for clip in index.clips if clip.subsets[split] == TEST)
    assert sum(not clip.tested for clip in index.clips) == 2523


def test_the_lists_of_ucf101_are_splits_and_may_be_more_or_fewer_than_three(tmp_path: Path) -> None:
    write_clips(tmp_path / "UCF-101", *UCF101, "Archery/v_Archery_g09_c01.avi")
    ucf101_lists(tmp_path)
    index = read_index(tmp_path)
    assert index.root == tmp_path / "UCF-101" and index.sources_from == "names"
    assert {clip.key: clip.subsets for clip in index.clips if clip.key in UCF101} == UCF101
    assert index.unlisted == ("Archery/v_Archery_g09_c01.avi",)
    assert index.clips[-1].subsets == (TRAIN, TRAIN) and index.clips[0].source == "Archery/v_Archery_g01"


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("trainlist01.txt", "A/a.avi 1\nB/b.avi\n", 2),
        ("trainlist01.txt", "A/a.avi 2\n", 1),  # of another class, says classInd.txt
        ("trainlist01.txt", "a.avi 1\n", 1),
        ("testlist01.txt", "A/../a.avi\n", 1),
        ("testlist01.txt", "B/b.avi\n\nA/..\n", 3),
        ("trainlist01.txt", "A/a.avi 1\nB/b.avi 2\n", 2),  # tested, too
        ("classInd.txt", "1 A\nB\n", 2),
    ],
)
def test_bad_lines_of_ucf101_are_refused_with_file_and_line(tmp_path: Path, name: str, text: str, line: int) -> None:
    write(tmp_path, "A/a.avi", "B/b.avi")
    texts = {"classInd.txt": "1 A\n2 B\n", "trainlist01.txt": "A/train.avi 1\n", "testlist01.txt": "B/b.avi\n"}
    for file, content in {**texts, name: text}.items():
        (tmp_path / file).write_text(content)
    with pytest.raises(DataError) as caught:
        read_index(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / name}, line {line}: ") and str(caught.value).isprintable()


def test_folds_where_there_are_lists_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "climb/a.avi")
    write_list(tmp_path / "splits", "climb", 1, "a.avi 1\n")
    with pytest.raises(SettingError, match=r"--folds 3: there are split lists in .*splits; leave it out"):
        read_index(tmp_path, folds=3)


def test_folds_test_each_source_once(tmp_path: Path) -> None:
    write(tmp_path, *(f"{name}/{film}_{name}_{i}.avi" for name in ("run", "sit") for film in "abcd" for i in range(3)))
    index = read_index(tmp_path, folds=4)
    assert index.splits_from == "drawn" and all(sorted(clip.subsets) == [1, 1, 1, 2] for clip in index.clips)
    tested = {(clip.source.partition("/")[2], clip.subsets) for clip in index.clips}
    assert len(tested) == len({subsets for _, subsets in tested}) == 4
    with pytest.raises(SettingError, match="--folds 5: the data set has too few sources"):
        read_index(tmp_path, folds=5)
