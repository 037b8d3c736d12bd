from pathlib import Path

import pytest

from har_cache.data.lists.rows import read_rows
from har_cache.data.splits import TEST, TRAIN, VALIDATE
from har_cache.errors import DataError

from ...helpers.own_data import write_text


def rows(path: Path, *lines: str, end: str = "\n") -> list[tuple[object, ...]]:
    return [(r.path, r.label, dict(r.subsets), r.source) for r in read_rows([str(write_text(path, *lines, end=end))])]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_table_by_its_header_with_a_byte_order_mark_blank_lines_and_quotes(tmp_path: Path, end: str) -> None:
    lines = ["\ufeffLabel,path,split,source", 'jump,"a, b.mp4",train,anna', "", ",,,", '"sit ""down""",c.mp4, Val ,']
    assert rows(tmp_path / "list.csv", *lines, end=end) == [
        ("a, b.mp4", "jump", {1: TRAIN}, "anna"),
        ("c.mp4", 'sit "down"', {1: VALIDATE}, ""),
    ]


@pytest.mark.parametrize(("name", "delimiter"), [("a.tsv", "\t"), ("a.txt", "\t"), ("a.csv", ";"), ("a", ",")])
def test_tables_with_other_delimiters_and_names(tmp_path: Path, name: str, delimiter: str) -> None:
    lines = [delimiter.join(cells) for cells in (("path", "label", "split2"), ("a b.mp4", "run", "test"))]
    assert rows(tmp_path / name, *lines) == [("a b.mp4", "run", {2: TEST}, "")]


@pytest.mark.parametrize("name", ["train.txt", "train.csv"])
def test_plain_lines_whose_paths_may_hold_blanks(tmp_path: Path, name: str) -> None:
    assert rows(tmp_path / name, "a b.mp4 0", "  c/d.mp4\t12 ", "") == [
        ("a b.mp4", "0", {}, ""),
        ("c/d.mp4", "12", {}, ""),
    ]


def test_lists_of_subsets_and_of_several_splits(tmp_path: Path) -> None:
    path = write_text(tmp_path / "list=1.txt", "a.mp4 0")
    found = read_rows([f"train={path}", f"val2={path}", f"test12={path}"])
    assert [dict(row.subsets) for row in found] == [{1: TRAIN}, {2: VALIDATE}, {12: TEST}]


@pytest.mark.parametrize(
    ("lines", "line", "what"),
    [
        (["path,label,group"], 1, "unknown column 'group'; known are path, label, split or subset"),
        (["path,labels"], 1, "unknown column 'labels'"),
        (["path,split"], 1, "no column label"),
        (["path,label,path"], 1, "two columns say the same"),
        (["path,label,split,subset"], 1, "two columns say the same"),
        (["path,label", "a.mp4,jump", "b.mp4, "], 3, "label is missing"),
        (["path,label", "a.mp4"], 2, "label is missing"),
        (["path,label", ",jump"], 2, "path is missing"),
        (["path,label,split", "a.mp4,jump,tset"], 2, "'tset' is no subset"),
        (["path,label", "a,b.mp4,jump"], 2, "3 cells under 2 columns"),
        (["path,label", '"a"b.mp4,jump'], 2, "is no table"),
        (["a.mp4,jump"], 1, "unknown column 'a.mp4'"),
    ],
)
def test_bad_tables_are_refused_with_file_and_line(tmp_path: Path, lines: list[str], line: int, what: str) -> None:
    path = write_text(tmp_path / "list.csv", *lines)
    with pytest.raises(DataError) as caught:
        read_rows([str(path)])
    assert str(caught.value).startswith(f"{path}, line {line}: ") and what in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_plain_line_without_a_label_is_refused_with_file_and_line(tmp_path: Path) -> None:
    path = write_text(tmp_path / "list.txt", "a.mp4 0", "b.mp4")
    with pytest.raises(DataError, match=r"list\.txt, line 2: expected '<path> <label>'"):
        read_rows([str(path)])


@pytest.mark.parametrize("lines", [[], ["", " "], ["path,label"], ["path,label", ","]])
def test_a_list_that_names_no_clip_is_refused(tmp_path: Path, lines: list[str]) -> None:
    with pytest.raises(DataError, match=r"list\.csv: names no clip"):
        read_rows([str(write_text(tmp_path / "list.csv", *lines))])


def test_several_lists_say_which_subset_each_is(tmp_path: Path) -> None:
    first, second = (str(write_text(tmp_path / name, f"{name}.mp4 0")) for name in ("a", "b"))
    for lists in ([first, second], [f"train={first}", second]):
        with pytest.raises(DataError, match="--list train=FILE, --list val=FILE"):
            read_rows(lists)


def test_a_column_of_subsets_and_a_list_of_one_contradict_each_other(tmp_path: Path) -> None:
    path = write_text(tmp_path / "list.csv", "path,label,split", "a.mp4,jump,test")
    with pytest.raises(DataError, match=r"line 1: has a column of subsets, and --list says"):
        read_rows([f"train={path}"])


def test_a_list_that_is_not_there_or_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_bytes(b"caf\xe9.avi jump")
    for name in ("list.csv", "absent.csv"):
        with pytest.raises(DataError, match=rf"cannot read the list .*{name}"):
            read_rows([str(tmp_path / name)])
