import pytest
from hypothesis import given
from hypothesis import strategies as st

from har_cache.comparison.tables import Table, render

TABLE = Table(
    "Runs", ("run", "top-1", "verdict"), (("a_b", "93.8%", "reference"), ("c", "-1", "x | y")), ("As it *is*",)
)


def test_as_text() -> None:
    assert render([TABLE], "text").splitlines() == [
        "Runs",
        "",
        "run  top-1  verdict",
        "a_b  93.8%  reference",
        "c       -1  x | y",
        "",
        "As it *is*",
    ]


def test_as_markdown() -> None:
    assert render([TABLE], "markdown").splitlines() == [
        "Runs",
        "",
        "| run | top-1 | verdict |",
        "| --- | ---: | --- |",
        "| a\\_b | 93.8% | reference |",
        "| c | -1 | x \\| y |",
        "",
        "As it \\*is\\*",
    ]


def test_as_latex() -> None:
    assert render([TABLE], "latex").splitlines() == [
        "% Runs",
        r"\begin{tabular}{lrl}",
        r"\hline",
        r"run & top-1 & verdict \\",
        r"\hline",
        r"a\_b & 93.8\% & reference \\",
        r"c & -1 & x | y \\",
        r"\hline",
        r"\end{tabular}",
        "% As it *is*",
    ]


def test_several_are_apart() -> None:
    assert render([TABLE, TABLE], "text").count("\n\nRuns\n") == 1


@given(st.text(st.characters(codec="ascii", exclude_categories=("Cc",)), max_size=20))
def test_no_name_breaks_a_row(name: str) -> None:
    table = Table("", ("run", "top-1", "verdict"), ((name, "1", "v"),))
    row = render([table], "markdown").splitlines()[4]
    assert row.replace("\\\\", "").replace("\\|", "").count("|") == 4
    line = render([table], "latex").splitlines()[5]
    bare = line.removesuffix(r" \\")
    for made in (r"\textbackslash{}", r"\textasciitilde{}", r"\textasciicircum{}", *(f"\\{c}" for c in "&%$#_{}")):
        bare = bare.replace(made, "")
    assert bare.count("&") == 2
    assert not set(bare) & set("\\%$#_{}~^")


def test_unknown_formats_are_no_silent_text() -> None:
    with pytest.raises(KeyError):
        render([TABLE], "html")
