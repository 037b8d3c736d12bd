"""A table for people: as text, Markdown or LaTeX."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..settings.names import FORMATS

_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}
_GAP = "  "


@dataclass(frozen=True)
class Table:
    """A table: the first column and the last hold words, those between them figures. All rows are as long as `header`.
    `notes`: what stands below.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


def text(table: Table) -> str:
    """In columns, for a terminal."""
    lines = [table.header, *table.rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    last = len(widths) - 1
    columns = [
        _GAP.join(
            cell if i == last else cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    return "\n".join([table.title, "", *columns, *([""] if table.notes else []), *table.notes])


def markdown(table: Table) -> str:
    """As GitHub shows it."""
    rule = ["---", *["---:"] * (len(table.header) - 2), "---"]
    rows = [_row(line) for line in (table.header, rule, *table.rows)]
    notes = [line for note in table.notes for line in ("", _escaped(note))]
    return "\n".join([_escaped(table.title), "", *rows, *notes])


def latex(table: Table) -> str:
    """A `tabular`, which needs no package; title and notes as comments."""
    columns = f"l{'r' * (len(table.header) - 2)}l"
    head, *rows = (f"{' & '.join(map(_for_latex, line))} \\\\" for line in (table.header, *table.rows))
    body = [f"\\begin{{tabular}}{{{columns}}}", r"\hline", head, r"\hline", *rows, r"\hline", r"\end{tabular}"]
    return "\n".join([f"% {table.title}", *body, *(f"% {note}" for note in table.notes)])


_RENDERED: dict[str, Callable[[Table], str]] = dict(zip(FORMATS, (text, markdown, latex), strict=True))


def render(tables: Sequence[Table], form: str) -> str:
    """All tables in one of settings.FORMATS, with an empty line between them."""
    return "\n\n".join(_RENDERED[form](table) for table in tables)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(_escaped(cell) for cell in cells)} |"


def _escaped(cell: str) -> str:
    return cell.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*").replace("_", "\\_")


def _for_latex(cell: str) -> str:
    return "".join(_LATEX.get(character, character) for character in cell)
