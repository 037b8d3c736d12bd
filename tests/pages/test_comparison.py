import re
from collections.abc import Callable
from pathlib import Path

import pytest

from har_cache.comparison.compare import Comparison, compare
from har_cache.errors import FileError
from har_cache.pages.comparison import groups, write_page
from har_cache.settings.evaluation import CompareSettings

from ..comparison.conftest import KEYS
from .test_report import Page

Evaluated = Callable[..., Path]


def compared(*runs: Path) -> Comparison:
    return compare(CompareSettings(runs=runs))


def test_the_page_needs_nothing_else_and_says_what_the_table_says(evaluated: Evaluated, tmp_path: Path) -> None:
    runs = [evaluated("a", KEYS[::2]), evaluated("b", KEYS[:4]), evaluated("c", KEYS[:5], keys=KEYS[1:])]
    write_page(compared(*runs), tmp_path / "page.html")
    page = Page(tmp_path / "page.html")
    assert page.open == []
    assert not page.elements.keys() & {"link", "iframe", "img"}
    assert not re.search(r"url\(|@import|https?://", (tmp_path / "page.html").read_text())
    assert any(meta.get("name") == "viewport" for meta in page.elements["meta"])
    text = " ".join(page.text.split())
    assert "Test list of split 1, 143 clips of 4 classes and 12 films" in text
    assert "Left out: 1 of the clips" in text
    for pair in ("b less a", "c less a", "c less b", "linear on mean less a"):
        assert pair in text
    assert "c less b: no difference shown" in text
    assert "b less a: more than chance explains" in text
    assert text.count("hold the truth together") == 2


def test_clean_clips_have_a_part_of_their_own(evaluated: Evaluated, tmp_path: Path) -> None:
    write_page(compared(evaluated("a", known=KEYS[:50]), evaluated("b")), tmp_path / "page.html")
    text = Page(tmp_path / "page.html").text
    assert text.index("WARNING: a was trained") < text.rindex("Clean clips alone")


def test_marks_are_on_the_scale(evaluated: Evaluated) -> None:
    on = compared(evaluated("a", KEYS[::2]), evaluated("b", KEYS[:4])).all_clips
    (row,) = groups(on)[0].rows
    assert 50 < row.mark.start < row.mark.point < row.mark.start + row.mark.width < 100
    end = float(groups(on)[0].end) / 100
    assert row.mark.point == pytest.approx(50 + 50 * row.difference.difference / end, abs=0.5)
    same = compared(evaluated("c"), evaluated("d", keys=KEYS[:6])).all_clips  # of one film: no interval
    (row,) = groups(same)[0].rows
    assert (row.mark.point, row.mark.width) == (50, 0)


def test_hostile_names_stay_text(evaluated: Evaluated, tmp_path: Path) -> None:
    write_page(compared(evaluated("<u>a & 'b'"), evaluated("{{ 7 * 7 }}")), tmp_path / "page.html")
    page = Page(tmp_path / "page.html")
    assert "u" not in page.elements
    assert "{{ 7 * 7 }} less <u>a & 'b'" in page.text


def test_a_place_that_cannot_be_written_is_named(evaluated: Evaluated, tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"page\.html: cannot be written"):
        write_page(compared(evaluated("a")), tmp_path / "nowhere" / "page.html")
