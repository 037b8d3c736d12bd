"""JSON from disk into dataclasses: every field is there and of its type, or the error says which is not."""

import contextlib
import dataclasses
import math
import types
from collections.abc import Callable, Collection, Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

from ..errors import CacheError, FileError, HarCacheError
from ..texts import utf8
from .files import read_file, unseal

T = TypeVar("T")
_NAMES = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    tuple: "a list",
    Mapping: "an object",
}
# What JSON can say, and no file of ours, memory or terminal can hold.
_BOUNDS: dict[type, Callable[[Any], bool]] = {
    str: lambda text: text.isascii() or utf8(text) == text,
    int: lambda number: -(2**63) <= number < 2**63,
    float: math.isfinite,
}
_KINDS = {str: "text in UTF-8", int: "whole number of 64 bits", float: "finite number"}


def read_sealed(path: Path) -> tuple[dict[str, Any], bytes]:
    """The content of a sealed JSON file, and its bytes. Raises CacheError where it cannot be read, or is damaged."""
    try:
        data = read_file(path)
        return unseal(data, path), data
    except FileError as error:
        raise CacheError(str(error)) from error


def parse(
    kind: type[T],
    content: Any,
    where: object,
    names: Collection[str] = (),
    error: type[HarCacheError] = CacheError,
) -> T:
    """A dataclass from a JSON object, nested ones too; only the fields `names`, where some are given, which then must
    be there. A field `from_` is called `from` in JSON. Raises `error`, which names what is missing or wrong.
    """
    try:
        return _dataclass(kind, content, names)
    except ValueError as fault:
        raise error(f"{where}: {fault}; it was not written by this version of har-cache") from fault


def to_json_types(value: Any) -> Any:
    """The reverse of `parse`: dataclasses become objects, tuples lists."""
    if hasattr(value, "to_dict"):
        return value.to_dict()
    if dataclasses.is_dataclass(value):
        return fields_to_json_types(value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {key: to_json_types(item) for key, item in value.items()}
    return [to_json_types(item) for item in value] if isinstance(value, tuple | list) else value


def fields_to_json_types(value: Any) -> dict[str, Any]:
    """The fields of a dataclass by their names in JSON."""
    return {f.name.rstrip("_"): to_json_types(getattr(value, f.name)) for f in dataclasses.fields(value)}


def _dataclass(kind: Any, content: Any, names: Collection[str] = ()) -> Any:
    if not isinstance(content, Mapping):
        raise ValueError(f"expected an object, found {_shown(content)}")
    found = {}
    for attribute, name, type_, has_default in _fields(kind):
        if (names and name not in names) or (not names and name not in content and has_default):
            continue
        if name not in content:
            raise ValueError(f"{name} is missing")
        try:
            found[attribute] = _value(type_, content[name])
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return kind(**found)


@cache
def _fields(kind: Any) -> list[tuple[str, str, Any, bool]]:
    """Of each field of a dataclass: its name here and in JSON, its type, and whether it has a default."""
    none = dataclasses.MISSING
    return [
        (f.name, f.name.rstrip("_"), f.type, f.default is not none or f.default_factory is not none)
        for f in dataclasses.fields(kind)
    ]


def _value(kind: Any, value: Any) -> Any:
    if type(value) in _BOUNDS and not _BOUNDS[type(value)](value):
        raise ValueError(f"{_shown(value)} is no {_KINDS[type(value)]}")
    if type(value) is kind:
        return value
    if dataclasses.is_dataclass(kind):
        if isinstance(value, kind):  # type: ignore[arg-type]
            return value
        try:
            return kind.from_dict(value) if hasattr(kind, "from_dict") else _dataclass(kind, value)
        except HarCacheError as error:
            raise ValueError(str(error)) from error
    origin, arguments = _parts(kind)
    if origin is types.UnionType:
        return None if value is None else _either(arguments, value)
    if origin is tuple and isinstance(value, list):
        length = len(value) if arguments[-1] is Ellipsis else len(arguments)
        if len(value) == length:
            return tuple(_value(arguments[0], item) for item in value)
    if origin is Mapping and isinstance(value, dict):
        return {_value(str, key): _value(arguments[1], item) for key, item in value.items()}
    if kind is float and type(value) is int:
        return value
    raise ValueError(f"expected {_NAMES[origin or kind]}, found {_shown(value)}")


def _either(kinds: tuple[Any, ...], value: Any) -> Any:
    """A value of one of several types; what is wrong is said of the first."""
    first, *others = (kind for kind in kinds if kind is not types.NoneType)
    for kind in others:
        with contextlib.suppress(ValueError):
            return _value(kind, value)
    return _value(first, value)


@cache
def _parts(kind: Any) -> tuple[Any, tuple[Any, ...]]:
    return get_origin(kind), get_args(kind)


def _shown(value: Any) -> str:
    text = repr(value) if type(value) is not int or abs(value) < 2**64 else "a number of more than 64 bits"
    return text if len(text) <= 60 else f"{text[:60]}..."
