"""What a setting is: a field of a class, with its help, bounds and name on the command line. Nothing here imports
torch, since `--help` needs it.
"""

import dataclasses
import math
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, dataclass, field
from typing import Any, ClassVar

from .errors import SettingError

REQUIRED: Any = MISSING
_OPTION = "option"


@dataclass(frozen=True)
class Option:
    """A setting, beside its type and default. Bounds: `least` and `most` are allowed, `above` and
    `below` are not; None, where it is the default, always is. `flag`: its name on the command line where that is not
    the field's; `aliases`: others that are taken there, and not shown; `argument`: it stands there without a name;
    `listed`: one text, with commas; `pattern`: what the whole of a text must match, with `expected`, which says so in
    words.
    """

    help: str
    flag: str = ""
    aliases: tuple[str, ...] = ()
    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None
    choices: tuple[str, ...] = ()
    metavar: str = ""
    argument: bool = False
    listed: bool = False
    pattern: str = ""
    expected: str = ""

    def fault(self, value: Any) -> str | None:
        """The values that are expected instead of this one; None where it is a good one."""
        if self.choices:
            return None if value in self.choices else f"one of {', '.join(self.choices)}"
        if self.pattern:
            return None if re.fullmatch(self.pattern, value) else self.expected
        bounds: list[tuple[str, float | None, Callable[[Any, float], bool]]] = [
            ("at least", self.least, operator.ge),
            ("a number above", self.above, operator.gt),
            ("at most", self.most, operator.le),
            ("less than", self.below, operator.lt),
        ]
        given = [(words, bound, holds) for words, bound, holds in bounds if bound is not None]
        finite = not isinstance(value, float) or math.isfinite(value)
        if finite and all(holds(value, bound) for _, bound, holds in given):
            return None
        return " and ".join(f"{words} {bound}" for words, bound, _ in given) or "a number"


def option(default: Any, help: str, **more: Any) -> Any:
    """A field of settings; `more`: fields of `Option`. `default` is REQUIRED for what has none."""
    return field(default=default, metadata={_OPTION: Option(help, **more)})


class Settings:
    """Base of all settings. `SECTIONS`: the titles of a long command's help, each by the field that it begins with."""

    SECTIONS: ClassVar[Mapping[str, str]] = {}

    def check(self) -> None:
        """Raise SettingError, naming the option, where a value makes no sense."""
        for name in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, name.name)
            if isinstance(value, Settings):
                value.check()
            elif (value is not None or name.default is not None) and (expected := name.metadata[_OPTION].fault(value)):
                raise SettingError(f"{flag(name)} {value}: expected {expected}")
        self._check_together()

    def _check_together(self) -> None:
        """Raise SettingError where values do not go with each other."""


def options(settings: Any) -> Iterator[tuple["dataclasses.Field[Any]", Option]]:
    """All options of a class of settings, and of settings within it, in order."""
    for _, name, known in options_in_sections(settings):
        yield name, known


def options_in_sections(settings: Any, section: str = "") -> Iterator[tuple[str, "dataclasses.Field[Any]", Option]]:
    """`options`, each with the title of its section; empty where the settings have none."""
    for name in dataclasses.fields(settings):
        section = settings.SECTIONS.get(name.name, section)
        if _OPTION in name.metadata:
            yield section, name, name.metadata[_OPTION]
        else:
            yield from options_in_sections(name.type, section)


def flag(name: "dataclasses.Field[Any]") -> str:
    """The name of a setting on the command line."""
    known: Option = name.metadata[_OPTION]
    return name.name.upper() if known.argument else f"--{known.flag or name.name.replace('_', '-')}"
