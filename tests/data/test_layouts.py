from pathlib import Path

import pytest

from har_cache.data.index import read_index
from har_cache.data.layouts import clip_files
from har_cache.data.splits import TEST, TRAIN, VALIDATE
from har_cache.errors import DataError, SettingError

from ..helpers.own_data import write_clips


@pytest.mark.parametrize("above", [".", "videos"])
def test_class_folders_in_folders_of_subsets_are_one_split(tmp_path: Path, above: str) -> None:
    write_clips(tmp_path / above, "training/x/a.mp4", "Val/x/b.mp4", "test/x/a.mp4", "test/y/c.mp4", "test/x/n.txt")
    index = read_index(tmp_path)
    prefix = "" if above == "." else "videos/"
    keys = f"x/{prefix.replace('/', '__')}test__a.mp4", "x/b.mp4", "x/training__a.mp4", "y/c.mp4"
    assert index.classes == ("x", "y") and (index.splits_from, index.missing) == ("lists", {})
    assert {clip.key.rpartition("__")[2]: clip.subsets for clip in index.clips if clip.subsets != (TRAIN,)} == {
        "a.mp4": (TEST,),
        "x/b.mp4": (VALIDATE,),
        "y/c.mp4": (TEST,),
    }
    assert len(index.clips) == len(keys) and index.ignored == (f"{prefix}test/x/n.txt",)
    assert all(clip.path.is_file() and index.places[clip.key].startswith(prefix) for clip in index.clips)


def test_subset_folders_beside_others_and_with_stray_videos(tmp_path: Path) -> None:
    write_clips(tmp_path, "train/x/a.mp4", "train/stray.mp4", "test/x/b.mp4", "annotations/readme.txt")
    assert [clip.key for clip in read_index(tmp_path).clips] == ["x/a.mp4", "x/b.mp4"]


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    write_clips(tmp_path, "train/a.mp4", "bus/b.mp4")
    assert read_index(tmp_path).classes == ("bus", "train")
    assert read_index(write_clips(tmp_path / "one", "train/a.mp4")).classes == ("train",)


@pytest.mark.parametrize("above", [".", "videos"])
def test_videos_without_class_folders_have_no_labels_and_no_splits(tmp_path: Path, above: str) -> None:
    write_clips(tmp_path / above, "a.mp4", "b.asf", "notes.txt")
    index = read_index(tmp_path)
    assert [clip.key for clip in index.clips] == ["unlabelled/a.mp4", "unlabelled/b.asf"]
    assert (index.splits_from, index.missing, index.unlisted) == ("none", {}, ())
    assert all(clip.subsets == () and not clip.tested and clip.path.is_file() for clip in index.clips)
    with pytest.raises(SettingError, match="no labels, which splits need"):
        read_index(tmp_path, folds=2)


def test_one_file_is_a_data_set(tmp_path: Path) -> None:
    index = read_index(write_clips(tmp_path, "a.mp4", "b.mp4") / "a.mp4")
    assert [(clip.key, clip.path) for clip in index.clips] == [("unlabelled/a.mp4", tmp_path / "a.mp4")]


@pytest.mark.parametrize(
    ("files", "seen"),
    [
        (["train/a.mp4", "val/b.mp4"], "holds train/ and val/ with no class folders in them;"),
        (["train/a.txt"], "holds train/ with no class folders in it;"),
        (["1.mp4", "2.mp4", "x/notes.txt", "y/notes.txt", "z/t"], "holds 2 videos and 3 folders without videos;"),
        (["x/s1/a.mp4", "y/s2/b.mp4"], r"holds 2 folders whose videos lie in folders of their own, as x/s1/a\.mp4;"),
        (["notes.txt"], "holds no videos;"),
    ],
)
def test_a_folder_of_no_layout_says_what_was_seen_and_what_to_pass(tmp_path: Path, files: list[str], seen: str) -> None:
    write_clips(tmp_path, *files)
    with pytest.raises(DataError, match=rf"{tmp_path} {seen} expected .*train/, val/ and test/ .*pass --list FILE"):
        read_index(tmp_path)


def test_the_files_of_a_caches_clips(tmp_path: Path) -> None:
    write_clips(tmp_path, "videos/x/a.mp4", "deep/b.mp4")
    places = {"x/b.mp4": "deep/b.mp4"}
    assert clip_files(tmp_path, ["x/b.mp4"], places) == {"x/b.mp4": tmp_path / "deep/b.mp4"}
    assert clip_files(tmp_path, ["x/a.mp4", "x/b.mp4", "x/gone.mp4"], places) == {
        "x/a.mp4": tmp_path / "videos/x/a.mp4",
        "x/b.mp4": tmp_path / "deep/b.mp4",
        "x/gone.mp4": tmp_path / "videos/x/gone.mp4",
    }
    assert clip_files(tmp_path / "deep/b.mp4", ["x/b.mp4"], {"x/b.mp4": "b.mp4"}) == {
        "x/b.mp4": tmp_path / "deep/b.mp4"
    }
    with pytest.raises(DataError, match="no videos in class folders"):
        clip_files(tmp_path / "deep", ["x/a.mp4"], {})
    with pytest.raises(DataError, match="absent: No such file"):
        clip_files(tmp_path / "absent", ["x/b.mp4"], places)
