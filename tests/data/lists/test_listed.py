import itertools
from pathlib import Path

import pytest

from har_cache.data.index import ClipIndex, read_index
from har_cache.data.lists.listed import read_listed
from har_cache.data.splits import TEST, TRAIN, UNUSED, VALIDATE
from har_cache.errors import DataError, SettingError

from ...helpers.own_data import write_clips, write_text


def listed(data: Path, *lines: str, **options: object) -> ClipIndex:
    return read_index(data, lists=[str(write_text(data / "list.csv", *lines))], **options)  # type: ignore[arg-type]


def test_clips_with_classes_splits_and_sources(tmp_path: Path) -> None:
    write_clips(tmp_path, "a.mp4", "deep/er/b.mp4", "c")
    index = listed(
        tmp_path,
        "path,label,split1,split2,source",
        "deep/er/b.mp4,sit,val,test,rec/1",
        "a.mp4,jump,train,,anna",
        "./c,jump,test,train,",
        "gone.mp4,run,train,train,bob",
    )
    assert index.classes == ("jump", "sit") and index.root == tmp_path
    assert [(clip.key, clip.path, clip.subsets, clip.source) for clip in index.clips] == [
        ("jump/a.mp4", tmp_path / "a.mp4", (TRAIN, UNUSED), "jump/anna"),
        ("jump/c", tmp_path / "c", (TEST, TRAIN), "jump/c"),
        ("sit/b.mp4", tmp_path / "deep/er/b.mp4", (VALIDATE, TEST), "sit/rec__1"),
    ]
    assert (index.splits_from, index.sources_from) == ("lists", "given")
    assert index.missing == {"run/gone.mp4": (TRAIN, TRAIN)} and index.untold == ("jump/c",)
    assert index.places == {"jump/a.mp4": "a.mp4", "jump/c": "c", "sit/b.mp4": "deep/er/b.mp4"}


def test_paths_begin_in_the_folder_of_the_list_or_in_the_data(tmp_path: Path) -> None:
    data = write_clips(tmp_path / "data", "lists/a.mp4", "videos/b.mp4", "videos/c.mp4", "e.mp4")
    path = write_text(data / "lists/list.txt", "a.mp4 x", "../videos/b.mp4 x", "videos/c.mp4 x", f"{data}/e.mp4 x")
    index = read_index(data, lists=[str(path)])
    assert sorted(index.places.values()) == ["e.mp4", "lists/a.mp4", "videos/b.mp4", "videos/c.mp4"]


def test_an_absolute_path_may_go_the_way_that_links_lead(tmp_path: Path) -> None:
    write_clips(tmp_path / "disk", "a.mp4")
    (tmp_path / "data").symlink_to(tmp_path / "disk")
    path = write_text(tmp_path / "list.txt", f"{tmp_path}/disk/a.mp4 x")
    assert read_index(tmp_path / "data", lists=[str(path)]).places == {"x/a.mp4": "a.mp4"}


@pytest.mark.parametrize("outside", ["/etc/passwd", "../b.mp4", "a/../../b.mp4", ".", "{}-more/b.mp4"])
def test_paths_outside_of_the_data_are_refused_with_file_and_line(tmp_path: Path, outside: str) -> None:
    data = write_clips(tmp_path / "data", "a.mp4")
    write_clips(tmp_path / "data-more", "b.mp4")
    with pytest.raises(DataError, match=r"list\.csv, line 3: .* is outside of .*/data; pass --data"):
        listed(data, "path,label", "a.mp4,x", f"{outside.format(data)},x")


def test_the_files_of_a_class_that_have_one_name_have_their_paths_in_their_keys(tmp_path: Path) -> None:
    names = ["one/a.mp4", "two/a.mp4", "one/b.mp4", "three/a.mp4"]
    write_clips(tmp_path, *names)
    labels = ["x", "x", "x", "y"]
    for order in itertools.permutations(range(4)):
        index = listed(tmp_path, "path,label", *(f"{names[i]},{labels[i]}" for i in order))
        assert {clip.key: clip.path for clip in index.clips} == {
            "x/b.mp4": tmp_path / "one/b.mp4",
            "x/one__a.mp4": tmp_path / "one/a.mp4",
            "x/two__a.mp4": tmp_path / "two/a.mp4",
            "y/a.mp4": tmp_path / "three/a.mp4",
        }


