"""Pages that need nothing else, from templates that stand beside the modules."""

from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from ..evaluation.summary import percent
from ..texts import printable


def render_page(package: str, template: str, **context: Any) -> bytes:
    """The page that a template of a package makes of what it is given, as UTF-8. All that is put in is escaped, what
    control characters names have too.
    """
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_printable
    )
    environment.filters["percent"] = percent
    return environment.from_string(files(package).joinpath(template).read_text("utf-8")).render(**context).encode()


def _printable(value: Any) -> Any:
    return printable(str(value)) if type(value) is str or isinstance(value, Path) else value
