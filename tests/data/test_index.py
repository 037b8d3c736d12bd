import os
import socket
import sys
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from har_cache.data.index import TEST, TRAIN, UNUSED, Clip, ClipIndex, read_index, read_list, source_of
from har_cache.errors import DataError

HMDB51 = Path(__file__).parents[2] / "shared" / "hmdb51"
HARD_NAMES = [
    "#1_[HQ]_climb_;_&_f.avi",
    "-starts_with_a_dash_climb_f.avi",
    "Driver_300+_Yards!!!_(1)_climb_~f.avi",
    "two words_climb_1.AVI",
    "ümläut_climb_1.mp4",
    "line\nbreak_climb_1.avi",
]

file_names = (
    st.text(st.characters(exclude_characters="/\\\0\n", exclude_categories=["Cs"]), min_size=1)
    .filter(lambda name: name == name.rstrip())
    .map(lambda name: f"{name}.avi")
)


def write(root: Path, *keys: str) -> Path:
    for key in keys:
        path = root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"video")
    return root


def write_list(folder: Path, class_name: str, split: int, text: str | bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{class_name}_test_split{split}.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def keys(index: ClipIndex) -> list[str]:
    return [clip.key for clip in index.clips]


def test_clips_classes_and_labels_are_sorted(tmp_path: Path) -> None:
    write(tmp_path, "walk/b.avi", "walk/a.avi", "climb/z.avi", "climb stairs/y.avi")
    index = read_index(tmp_path)
    assert index.root == tmp_path
    assert index.classes == ("climb", "climb stairs", "walk")
    assert keys(index) == ["climb stairs/y.avi", "climb/z.avi", "walk/a.avi", "walk/b.avi"]
    assert [index.classes[clip.label] for clip in index.clips] == ["climb stairs", "climb", "walk", "walk"]
    assert all(clip.path == tmp_path / clip.key and clip.path.is_file() for clip in index.clips)


@pytest.mark.parametrize("name", HARD_NAMES)
def test_hard_file_names(tmp_path: Path, name: str) -> None:
    write(tmp_path, f"climb/{name}")
    assert keys(read_index(tmp_path)) == [f"climb/{name}"]


@pytest.mark.parametrize("folder", ["videos", "hmdb51_org", "."])
def test_places_of_class_folders(tmp_path: Path, folder: str) -> None:
    write(tmp_path / folder, "climb/a.avi")
    assert read_index(tmp_path).root == tmp_path / folder


def test_first_place_with_a_clip_wins(tmp_path: Path) -> None:
    write(tmp_path, "videos/climb/notes.txt", "hmdb51_org/climb/a.avi", "walk/b.avi")
    assert keys(read_index(tmp_path)) == ["climb/a.avi"]


def test_what_is_no_clip_is_ignored(tmp_path: Path) -> None:
    write(tmp_path, "climb/a.MKV", "climb/notes.txt", "climb/.b.avi", "climb/folder.avi/c.avi", ".git/d.avi")
    write(tmp_path, "splits/e.avi", "testTrainMulti_7030_splits/f.avi", "empty/readme", "top.avi")
    index = read_index(tmp_path)
    assert (index.classes, keys(index)) == (("climb",), ["climb/a.MKV"])
    assert index.ignored == ("climb/folder.avi", "climb/notes.txt", "empty/readme")


@pytest.mark.skipif(sys.platform == "darwin", reason="such names cannot be there")
def test_names_that_are_not_utf8_are_ignored_and_shown_escaped(tmp_path: Path) -> None:
    write(tmp_path, "climb/a.avi", "climb/\udce9.avi", "caf\udce9/b.avi")
    index = read_index(tmp_path)
    assert keys(index) == ["climb/a.avi"]
    assert index.ignored == ("caf\\xe9", "climb/\\xe9.avi")


def test_files_that_cannot_be_decoded_are_clips(tmp_path: Path) -> None:
    write(tmp_path, "climb/unreadable.avi").joinpath("climb/empty.avi").touch()
    (tmp_path / "climb/unreadable.avi").chmod(0)
    (tmp_path / "climb/dangling.avi").symlink_to("nowhere.avi")
    (tmp_path / "climb/circle.avi").symlink_to("circle.avi")
    assert keys(read_index(tmp_path)) == [f"climb/{name}.avi" for name in ("circle", "dangling", "empty", "unreadable")]


def test_pipes_and_sockets_are_no_clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "climb/a.avi")
    os.mkfifo(tmp_path / "climb/pipe.avi")
    monkeypatch.chdir(tmp_path / "climb")  # the path of a socket may not be long
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind("socket.avi")
        assert keys(read_index(tmp_path)) == ["climb/a.avi"]


