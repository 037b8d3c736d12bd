import csv
import errno
import io
import json
import os
import tempfile
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from har_cache.errors import FileError
from har_cache.storage.files import (
    file_sha256,
    foreign_names,
    make_directory,
    read_csv,
    read_file,
    remove_file,
    remove_temporaries,
    seal,
    sha256,
    to_csv,
    unseal,
    write_file,
)

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
CONTENT = st.dictionaries(st.text().filter(lambda key: key != "sha256"), JSON, min_size=1, max_size=4)
HERE = Path("cache/manifest.json")


def temporaries(directory):
    return [path for path in directory.iterdir() if path.name.startswith(".tmp-")]


@given(CONTENT)
def test_what_is_sealed_comes_back(content):
    data = seal(content)
    restored = unseal(data, HERE)
    assert restored.pop("sha256")
    assert restored == content
    assert seal(restored) == data


@given(CONTENT, st.data())
@settings(max_examples=300)
def test_any_flipped_bit_of_a_sealed_file_is_found(content, data):
    sealed = bytearray(seal(content))
    bit = data.draw(st.integers(0, 8 * len(sealed) - 1))
    sealed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(FileError, match=r"cache/manifest\.json: damaged"):
        unseal(bytes(sealed), HERE)


def test_every_flipped_bit_of_one_sealed_file_is_found():
    sealed = seal({"classes": ["jump", "sit"], "frames": 81, "fps": 29.97, "splits": None, "ö": True})
    for bit in range(8 * len(sealed)):
        flipped = bytearray(sealed)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(FileError):
            unseal(bytes(flipped), HERE)


@given(CONTENT, st.data())
def test_a_truncated_or_extended_sealed_file_is_found(content, data):
    sealed = seal(content)
    length = data.draw(st.integers(0, len(sealed) - 1))
    for damaged in (sealed[:length], sealed + sealed[:length] + b" "):
        with pytest.raises(FileError):
            unseal(damaged, HERE)


@pytest.mark.parametrize("data", [b"", b"[]", b"1", b"\xff", b"{}", b'{"sha256": "0"}', b'{"a": NaN}', b"\0" * 20])
def test_what_was_never_sealed_is_refused(data):
    with pytest.raises(FileError, match="damaged"):
        unseal(data, HERE)


def test_the_same_values_written_another_way_are_refused():
    content = json.loads(seal({"a": 1, "b": [2]}))
    assert unseal(seal(content), HERE) == content
    with pytest.raises(FileError):
        unseal(json.dumps(content).encode(), HERE)


def test_write_file_makes_and_replaces(tmp_path):
    path = tmp_path / "file"
    write_file(path, b"old")
    write_file(path, b"new")
    assert read_file(path) == b"new"
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [path]
    assert file_sha256(path) == sha256(b"new")


def test_content_is_on_the_disk_before_its_name_and_its_name_before_write_file_is_done(tmp_path, monkeypatch):
    synced, sync, replace = [], os.fsync, Path.replace

    def note_sync(descriptor):
        synced.append(Path(f"/proc/self/fd/{descriptor}").resolve())
        sync(descriptor)

    def note_rename(path, target):
        synced.append("renamed")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(Path, "replace", note_rename)
    write_file(tmp_path / "file", b"content")
    assert synced[0].parent == tmp_path and synced[0].name.startswith(".tmp-") and synced[1:] == ["renamed", tmp_path]


