"""What a page offers to be copied: its figures as Markdown and as LaTeX, and what to cite, as BibTeX."""

from collections.abc import Sequence
from dataclasses import dataclass

from .. import system
from ..comparison.tables import Table, latex, markdown
from ..evaluation.results import Metrics
from ..evaluation.summary import percent
from ..texts import printable

_HEADER = ("model", "test list", "clips", "top-1", "95% interval", "top-5", "macro F1", "chance", "notes")
_TOOL = """@software{{har_cache,
  author = {{{{The har-cache developers}}}},
  title = {{har-cache: an offline feature cache for human action recognition in video}},
  version = {{{version}}}
}}"""
_HMDB51 = """@inproceedings{kuehne2011hmdb,
  title = {{HMDB}: a large video database for human motion recognition},
  author = {Kuehne, H. and Jhuang, H. and Garrote, E. and Poggio, T. and Serre, T.},
  booktitle = {International Conference on Computer Vision},
  year = {2011}
}"""


@dataclass(frozen=True)
class Copy:
    """A text to be copied, and what it is."""

    title: str
    text: str

    @property
    def lines(self) -> list[str]:
        """The text line by line."""
        return self.text.split("\n")


def figures_to_copy(title: str, named: Sequence[tuple[str, Metrics]], warnings: Sequence[str]) -> tuple[Copy, ...]:
    """The figures of models by name, in both forms; a figure that is no test accuracy says so in its row."""
    rows = tuple(_row(printable(name), metrics) for name, metrics in named)
    table = Table(printable(title), _HEADER, rows, tuple(map(printable, warnings)))
    return Copy("Markdown", markdown(table)), Copy("LaTeX", latex(table))


def to_cite(hmdb51: bool) -> Copy:
    """The tool, and the data set where it is HMDB51."""
    version = system.versions(("har-cache",)).get("har-cache", "")
    return Copy("BibTeX", "\n\n".join([_TOOL.format(version=version)] + ([_HMDB51] if hmdb51 else [])))


def _row(name: str, metrics: Metrics) -> tuple[str, ...]:
    clean = metrics.leakage.clean
    interval = "-" if metrics.interval is None else " to ".join(f"{100 * end:.1f}" for end in metrics.interval)
    note = f"no test accuracy: leaks; clean clips {percent(clean.top1)}" if metrics.leakage.leaks else ""
    return (
        name,
        f"split {metrics.split}",
        f"{metrics.clips:,}",
        f"({percent(metrics.top1)})" if metrics.leakage.leaks else percent(metrics.top1),
        interval,
        percent(metrics.top5) if metrics.has_top5 else "-",
        percent(metrics.macro_f1),
        percent(metrics.chance),
        note,
    )
