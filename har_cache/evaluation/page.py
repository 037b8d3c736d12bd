"""Pieces of an HTML page: every text is escaped here, every picture becomes part of the page."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from .summary import percent

_VOID = {"img"}


class Html(str):
    """Text that is HTML already; any other string is escaped by `html`."""


def html(value: Any) -> Html:
    """`value` as HTML text."""
    return value if isinstance(value, Html) else Html(escape(str(value)))


def element(name: str, *content: Any, **attributes: Any) -> Html:
    """`<name attributes>content</name>`; attributes of value None are left out, `class_` stands for `class`."""
    given = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items() if value is not None}
    opening = " ".join([name, *(f'{key}="{escape(str(value))}"' for key, value in given.items())])
    return Html(f"<{opening}>" if name in _VOID else f"<{opening}>{''.join(map(html, content))}</{name}>")


def card(title: str, *content: Any, note: str = "") -> Html:
    """A section with a title and a note on how to read it."""
    about = [element("p", note, class_="soft small")] if note else []
    return element("section", element("h2", title), *about, *content, class_="card")


def picture(path: Path, alt: str, max_width: int | None = None) -> Html:
    """A PNG as part of the page, as wide as there is room; a button shows it in full size."""
    data = base64.b64encode(path.read_bytes()).decode()
    style = f"max-width:{max_width}px" if max_width else None
    image = element("img", src=f"data:image/png;base64,{data}", alt=alt, style=style)
    # What scrolls has to be reached by keyboard.
    frame = element("div", image, class_="picture", tabindex=0, role="group", aria_label=alt)
    return element("figure", frame, element("button", "Full size", type="button", class_="zoom", aria_pressed="false"))


def bar(share: float | None, interval: Sequence[float] | None = None, other: bool = False) -> Html:
    """A bar of length `share` of 1, with a line for the interval."""
    fill = f'<i style="width:{100 * (share or 0):.1f}%"></i>'
    if interval:
        low, high = interval
        fill += f'<b style="left:{100 * low:.1f}%;width:{max(100 * (high - low), 0.5):.1f}%"></b>'
    return Html(f'<span class="bar{" other" if other else ""}" aria-hidden="true">{fill}</span>')


def bars(rows: Iterable[tuple[str, float | None, Sequence[float] | None, bool]]) -> Html:
    """Labelled bars, one below the other: label, share, interval, and whether it is there for comparison only."""
    lines = [
        element(
            "div",
            element("span", label),
            bar(share, interval, other),
            element("span", percent(share), class_="value"),
        )
        for label, share, interval, other in rows
    ]
    return element("div", *lines, class_="bars")


def table(caption: str, columns: Mapping[str, str], rows: Iterable[Mapping[str, Any]], tall: bool = False) -> Html:
    """A sortable table. `columns`: key -> title, the first names its row; a float is shown as percent with a bar."""
    rows = list(rows)
    texts = {key for key in columns if any(isinstance(row[key], str) for row in rows)}
    kind = {key: "text" if key in texts else None for key in columns}
    head = [element("th", title, scope="col", class_=kind[key]) for key, title in columns.items()]
    body = [element("tr", *(_cell(row[key], key, columns, kind[key]) for key in columns)) for row in rows]
    content = element(
        "table",
        element("caption", caption),
        element("thead", element("tr", *head)),
        element("tbody", *body),
        class_="sortable",
    )
    return element(
        "div", content, class_="scroll tall" if tall else "scroll", tabindex=0, role="region", aria_label=caption
    )


def definitions(facts: Mapping[str, Any]) -> Html:
    """Names and what they stand for."""
    return element(
        "dl", *(piece for key, value in facts.items() for piece in (element("dt", key), element("dd", value)))
    )


def _cell(value: Any, key: str, columns: Mapping[str, str], kind: str | None) -> Html:
    if key == next(iter(columns)):
        return element("th", value, scope="row")
    if isinstance(value, float):
        return element("td", bar(value), element("span", percent(value), class_="share"), data_value=f"{value:.6f}")
    if value is None:
        return element("td", "-", data_value="")
    return element("td", f"{value:,}" if isinstance(value, int) else value, data_value=value, class_=kind)
