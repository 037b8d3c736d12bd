"""Pages that need nothing else, from templates that stand beside the modules."""

from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined

from .summary import percent


def render_page(package: str, template: str, **context: Any) -> bytes:
    """The page that a template of a package makes of what it is given, as UTF-8. All that is put in is escaped."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["percent"] = percent
    return environment.from_string(files(package).joinpath(template).read_text("utf-8")).render(**context).encode()
