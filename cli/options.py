"""Commands from settings: each field of a settings class is an option, as `har_cache.settings` describes it."""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Annotated, Any, get_type_hints

import typer

from har_cache.settings import Option, Settings, options

from .console import friendly

Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout, and nothing else there.")]
AllowFailed = Annotated[bool, typer.Option("--allow-failed", help="Exit with 0 although clips failed.")]


def add(app: typer.Typer, name: str, command: Callable[..., None]) -> None:
    """Add a command to the application. A parameter of `command` that is of a settings class becomes an option for each
    of its fields; its values are checked before the command runs. `--debug` is added to all.
    """
    taken = inspect.signature(command, eval_str=True).parameters.values()
    settings = {
        p.name: p.annotation for p in taken if isinstance(p.annotation, type) and issubclass(p.annotation, Settings)
    }

    def run(debug: bool, **values: Any) -> None:
        with friendly(debug):
            for parameter, kind in settings.items():
                values[parameter] = _take(kind, values)
                values[parameter].check()
            command(**values)

    parameters = [made for p in taken for made in (_parameters(settings[p.name]) if p.name in settings else [p])]
    parameters.append(inspect.Parameter("debug", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Debug))
    keyword = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]
    run.__signature__ = inspect.Signature(keyword)  # type: ignore[attr-defined]
    run.__doc__ = command.__doc__
    app.command(name)(run)


def _parameters(settings: type[Settings]) -> list[inspect.Parameter]:
    """A parameter for each option of the settings, and of settings within them."""
    kinds = get_type_hints(settings)
    found = []
    known = {field.name: known for field, known in options(settings)}
    for field in dataclasses.fields(settings):  # type: ignore[arg-type]
        if field.name in known:
            found.append(_parameter(field, kinds[field.name], known[field.name]))
        else:
            found += _parameters(kinds[field.name])
    return found


def _parameter(field: "dataclasses.Field[Any]", kind: Any, known: Option) -> inspect.Parameter:
    default: Any = inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default
    if known.listed:
        kind, default = str, ",".join(default)
    elif kind == tuple[str, ...] or getattr(kind, "__origin__", None) is tuple:
        kind = list[kind.__args__[0]]
        default = default if default is inspect.Parameter.empty else list(default)
    metavar = known.metavar or ("|".join(known.choices) if known.choices else None)
    name = f"--{known.flag or field.name.replace('_', '-')}"
    if known.argument:
        info: Any = typer.Argument(help=known.help, metavar=metavar)
    elif default is False:
        info = typer.Option(name, help=known.help)
    elif default is True:
        info = typer.Option(f"{name}/--no-{name.removeprefix('--')}", help=known.help)
    else:
        info = typer.Option(name, help=known.help, metavar=metavar)
    return inspect.Parameter(
        field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, info]
    )


def _take(settings: type[Settings], values: dict[str, Any]) -> Settings:
    """Build the settings from the command line's values, which are then theirs."""
    kinds = get_type_hints(settings)
    known = {field.name: known for field, known in options(settings)}
    found: dict[str, Any] = {}
    for field in dataclasses.fields(settings):  # type: ignore[arg-type]
        if field.name not in known:
            found[field.name] = _take(kinds[field.name], values)
            continue
        value = values.pop(field.name)
        if known[field.name].listed:
            value = tuple(value.split(","))
        found[field.name] = tuple(value) if isinstance(value, list) else value
    return settings(**found)