@pytest.mark.parametrize("interrupted", ["os.fchmod", "os.fsync", "pathlib.Path.replace"])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.EIO, "Input/output error")])
def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, interrupted, error):
    path = tmp_path / "file"
    write_file(path, b"old")

    def fail(*_):
        raise error

    monkeypatch.setattr(interrupted, fail)
    with pytest.raises((KeyboardInterrupt, FileError)):
        write_file(path, b"new")
    monkeypatch.undo()
    assert read_file(path) == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_one_clear_line(tmp_path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(FileError) as caught:
        write_file(tmp_path / "00000.h5", b"data")
    monkeypatch.undo()
    assert str(tmp_path / "00000.h5") in str(caught.value)
    assert "No space left on device" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_writing_where_there_is_no_directory_names_the_file(tmp_path):
    with pytest.raises(FileError, match=r"gone/file: cannot be written: No such file or directory"):
        write_file(tmp_path / "gone" / "file", b"")


def test_writing_over_a_directory_is_refused_and_leaves_nothing(tmp_path):
    (tmp_path / "file").mkdir()
    with pytest.raises(FileError, match="file: cannot be written"):
        write_file(tmp_path / "file", b"")
    assert not temporaries(tmp_path)


def test_of_two_writers_one_wins_and_a_reader_never_sees_half_a_file(tmp_path):
    path = tmp_path / "file"
    contents = [letter * 200_000 for letter in (b"a", b"b")]
    write_file(path, contents[0])
    seen = set()

    def write(content):
        for _ in range(20):
            write_file(path, content)

    writers = [threading.Thread(target=write, args=(content,)) for content in contents]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        seen.add(read_file(path))
    assert seen <= set(contents)
    assert read_file(path) in contents
    assert list(tmp_path.iterdir()) == [path]


def test_only_old_temporaries_are_removed(tmp_path):
    old, new, other = (tmp_path / name for name in (".tmp-old", ".tmp-new", "old.h5"))
    for path in (old, new, other):
        path.write_bytes(b"")
    for path in (old, other):
        os.utime(path, (time.time() - 7200,) * 2)
    remove_temporaries(tmp_path)
    assert sorted(tmp_path.iterdir()) == [new, other]


def test_a_temporary_that_vanishes_meanwhile_does_no_harm(tmp_path):
    (tmp_path / ".tmp-gone").symlink_to(tmp_path / "nowhere")  # listed, but cannot be looked at
    remove_temporaries(tmp_path)


def test_make_directory_makes_those_above_too_and_names_what_is_in_the_way(tmp_path):
    make_directory(tmp_path / "a" / "b")
    make_directory(tmp_path / "a" / "b")
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "file", tmp_path / "file" / "b"):
        with pytest.raises(FileError, match=f"{path}: cannot be created"):
            make_directory(path)


def test_remove_file_is_content_with_none_and_names_what_it_may_not_remove(tmp_path):
    remove_file(tmp_path / "none")
    (tmp_path / "directory").mkdir()
    with pytest.raises(FileError, match="directory: cannot be removed"):
        remove_file(tmp_path / "directory")


@pytest.mark.parametrize("read", [read_file, file_sha256])
def test_a_pipe_that_nobody_writes_to_is_refused_as_is_a_device_without_an_end(tmp_path, read):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zeros").symlink_to("/dev/zero")
    for name in ("pipe", "zeros"):
        with pytest.raises(FileError, match=f"{name}: cannot be read: not a regular file"):
            read(tmp_path / name)
    with pytest.raises(FileError, match="cannot be read: Is a directory"):
        read(tmp_path)


def test_reading_a_missing_file_names_it(tmp_path):
    with pytest.raises(FileError, match="none: cannot be read: No such file"):
        read_file(tmp_path / "none")


def test_foreign_names_are_neither_hidden_nor_ones_own(tmp_path):
    for name in (".lock", "mine", "thesis.tex"):
        (tmp_path / name).touch()
    assert foreign_names(tmp_path, ["mine", "not there"]) == {"thesis.tex"}
    with pytest.raises(FileError, match="mine: cannot be read: Not a directory"):
        foreign_names(tmp_path / "mine", [])


CELLS = st.text(max_size=4) | st.text("'=+-@\t\r\n|\",1e.", max_size=4)


@given(st.lists(CELLS, min_size=1, max_size=3), st.lists(st.lists(CELLS, min_size=1, max_size=3), max_size=3))
def test_every_table_comes_back_and_no_cell_of_it_is_a_formula(header, rows):
    data = to_csv(header, rows)
    assert tabled(data) == [header, *rows]
    for cell in (cell for row in csv.reader(io.StringIO(data.decode(), newline="")) for cell in row):
        assert not cell.startswith(("=", "@", "\t", "\r", "\n"))
        assert not cell.startswith(("+", "-")) or float(cell) is not None


def tabled(data):
    """As `read_csv` reads these bytes."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        return read_csv(Path(file.name))


def test_tables_of_before_read_as_they_did_and_numbers_stay_numbers(tmp_path):
    path = tmp_path / "old.csv"
    path.write_bytes(b"key,x\r\n'=a,=b\r\n\"'+c\r\",-0.5\r\n")
    assert read_csv(path) == [["key", "x"], ["'=a", "=b"], ["'+c\r", "-0.5"]]
    assert to_csv(["key", "x"], [["a'b", -0.5], ["-1e-05", None]]) == b"key,x\r\na'b,-0.5\r\n-1e-05,\r\n"
    assert to_csv(["key"], [["=1"]]) == b'"key"\r\n"\'=1"\r\n'
