"""Commands from settings: each field of a settings class is an option, as `har_cache.settings` describes it."""

import dataclasses
import gc
import inspect
from collections.abc import Callable
from typing import Annotated, Any, get_origin

import typer

from har_cache.options import Option, Settings, flag, options

from .console import friendly

Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout, and nothing else there.")]
AllowFailed = Annotated[bool, typer.Option("--allow-failed", help="Exit with 0 although clips failed.")]
# As they are by default, importing torch takes a fifth longer.
_FEWER_COLLECTIONS = 50_000
_KEYWORD = inspect.Parameter.KEYWORD_ONLY


def add(app: typer.Typer, name: str, command: Callable[..., None]) -> None:
    """Add a command to the application. A parameter of `command` that is of a settings class becomes an option for each
    of its fields; its values are checked before the command runs. `--debug` is added to all.
    """
    taken = inspect.signature(command).parameters.values()
    settings = {p.name: p.annotation for p in taken if _is_settings(p.annotation)}

    flags = {flag(field) for kind in settings.values() for field, _ in options(kind)}

    def run(debug: bool, **values: Any) -> None:
        gc.set_threshold(_FEWER_COLLECTIONS)
        with friendly(debug, flags):
            for parameter, kind in settings.items():
                values[parameter] = _take(kind, values)
                values[parameter].check()
            try:
                command(**values)
            finally:
                gc.freeze()  # else the end of the process looks through all of torch once more: half a second

    parameters: list[inspect.Parameter] = []
    for p in taken:
        parameters += [_parameter(*known) for known in options(p.annotation)] if p.name in settings else [p]
    parameters.append(inspect.Parameter("debug", _KEYWORD, default=False, annotation=Debug))
    keyword = [p.replace(kind=_KEYWORD) for p in parameters]
    run.__signature__ = inspect.Signature(keyword)  # type: ignore[attr-defined]
    run.__doc__ = command.__doc__
    app.command(name)(run)


def _is_settings(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Settings)


def _parameter(field: "dataclasses.Field[Any]", known: Option) -> inspect.Parameter:
    kind: Any = field.type
    default: Any = inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default
    if known.listed:
        kind, default = str, ",".join(default)
    elif get_origin(kind) is tuple:
        kind = list[kind.__args__[0]]
    metavar = known.metavar or ("|".join(known.choices) if known.choices else None)
    name = flag(field)
    if known.argument:
        info: Any = typer.Argument(help=known.help, metavar=metavar)
    else:
        names = f"{name}/--no-{name.removeprefix('--')}" if default is True else name
        info = typer.Option(names, help=known.help, metavar=metavar)
    return inspect.Parameter(field.name, _KEYWORD, default=default, annotation=Annotated[kind, info])


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
