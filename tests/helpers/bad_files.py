"""Files that were edited, cut or flipped: Hypothesis writes them."""

import copy
from typing import Any

from hypothesis import strategies as st

DEEP = b"[" * 100_000
# In place of any value of a JSON object: of another type, empty, extreme, or what is no text in UTF-8.
_VALUES: list[Any] = [
    None,
    True,
    0,
    1,
    -1,
    2**31,
    2**63,
    -(2**63) - 1,
    10**400,
    0.5,
    -0.0,
    1e308,
    "",
    "x",
    "\ud800",
    "a\0b",
    "a/../b",
    "../../etc/passwd",
    "a/b\x1b\n",
    "a/\0",
    [],
    [[]],
    [None],
    [1, "x", {}],
    {},
    {"": ""},
    {"a/b": [1, 2, 9]},
]


@st.composite
def mutated(draw: st.DrawFn, content: Any, most: int = 2) -> Any:
    """`content`, a JSON object, with up to so many places changed: left out, given twice, or something else."""
    changed = copy.deepcopy(content)
    for _ in range(draw(st.integers(1, most))):
        parent, name = draw(st.sampled_from(_places(changed) or [(changed, None)]))
        if name is None:
            continue
        how = draw(st.sampled_from(["drop", "replace", "replace", "replace", "add"]))
        if how == "drop":
            del parent[name]
        elif how == "replace":
            parent[name] = copy.deepcopy(draw(st.sampled_from(_VALUES)))
        elif isinstance(parent, list):
            parent.append(copy.deepcopy(parent[name]))
        else:
            parent["unknown"] = copy.deepcopy(parent[name])
    return changed


@st.composite
def damaged(draw: st.DrawFn, data: bytes) -> bytes:
    """Bytes with one flipped bit or byte, cut, longer, empty, or others altogether."""
    place = draw(st.integers(0, max(0, len(data) - 1)))
    kind = draw(st.sampled_from(["flip", "byte", "cut", "drop", "twice", "insert", "other"]))
    if kind == "flip" and data:
        return data[:place] + bytes([data[place] ^ 1 << draw(st.integers(0, 7))]) + data[place + 1 :]
    if kind == "byte":
        return data[:place] + draw(st.sampled_from([b"\0", b"\xff", b'"', b"\n", b"9", b","])) + data[place + 1 :]
    if kind == "cut":
        return data[:place]
    if kind == "drop":
        return data[:place] + data[place + draw(st.integers(1, 40)) :]
    if kind == "twice":
        return data[:place] + data
    if kind == "insert":
        return data[:place] + draw(st.binary(max_size=5)) + data[place:]
    return draw(st.sampled_from([b"", b"{}", b"[]", b"null", b"\xff\xfe", b"{" * 9, DEEP, b'{"a": 1e999}', b"\0" * 64]))


def _places(content: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) in a JSON value; of a long list or object, the first few and the last."""
    names: list[Any] = []
    if isinstance(content, dict):
        names = list(content)
    elif isinstance(content, list):
        names = list(range(len(content)))
    found = [(content, name) for name in [*names[:20], *names[20:][-1:]]]
    return found + [place for _, name in found for place in _places(content[name])]
