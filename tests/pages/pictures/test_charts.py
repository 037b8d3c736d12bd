import math

import pytest

from har_cache.pages.pictures.charts import curves, reliability_diagram
from har_cache.statistics.calibration import Bin


def rows(losses: list[float]) -> list[dict[str, float]]:
    """Epochs with these validation losses."""
    same = {"train_loss": 1.0, "train_accuracy": 0.5, "val_accuracy": 0.25}
    return [{**same, "epoch": i, "val_loss": loss} for i, loss in enumerate(losses, 1)]


def test_lines_go_from_the_first_epoch_to_the_last() -> None:
    loss, accuracy = curves(rows([3.0, 1.0, 2.0]), best=2)
    (part,) = loss.lines[1].parts
    points = [tuple(map(float, point.split(","))) for point in part.split()]
    assert [x for x, _ in points] == [0, 50, 100]
    assert points[0][1] < points[2][1] < points[1][1]  # from the top: the highest loss is the first
    assert accuracy.lines[0].parts == ("0,50 50,50 100,50",)
    (dot,) = loss.dots
    assert dot.x == 50 and dot.y == pytest.approx(100 - points[1][1])
    assert loss.said == "Loss (nats) by epoch: training ends at 1, validation ends at 2"


@pytest.mark.parametrize("gap", [math.nan, math.inf, -math.inf, 1e300])
def test_what_is_no_number_is_a_gap(gap: float) -> None:
    loss, _ = curves(rows([3.0, gap, 2.0]), best=2)
    assert [len(part.split()) for part in loss.lines[1].parts] == [1, 1]
    assert loss.dots == ()
    places = [
        place for line in loss.lines for part in line.parts for point in part.split() for place in point.split(",")
    ]
    assert all(0 <= float(place) <= 100 for place in places)


@pytest.mark.parametrize("losses", [[2.0], [2.0, 2.0], [0.0, 1e-9], [math.nan], [1e-300, 5e8]])
def test_every_range_has_an_axis(losses: list[float]) -> None:
    for chart in curves(rows(losses), best=1):
        assert chart.y and all(0 <= tick.place <= 100 for tick in (*chart.x, *chart.y))
        assert len({tick.label for tick in chart.y}) == len(chart.y) <= 10


def test_without_epochs_there_is_no_chart() -> None:
    assert curves([], best=0) == ()


def test_bins_are_where_probability_and_accuracy_put_them() -> None:
    chart = reliability_diagram([Bin(0.2, 0.4, 4, 0.3, 0.5), Bin(0.8, 1.0, 16, 0.9, 0.75)])
    few, many = chart.dots
    assert (few.x, few.y, many.x, many.y) == (30, 50, 90, 75)
    assert few.size < many.size
    assert "probability 90%: 75% of 16 clips right" in chart.said
