"""Commands from settings: each field of a settings class is an option, as `har_cache.settings` describes it."""

import dataclasses
import gc
import inspect
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import typer
from typer.models import OptionInfo

from har_cache.options import Option, Settings, flag, options, options_in_sections

from .commands import Command
from .console import friendly, hushed

Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Tell nothing but the result, warnings and errors.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout, and nothing else there.")]
AllowFailed = Annotated[bool, typer.Option("--allow-failed", help="Exit with 0 although clips failed.")]
# As they are by default, importing torch takes a fifth longer.
_FEWER_COLLECTIONS = 50_000
_KEYWORD = inspect.Parameter.KEYWORD_ONLY


def add(
    app: typer.Typer, name: str, command: Callable[..., None], section: str = "", summary: str | None = None
) -> None:
    """Add a command to the application, in a section of its help, with a summary in a line. A parameter of `command`
    that is of a settings class becomes an option for each of its fields; its values are checked before the command
    runs. `--quiet` and `--debug` are added to all.
    """
    taken = inspect.signature(command).parameters.values()
    settings = {p.name: p.annotation for p in taken if _is_settings(p.annotation)}

    flags = {flag(field) for kind in settings.values() for field, _ in options(kind)}

    def run(debug: bool, quiet: bool, **values: Any) -> None:
        gc.set_threshold(_FEWER_COLLECTIONS)
        with friendly(debug, flags), hushed(quiet):
            for parameter, kind in settings.items():
                values[parameter] = _take(kind, values)
                values[parameter].check()
            try:
                command(**values)
            finally:
                gc.freeze()  # else the end of the process looks through all of torch once more: half a second

    parameters: list[inspect.Parameter] = []
    for p in taken:
        parameters += [_parameter(*k) for k in options_in_sections(p.annotation)] if p.name in settings else [_named(p)]
    parameters.append(inspect.Parameter("quiet", _KEYWORD, default=False, annotation=Quiet))
    parameters.append(inspect.Parameter("debug", _KEYWORD, default=False, annotation=Debug))
    keyword = [p.replace(kind=_KEYWORD) for p in parameters]
    run.__signature__ = inspect.Signature(keyword)  # type: ignore[attr-defined]
    run.__doc__ = command.__doc__
    app.command(name, cls=Command, short_help=summary, rich_help_panel=section or None)(run)


def _is_settings(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Settings)


def _parameter(section: str, field: "dataclasses.Field[Any]", known: Option) -> inspect.Parameter:
    kind: Any = field.type
    default: Any = inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default
    if known.listed:
        kind, default = str, ",".join(default)
    elif get_origin(kind) is tuple:
        kind = list[kind.__args__[0]]
    metavar, name = _metavar(field, known), flag(field)
    if known.argument:
        info: Any = typer.Argument(help=known.help, metavar=metavar)
    else:
        names = f"{name}/--no-{name.removeprefix('--')}" if default is True else name
        info = typer.Option(
            names,
            *(f"--{alias}" for alias in known.aliases),
            help=known.help,
            metavar=metavar,
            autocompletion=_completion(_words(metavar)),
            rich_help_panel=section or None,
        )
    return inspect.Parameter(field.name, _KEYWORD, default=default, annotation=Annotated[kind, info])


def _metavar(field: "dataclasses.Field[Any]", known: Option) -> str | None:
    """What stands for a value in the help; None for a flag, and for what has no name but this one."""
    if known.metavar or known.choices:
        return known.metavar or "|".join(known.choices)
    return None if known.argument else _usual_metavar(field.type, field.name)


def _usual_metavar(kind: Any, name: str) -> str | None:
    kinds = {kind, *get_args(kind)}
    if bool in kinds:
        return None
    if Path in kinds:
        return {"cache": "CACHE", "run": "RUN", "start": "RUN"}.get(name, "DIR")
    return "N" if int in kinds else "X" if float in kinds else "TEXT"


def _named(parameter: inspect.Parameter) -> inspect.Parameter:
    """A parameter that is of no settings, with the usual metavar where it has none."""
    kind, *rest = get_args(parameter.annotation)
    for info in rest:
        if isinstance(info, OptionInfo) and info.metavar is None:
            info.metavar = _usual_metavar(kind, parameter.name)
    return parameter


def _words(metavar: str | None) -> list[str]:
    """The values that a metavar names, for a shell to complete; those in capitals stand for others."""
    return [word for word in (metavar or "").split("|") if re.fullmatch("[a-z][a-z0-9,-]*", word)]


def _completion(words: Iterable[str]) -> Callable[[str], list[str]] | None:
    """What gives a shell those of the words that begin as the user has; without words it shows files by itself."""
    known = list(words)

    def complete(incomplete: str) -> list[str]:
        return [word for word in known if word.startswith(incomplete)]

    return complete if known else None


def _take(settings: Any, values: dict[str, Any]) -> Settings:
    """Build the settings from the command line's values, which are then theirs."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(settings):
        if _is_settings(field.type):
            found[field.name] = _take(field.type, values)
            continue
        value = values.pop(field.name)
        if isinstance(value, str) and get_origin(field.type) is tuple:  # one text, with commas
            value = value.split(",")
        found[field.name] = tuple(value) if isinstance(value, list) else value
    return settings(**found)