def test_keys_that_would_be_the_same_nevertheless_are_refused(tmp_path: Path) -> None:
    write_clips(tmp_path, "one/a.mp4", "two/a.mp4", "one__a.mp4")
    with pytest.raises(DataError, match=r"list\.csv, line \d: two files would be x/one__a\.mp4"):
        listed(tmp_path, "path,label", "one/a.mp4,x", "two/a.mp4,x", "one__a.mp4,x")


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        ("001", ("jump", "sit")),  # one folder for each number, one number for each folder
        ("011", ("0", "1")),
        ("012", ("0", "1", "2")),
        (("0", "0", "sit"), ("0", "sit")),
    ],
)
def test_numbers_are_classes_unless_folders_go_with_them(tmp_path: Path, labels: str, classes: tuple[str, ...]) -> None:
    names = ["train/jump/a.mp4", "test/jump/b.mp4", "test/sit/c.mp4"]
    write_clips(tmp_path, *names)
    lines = [f"{name} {label}" for name, label in zip(names, labels, strict=True)]
    assert read_index(tmp_path, lists=[str(write_text(tmp_path / "list.txt", *lines))]).classes == classes


def test_numbers_of_files_without_a_folder_are_classes(tmp_path: Path) -> None:
    write_clips(tmp_path, "a.mp4")
    assert listed(tmp_path, "path,label", "a.mp4,7").classes == ("7",)


@pytest.mark.parametrize(
    ("header", "first", "second", "what"),
    [
        ("path,label", "a.mp4,x", "./a.mp4,y", "is 'y' here but 'x' in .*line 2"),
        ("path,label,split", "a.mp4,x,train", "a.mp4,x,test", "is in test here but in train before"),
        ("path,label,source", "a.mp4,x,anna", "a.mp4,x,bob", "is of 'bob' here but of 'anna' before"),
        ("path,label", "b.mp4,x", "a.mp4,x/y", "'x/y' can be no label"),
        ("path,label", "b.mp4,x", "a.mp4,..", r"'\.\.' can be no label"),
        ("path,label,source", "b.mp4,x,anna", "a.mp4,x,.", r"'\.' can be no source"),
        ("path,label", "b.mp4,x", "a\0.mp4,x", "outside"),
    ],
)
def test_what_cannot_be_is_refused_with_file_and_line(
    tmp_path: Path, header: str, first: str, second: str, what: str
) -> None:
    write_clips(tmp_path, "a.mp4", "b.mp4")
    with pytest.raises(DataError, match=rf"list\.csv, line 3: .*{what}") as caught:
        listed(tmp_path, header, first, second)
    assert str(caught.value).isprintable()


def test_a_clip_that_is_listed_twice_alike_is_one_clip(tmp_path: Path) -> None:
    write_clips(tmp_path, "a.mp4")
    assert len(listed(tmp_path, "path,label,source", "a.mp4,x,anna", "a.mp4,x,", "a.mp4,x,anna").clips) == 1


def test_clips_are_in_the_order_of_their_list(tmp_path: Path) -> None:
    names = [f"{i}.mp4" for i in range(12)]
    write_clips(tmp_path, *names[::2])
    path = write_text(tmp_path / "list.txt", *(f"{name} x" for name in names))
    layout = read_listed(tmp_path, [str(path)])
    assert list(layout.places.values()) == names[::2]
    assert list(layout.missing) == [f"x/{name}" for name in names[1::2]]


def test_a_list_of_which_no_file_is_there_is_refused(tmp_path: Path) -> None:
    write_clips(tmp_path, "a.mp4")
    there, gone = (write_text(tmp_path / f"{name}.txt", f"{name}.mp4 x") for name in ("a", "b"))
    with pytest.raises(DataError, match=r"b\.txt, line 1: neither 'b\.mp4' nor any other file of this list is in"):
        read_index(tmp_path, lists=[f"train={there}", f"test={gone}"])


def test_clips_without_subsets_have_splits_drawn_or_read(tmp_path: Path) -> None:
    write_clips(tmp_path, "1/a.mp4", "1/b.mp4", "1/c.mp4")
    lines = "path,label", "1/a.mp4,x", "1/b.mp4,x", "1/c.mp4,x", "1/gone.mp4,x"
    drawn = listed(tmp_path, *lines)
    assert drawn.splits_from == "drawn" and drawn.missing == {"x/gone.mp4": (UNUSED,) * 3}
    assert {subset for clip in drawn.clips for subset in clip.subsets} == {TRAIN, TEST}
    write_text(tmp_path / "official/x_test_split1.txt", "a.mp4 2", "b.mp4 1")
    index = listed(tmp_path, *lines, splits=tmp_path / "official")
    assert [clip.subsets[0] for clip in index.clips] == [TEST, TRAIN, UNUSED]


@pytest.mark.parametrize("option", [{"splits": Path("official")}, {"folds": 3}])
def test_lists_with_subsets_and_an_option_that_gives_others_contradict_each_other(
    tmp_path: Path, option: dict[str, object]
) -> None:
    write_clips(tmp_path, "a.mp4")
    with pytest.raises(SettingError, match="the given lists say which clips train and test"):
        listed(tmp_path, "path,label,split", "a.mp4,x,train", **option)
