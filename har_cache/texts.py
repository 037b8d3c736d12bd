"""Texts that hold names from disk: as they can be shown to people, and as JSON in strict UTF-8 can hold them."""

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
_BYTES_OF_NAMES = 0xDC80, 0xDCFF  # how Python holds a byte of a file name that is not UTF-8: as U+DC00 + the byte
# Control characters, line and paragraph separators, what turns the direction of writing, and lone surrogates.
_CONTROL = "\x00-\x1f\x7f-\x9f\u2028\u2029"
_DIRECTION = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_HIDDEN = re.compile(f"[{_CONTROL}{_DIRECTION}\ud800-\udfff]")
_SURROGATES = re.compile("[\ud800-\udfff]")
_SHORT = {"\t": "\\t", "\n": "\\n", "\r": "\\r"}


def printable(text: str, line_breaks: bool = False) -> str:
    """`text` on one line that does nothing to a terminal: a control character, one that turns the direction of writing,
    or a byte that is not UTF-8 stands as `\\n`, `\\x1b`, `\\u202e`. With `line_breaks`, `\\n` stays: of a text that has
    lines of its own.
    """
    parts = text.split("\n") if line_breaks else [text]
    return "\n".join(_HIDDEN.sub(_escaped, part) for part in parts)


def utf8(text: str) -> str:
    """`text` as UTF-8 can hold it: a byte of a file name that is not UTF-8 stands as `\\xff`, any other half of a
    surrogate pair as `\\ud800`.
    """
    return _SURROGATES.sub(_escaped, text)


def printable_values(value: T) -> T:
    """A copy of `value` in which every text and every path is `printable`, at whatever depth of dataclasses, lists and
    mappings it stands: what is then put into lines has those lines alone.
    """
    return _copied(value)


def _copied(value: Any) -> Any:
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, Path):
        return Path(printable(str(value)))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: _copied(getattr(value, f.name)) for f in dataclasses.fields(value) if f.init}
        return dataclasses.replace(value, **fields)
    if isinstance(value, Mapping):
        return {_copied(key): _copied(item) for key, item in value.items()}
    return type(value)(map(_copied, value)) if type(value) in (list, tuple) else value


def _escaped(match: re.Match[str]) -> str:
    character = match[0]
    code = ord(character)
    if _BYTES_OF_NAMES[0] <= code <= _BYTES_OF_NAMES[1]:
        code -= 0xDC00
    return _SHORT.get(character) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")
