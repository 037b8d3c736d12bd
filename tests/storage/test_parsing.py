from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from har_cache.errors import CacheError
from har_cache.storage.parsing import parse


@dataclass(frozen=True)
class Kind:
    name: str = ""
    count: int = 0
    share: float = 0.0
    names: tuple[str, ...] = ()
    by_name: Mapping[str, int] = field(default_factory=dict)


@pytest.mark.parametrize(
    ("content", "wrong"),
    [
        ({"name": "\ud800"}, "name: .* no text in UTF-8"),
        ({"names": ["x", "\udcff"]}, "names: .* no text in UTF-8"),
        ({"by_name": {"\ud800": 1}}, "by_name: .* no text in UTF-8"),
        ({"count": 2**63}, "count: .* no whole number of 64 bits"),
        ({"share": 10**400}, "share: a number of more than 64 bits is no whole number"),
        ({"share": float("nan")}, "share: nan is no finite number"),
        ({"share": float("inf")}, "share: inf is no finite number"),
        ({"by_name": {"x": -(2**63) - 1}}, "by_name: .* 64 bits"),
    ],
)
def test_what_json_can_say_and_nothing_of_ours_can_hold_is_refused(content: Any, wrong: str) -> None:
    with pytest.raises(CacheError, match=f"file: {wrong}.*; it was not written by this version"):
        parse(Kind, content, "file")


def test_the_largest_numbers_and_texts_of_any_script_are_taken() -> None:
    content = {"name": "日本語\x1b", "count": -(2**63), "share": 1e308, "by_name": {"ö": 2**63 - 1}}
    assert parse(Kind, content, "file") == Kind(**content)
