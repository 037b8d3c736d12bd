"""Pages that need nothing else, from templates that stand beside this module."""

from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined

from ..evaluation.summary import percent
from ..texts import printable


def render_page(template: str, **context: Any) -> bytes:
    """The page that a template makes of what it is given, as UTF-8. All that is put in is escaped, what control
    characters names have too.
    """
    environment = Environment(
        loader=FunctionLoader(_source),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_printable,
    )
    environment.filters["percent"] = percent
    return environment.get_template(template).render(**context).encode()


def _source(name: str) -> str:
    """A template, or the style or the script that all of them share."""
    return files(__package__).joinpath(name).read_text("utf-8")


def _printable(value: Any) -> Any:
    return printable(str(value)) if type(value) is str or isinstance(value, Path) else value
