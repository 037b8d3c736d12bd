import pytest
from hypothesis import given
from hypothesis import strategies as st

from har_cache.comparison.tables import text
from har_cache.reproduction.expected import FINE_TUNED, FROZEN, HEADLINE, Expected, Figure, table


def test_the_ranges_are_those_that_were_written_down() -> None:
    assert [str(each) for each in (FROZEN, FINE_TUNED, HEADLINE)] == ["36 to 42", "39 to 46", "80 to 93"]


@pytest.mark.parametrize(
    ("percent", "verdict"),
    [(35.94, "below"), (35.96, "inside"), (36, "inside"), (42.04, "inside"), (42.06, "above"), (92.6, "above")],
)
def test_a_figure_is_judged_as_it_is_shown(percent: float, verdict: str) -> None:
    assert FROZEN.verdict(percent) == verdict


@given(st.lists(st.none() | st.floats(0, 1), min_size=3, max_size=3))
def test_every_figure_has_a_verdict_and_nothing_else_has(values: list[float | None]) -> None:
    figure = Figure("what", tuple(values), Expected(20, 60))
    assert [verdict is None for verdict in figure.verdicts[:3]] == [value is None for value in values]
    assert (figure.mean is None) == (None in values) == (figure.verdicts[3] is None)
    assert not any(Figure("what", tuple(values)).verdicts)
    if figure.mean is not None:
        assert min(v for v in values if v is not None) <= figure.mean + 1e-9


def test_the_table_marks_what_is_outside() -> None:
    figures = [
        Figure("frozen", (0.40, 0.43, 0.35), FROZEN),
        Figure("tuned", (0.4, 0.4, 0.4), FINE_TUNED),
        Figure("leaked", (None, None, 0.5), HEADLINE),
        Figure("linear", (0.1, 0.2, 0.3)),
    ]
    shown = text(table(figures, "title", ["note"])).splitlines()
    cells = [line.split("  ") for line in shown[3:7]]
    found = [[cell.strip() for cell in row if cell.strip()] for row in cells]
    assert found == [
        ["frozen", "40.0", "43.0 >", "35.0 <", "39.3", "36 to 42", "2 of 4 inside"],
        ["tuned", "40.0", "40.0", "40.0", "40.0", "39 to 46", "inside"],
        ["leaked", "-", "-", "50.0 <", "-", "80 to 93", "below"],
        ["linear", "10.0", "20.0", "30.0", "20.0", "-", "-"],
    ]
    assert shown[-1] == "note"