def test_links_to_class_folders_and_clips_are_followed(tmp_path: Path) -> None:
    write(tmp_path, "elsewhere/a.avi")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/climb").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/b.avi").symlink_to("a.avi")
    (tmp_path / "data/gone").symlink_to("nowhere")
    assert keys(read_index(tmp_path / "data")) == ["climb/a.avi", "climb/b.avi"]


@pytest.mark.parametrize(
    ("class_name", "file_name", "source"),
    [
        ("climb", "Dan_Osman_climb_f_cm_np1_le_med_2.avi", "climb/Dan_Osman"),
        ("pour", "How_to_pour_wine_pour_u_nm_np1_fr_goo_0.avi", "pour/How_to_pour_wine"),
        ("pour", "a_pour_pour_u.avi", "pour/a_pour"),
        ("brush_hair", "Brushing_Hair_II_brush_hair_u_nm_np2_le_med_2.avi", "brush_hair/Brushing_Hair_II"),
        ("Archery", "v_Archery_g08_c02.avi", "Archery/v_Archery_g08"),
        ("HandstandPushups", "v_HandStandPushups_g01_c03.avi", "HandstandPushups/v_HandStandPushups_g01"),
        ("climb", "holiday.2024.mp4", "climb/holiday.2024"),
        ("climb", "_climb_f.avi", "climb/_climb_f"),
        ("climb", "climb_f.avi", "climb/climb_f"),
    ],
)
def test_source_of(class_name: str, file_name: str, source: str) -> None:
    assert source_of(f"{class_name}/{file_name}") == source


words = st.text("abc_", min_size=1)


@given(source=words, class_name=words, tags=st.text("fcmnp012", max_size=5))
def test_source_stands_before_the_last_class(source: str, class_name: str, tags: str) -> None:
    assert source_of(f"{class_name}/{source}_{class_name}_{tags}.avi").startswith(f"{class_name}/{source}")
    # Only a class that overlaps itself could match later than where it was put.
    if "_" not in class_name:
        assert source_of(f"{class_name}/{source}_{class_name}_{tags}.avi") == f"{class_name}/{source}"


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


def test_data_folder_must_exist(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="absent: No such file"):
        read_index(tmp_path / "absent")
    with pytest.raises(DataError, match="Not a directory"):
        read_index(write(tmp_path, "file") / "file")


@pytest.mark.parametrize("content", ["a.avi", "climb/a.txt", "splits/a.avi", "videos/climb/deep/a.avi"])
def test_data_without_videos_says_what_is_expected(tmp_path: Path, content: str) -> None:
    write(tmp_path, content)
    with pytest.raises(DataError, match=r"expected <class>/<video file> in .*videos, .*hmdb51_org .*\*\.avi"):
        read_index(tmp_path)


def test_folder_without_permission_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "climb/a.avi", "walk/a.avi")
    scandir = os.scandir

    def refuse(path: Path) -> object:
        if Path(path).name == "walk":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)  # chmod does not stop root
    with pytest.raises(DataError, match="walk: Permission denied"):
        read_index(tmp_path)


def test_a_folder_that_links_to_itself_is_named(tmp_path: Path) -> None:
    write(tmp_path, "climb/a.avi")
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(DataError, match="circle: "):
        read_index(tmp_path)


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
    monkeypatch.setattr("har_cache.data.index._scan", _scan_backwards)
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


@pytest.mark.skipif(not HMDB51.is_dir(), reason="the real clips of HMDB51 are not here")
def test_real_clips_of_hmdb51() -> None:
    index = read_index(HMDB51)
    assert index.classes == ("climb", "golf", "punch", "shoot_bow", "swing_baseball")
    assert (len(index.clips), len(index.missing)) == (5, 6761)
