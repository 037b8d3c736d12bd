"""Settings as the command line that gives them, to be pasted."""

import shlex
from typing import Any

from .options import Settings, flag, options


def command_line(name: str, settings: Settings) -> str:
    """`har-cache NAME` with those options that are not as by default."""
    words = ["har-cache", name]
    values = _values(settings)
    for field, known in options(type(settings)):
        value = values[field.name]
        if value == field.default:
            continue
        if known.listed:
            words += [flag(field), ",".join(value)]
        elif known.argument:
            words += [*map(str, value if isinstance(value, tuple) else [value])]
        elif isinstance(value, bool):
            words.append(flag(field) if value else f"--no-{flag(field).removeprefix('--')}")
        else:
            words += [
                word for each in (value if isinstance(value, tuple) else [value]) for word in (flag(field), str(each))
            ]
    return shlex.join(words)


def _values(settings: Any) -> dict[str, Any]:
    """All values, those of settings within too, by the names of their fields."""
    found: dict[str, Any] = {}
    for name, value in vars(settings).items():
        found |= _values(value) if isinstance(value, Settings) else {name: value}
    return found
