import os
import socket
import sys
from pathlib import Path

import pytest

from har_cache.data.index import ClipIndex, read_index
from har_cache.errors import DataError

from ..helpers.shared import HMDB51

HARD_NAMES = [
    "#1_[HQ]_climb_;_&_f.avi",
    "-starts_with_a_dash_climb_f.avi",
    "Driver_300+_Yards!!!_(1)_climb_~f.avi",
    "two words_climb_1.AVI",
    "ümläut_climb_1.mp4",
    "line\nbreak_climb_1.avi",
]


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
    assert index.root == tmp_path and index.places == {}
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


def test_data_folder_must_exist(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="absent: No such file"):
        read_index(tmp_path / "absent")
    with pytest.raises(DataError, match="Not a directory"):
        read_index(write(tmp_path, "file") / "file")


@pytest.mark.parametrize("content", ["climb/a.txt", "splits/a.avi", "videos/climb/deep/a.avi"])
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


@pytest.mark.skipif(not HMDB51.is_dir(), reason="the real clips of HMDB51 are not here")
def test_real_clips_of_hmdb51() -> None:
    index = read_index(HMDB51)
    assert index.classes == ("climb", "golf", "punch", "shoot_bow", "swing_baseball")
    assert (len(index.clips), len(index.missing)) == (5, 6761)
