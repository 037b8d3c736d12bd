"""Keyword arguments as settings: each option of a command by its name in Python, `--shard-clips` as `shard_clips`."""

import dataclasses
import difflib
import inspect
import keyword
import numbers
import operator
import os
import types
from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

from ..errors import SettingError
from ..options import Option, Settings, flag, options
from ..system import repeat_products
from ..workers.main_module import check_main_module

PathLike = str | os.PathLike[str]
F = TypeVar("F", bound=Callable[..., Any])
S = TypeVar("S", bound=Settings)
_Field = dataclasses.Field[Any]
_KEYWORD_ONLY = inspect.Parameter.KEYWORD_ONLY


def command(kind: type[Settings] | None = None) -> Callable[[F], F]:
    """Decorator of a function that is a command in Python. Its `**options` are those of `kind` that it has no parameter
    for: its signature and its docstring name them all, with what they are by default.
    """

    def decorate(function: F) -> F:
        @wraps(function)
        def call(*args: Any, **options: Any) -> Any:
            check_main_module()
            repeat_products()
            return function(*args, **options)

        if kind is not None:
            _describe(call, function, kind)
        return call  # type: ignore[return-value]

    return decorate


def settings(kind: type[S], given: dict[str, Any], **parameters: Any) -> S:
    """Settings of `kind` from keyword arguments, and from parameters by the names of their fields. Raises SettingError
    for an unknown name, which tells the nearest one, and for a value of another type.
    """
    left = dict(given)
    found = _taken(kind, left, parameters)
    if left:
        unknown = next(iter(left))
        known = [name for field, _ in options(kind) if field.name not in parameters for name in _names(field)]
        near = difflib.get_close_matches(unknown, known, 1)
        first = [_names(field)[0] for field, _ in options(kind) if field.name not in parameters]
        raise SettingError(f"{unknown}=: no such option; " + (f"did you mean {near[0]}=?" if near else _listed(first)))
    return found


def _listed(names: Iterable[str]) -> str:
    return "there are " + ", ".join(f"{name}=" for name in names)


def _taken(kind: Any, left: dict[str, Any], parameters: dict[str, Any]) -> Any:
    """Settings of this class, and of those within it; what is used is taken out of `left`."""
    found = {}
    for field in dataclasses.fields(kind):
        if isinstance(field.type, type) and issubclass(field.type, Settings):
            found[field.name] = _taken(field.type, left, {})
        elif field.name in parameters:
            if (value := parameters[field.name]) is not None:
                found[field.name] = _value(field, value)
        elif name := next((name for name in _names(field) if name in left), None):
            found[field.name] = _value(field, left.pop(name))
    return kind(**found)


def _names(field: _Field) -> list[str]:
    """The names of an option in Python, the one to use first: as on the command line, or else the field's."""
    known: Option = field.metadata["option"]
    of_flag = field.name if known.argument else flag(field).removeprefix("--").replace("-", "_")
    names = [of_flag, field.name] if not keyword.iskeyword(of_flag) else [field.name]
    aliases = [alias.replace("-", "_") for alias in known.aliases]
    return list(dict.fromkeys([*names, *aliases]))


def _value(field: _Field, value: Any) -> Any:
    """A value as its field has it. Raises SettingError for one of another type."""
    kinds = get_args(field.type) if isinstance(field.type, types.UnionType) else (field.type,)
    if value is None and (types.NoneType in kinds or field.default is None):
        return None
    kind = next(kind for kind in kinds if kind is not types.NoneType)
    if get_origin(kind) is not tuple:
        return _one(field, kind, value)
    if isinstance(value, str) and field.metadata["option"].listed:
        value = value.split(",")
    several = [value] if isinstance(value, str | os.PathLike) else value
    if not isinstance(several, Iterable):
        raise SettingError(f"{flag(field)} {value!r}: expected a list")
    found = tuple(_one(field, get_args(kind)[0], item) for item in several)
    if not found and field.default is dataclasses.MISSING:
        raise SettingError(f"{flag(field)}: expected one or more")
    return found


def _one(field: _Field, kind: Any, value: Any) -> Any:
    try:
        return _AS[kind](value)
    except TypeError:
        raise SettingError(f"{flag(field)} {value!r}: expected {_EXPECTED[kind]}") from None


def _text(value: Any) -> str:
    """A text; of numbers, or a list of them, what the command line has for them: seeds=[0, 1, 2] is 0,1,2."""
    if isinstance(value, str | os.PathLike):
        return os.fspath(value)
    if isinstance(value, bool):
        raise TypeError
    return ",".join(map(str, value)) if isinstance(value, Iterable) else str(value)


def _whole_number(value: Any) -> int:
    if isinstance(value, bool):
        raise TypeError
    return operator.index(value)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError
    return float(value)


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


_AS: dict[Any, Callable[[Any], Any]] = {Path: Path, str: _text, int: _whole_number, float: _number, bool: _truth}
_EXPECTED = {Path: "a path", str: "a text", int: "a whole number", float: "a number", bool: "True or False"}


def _describe(call: Any, function: Callable[..., Any], kind: type[Settings]) -> None:
    """Name all options in the signature and in the docstring."""
    signature = inspect.signature(function)
    own = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    taken = {p.name for p in own}
    more = [field for field, _ in options(kind) if field.name not in taken and not taken & set(_names(field))]
    call.__signature__ = signature.replace(parameters=[*own, *map(_parameter, more)])
    call.__doc__ = "\n".join([inspect.cleandoc(function.__doc__ or ""), "", "Options:", "", *_lines(more)])


def _parameter(field: _Field) -> inspect.Parameter:
    return inspect.Parameter(_names(field)[0], _KEYWORD_ONLY, default=field.default, annotation=field.type)


def _lines(fields: Iterable[_Field]) -> Iterator[str]:
    for field in fields:
        yield f"- `{_names(field)[0]}={field.default!r}`: {field.metadata['option'].help}"
