"""Commands as the command line shows them: their help in sections, and other spellings that they take."""

import copy
import re
from collections.abc import Iterator
from typing import Any

from typer.core import TyperCommand, TyperGroup

_WIDEST = 30  # of names, with what they take; the help of longer ones begins on the next line
_REST = "Options"  # the title of what is in no section
_ARGUMENT = "argument"


class Command(TyperCommand):
    """A command. An option is in the section of its `rich_help_panel`, by its first name; aliases are taken, and not
    shown. What stands without a name, RUN say, is taken as `--run RUN` too, where no option is called that.
    """

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments and options, section by section."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            if row := _row(param, ctx):
                named = param.param_type_name != _ARGUMENT
                title = (getattr(param, "rich_help_panel", None) or _REST) if named else "Arguments"
                sections.setdefault(title, []).append(row)
        _write(formatter, sections)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """What follows the command's name in its first line of help."""
        return [self.options_metavar or "", *(_name(param) for param in self._arguments())]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse, with arguments that were given by a name put where they belong."""
        known = {name for param in self.get_params(ctx) for name in (*param.opts, *param.secondary_opts)}
        for place, param in enumerate(self._arguments()):
            names = {f"--{word.lower()}" for word in re.findall("[A-Z]+", _name(param))} - known
            given, args = _taken_out(args, names)
            args = [*args, *given] if place else [*given, *args]
        return super().parse_args(ctx, args)

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """What a shell may complete to, without aliases."""
        aliases = {name for param in self.get_params(ctx) for name in param.opts if name not in _shown_names(param)}
        return [item for item in super().shell_complete(ctx, incomplete) if item.value not in aliases]

    def _arguments(self) -> Iterator[Any]:
        return (param for param in self.params if param.param_type_name == _ARGUMENT)


class CommandGroup(TyperGroup):
    """All commands, in the sections of their `rich_help_panel`."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write each command's name and its help in a line."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for name, command in self.commands.items():
            title = getattr(command, "rich_help_panel", None) or "Commands"
            sections.setdefault(title, []).append((name, command.get_short_help_str(formatter.width)))
        _write(formatter, sections)


def _taken_out(args: list[str], names: set[str]) -> tuple[list[str], list[str]]:
    """The values of options of these names, and the other words."""
    values: list[str] = []
    rest: list[str] = []
    words = iter(args)
    for word in words:
        name, equals, value = word.partition("=")
        if word == "--":
            return values, [*rest, word, *words]
        if name not in names:
            rest.append(word)
        elif equals:
            values.append(value)
        else:
            following = next(words, None)
            (rest if following is None else values).append(word if following is None else following)
    return values, rest


def _name(param: Any) -> str:
    """An argument's, as it stands in the help."""
    return param.metavar or param.name.upper()


def _row(param: Any, ctx: Any) -> tuple[str, str] | None:
    """Name and help; None for what is hidden."""
    if param.param_type_name == _ARGUMENT:
        return _name(param), param.help or ""
    shown = copy.copy(param)
    shown.opts = _shown_names(param)
    return shown.get_help_record(ctx)


def _shown_names(param: Any) -> list[str]:
    """The short name of an option, where it has one, and the first of the long ones: all others are aliases."""
    short = [name for name in param.opts if not name.startswith("--")]
    return [*short, *[name for name in param.opts if name.startswith("--")][:1]]


def _write(formatter: Any, sections: dict[str, list[tuple[str, str]]]) -> None:
    """Each section with its title, the help of all at the same column."""
    widths = [len(name) for rows in sections.values() for name, _ in rows]
    width = max((width for width in widths if width <= _WIDEST), default=0)
    for title, rows in sections.items():
        with formatter.section(title):
            formatter.write_dl([(name.ljust(width), help) for name, help in rows], col_max=_WIDEST)
