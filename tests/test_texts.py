import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from har_cache.texts import printable, printable_values, utf8

from .helpers.names import HOSTILE, harmful

ANY = st.text(st.characters(exclude_categories=()) | st.sampled_from("\n\r\t\x1b\x9b\u202e\u2066\ud800\udcff"))


@given(ANY)
def test_nothing_that_is_printed_does_anything_to_a_terminal(text: str) -> None:
    shown = printable(text)
    shown.encode()
    assert "\n" not in shown
    assert not any(ord(c) < 32 or 0x7F <= ord(c) < 0xA0 for c in shown)
    assert {"\u202e", "\u2066", "\u200f", "\u061c", "\u2028"}.isdisjoint(shown)
    assert printable(text, line_breaks=True).split("\n") == [printable(line) for line in text.split("\n")]


@given(st.text(st.characters(categories=("L", "N", "P", "S", "Zs"))))
def test_all_other_texts_stay_as_they_are(text: str) -> None:
    assert printable(text) == utf8(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\r\n\tb", "a\\r\\n\\tb"),
        ("\x1b[2J\x07", "\\x1b[2J\\x07"),
        ("\x9b", "\\x9b"),
        ("\u202ertl", "\\u202ertl"),
        ("\udcff.avi", "\\xff.avi"),  # the byte 0xff in a name
        ("\ud800", "\\ud800"),
    ],
)
def test_what_is_hidden_stands_as_people_write_it(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(ANY)
def test_what_json_holds_is_utf8_and_differs_only_where_that_cannot_hold_it(text: str) -> None:
    utf8(text).encode()
    parts = re.split("[\ud800-\udfff]", text)
    assert re.fullmatch(r"\\(x[89a-f][0-9a-f]|ud[89a-f][0-9a-f]{2})".join(map(re.escape, parts)), utf8(text))


@dataclass(frozen=True)
class Row:
    name: str
    path: Path
    inner: Any = None
    count: int = 3


def test_every_text_of_a_value_is_made_printable() -> None:
    row = Row("a\nb", Path("x\x1b"), {"k\r": ["\t", ("\n", 1.5, None)]})
    assert printable_values([Row("", Path("y"), row)]) == [
        Row("", Path("y"), Row("a\\nb", Path("x\\x1b"), {"k\\r": ["\\t", ("\\n", 1.5, None)]}))
    ]


def test_hostile_names_are_harmful_before_and_not_after() -> None:
    assert harmful("".join(HOSTILE)) and not harmful("".join(map(printable, HOSTILE)))
