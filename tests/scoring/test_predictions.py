import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from har_cache.errors import HarCacheError

from .conftest import Scored, right_rows, write_table

ROWS = right_rows()
FIRST, SECOND = ROWS[0][0], ROWS[1][0]
CLASSES = ["act0", "act1", "act2"]


def changed(values: list[list[Any]], row: int, column: int, value: Any) -> list[list[Any]]:
    return [
        [value if (i, j) == (row, column) else cell for j, cell in enumerate(line)] for i, line in enumerate(values)
    ]


def with_column(value: Any) -> list[list[Any]]:
    return [[*row, value] for row in ROWS]


PROBABLE = [[*row, *(0.6 if name == row[1] else 0.2 for name in CLASSES)] for row in ROWS]


@pytest.mark.parametrize(
    ("header", "rows", "message"),
    [
        (["key"], [[FIRST]], "line 1: no column predicted"),
        (["key", "predicted", "key"], with_column("x"), "line 1: column key is there twice"),
        (
            ["key", "predicted", "score"],
            with_column(1),
            "line 1: unknown column 'score'; expected some of key, predicted",
        ),
        (["key", "predicted"], [], "holds no prediction"),
        (["key", "predicted"], [*ROWS[:2], ["act0/none.avi", "act0"]], "line 4: 'act0/none.avi' is no clip of"),
        (["key", "predicted"], [*ROWS, ROWS[0]], f"line 14: {FIRST} is there twice; line 2 has it too"),
        (["key", "predicted"], changed(ROWS, 1, 1, "act9"), "line 3: predicted is 'act9', no class of"),
        (["key", "predicted"], [*ROWS, [SECOND]], "line 14: 1 values below 2 columns"),
        (["key", "predicted", "true"], with_column("act1"), f"line 2: true is 'act1', but {FIRST} is of class act0"),
        (["key", "predicted", "confidence"], with_column(1.5), "line 2: confidence is '1.5': expected a probability"),
        (["key", "predicted", "confidence"], with_column("nan"), "line 2: confidence is 'nan': expected a probability"),
        (["key", "predicted", "confidence"], changed(with_column(1), 3, 2, ""), "line 5: confidence is '': expected"),
        (["key", "predicted", "confidence", "probability"], [[*row, 1, 1] for row in ROWS], "are the same thing"),
        (["key", "predicted", "top5"], with_column("act0|act1"), "line 2: top5 is .* expected 3 classes"),
        (["key", "predicted", "top5"], with_column("act1|act0|act2"), "line 2: top5 begins with 'act1', but predicted"),
        (["key", "predicted", "act0"], with_column(1), "line 1: no column act1: expected one for each class"),
        (["key", "predicted", *CLASSES], changed(PROBABLE, 2, 3, 0.9), "line 4: the probabilities .* are 1.7 together"),
        (["key", "predicted", *CLASSES], changed(PROBABLE, 0, 1, "act2"), "line 2: predicted is 'act2', but another"),
        (["key", "predicted", *CLASSES], changed(PROBABLE, 0, 2, -3), "line 2: act0 is '-3': expected a probability"),
    ],
)
def test_what_makes_no_sense_is_one_line(
    scored: Scored, tmp_path: Path, header: list[str], rows: list[list[Any]], message: str
) -> None:
    with pytest.raises(HarCacheError, match=message) as caught:
        scored(header, rows, split=1)
    assert str(caught.value).startswith(str(tmp_path / "predictions.csv")) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([["act0/none.avi", "train"]], "line 2: 'act0/none.avi' is no clip of"),
        ([[FIRST, "train"], [FIRST, "val"]], f"line 3: {FIRST} is there twice; line 2 has it too"),
        ([[FIRST, "test"]], "line 2: subset is 'test': expected train, val or fold and its number"),
        ([[FIRST, "fold"]], "line 2: subset is 'fold'"),
    ],
)
def test_what_makes_no_sense_of_training_clips_is_one_line(
    scored: Scored, tmp_path: Path, rows: list[list[str]], message: str
) -> None:
    table = write_table(tmp_path / "t.csv", ["key", "subset"], rows)
    with pytest.raises(HarCacheError, match=re.escape(str(table)) + ", " + message):
        scored(["key", "predicted"], ROWS, trained_on=table)


def test_a_model_that_learnt_from_nothing_of_it_knows_nothing(scored: Scored, tmp_path: Path) -> None:
    table = write_table(tmp_path / "t.csv", ["key"], [])
    found = scored(["key", "predicted"], ROWS, trained_on=table).metrics
    assert (found.train_clips, found.leakage.leaks, found.top1) == (0, False, 1.0)


def test_clips_may_be_called_by_a_path_or_by_a_name_that_one_alone_has(scored: Scored) -> None:
    rows = [
        [f"/data/videos/{key}" if i % 2 else f"frames/{key.partition('/')[2]}", name]
        for i, (key, name) in enumerate(ROWS)
    ]
    assert scored(["key", "predicted"], rows).predictions == scored(["key", "predicted"], ROWS).predictions
    wrong = [["act1/" + FIRST.partition("/")[2], "act0"], *ROWS[1:]]
    with pytest.raises(HarCacheError, match=r"line 2: 'act1/.*' is no clip of"):
        scored(["key", "predicted"], wrong)


def test_what_is_given_decides_on_the_figures_that_there_are(scored: Scored) -> None:
    def found(header: list[str], rows: list[list[Any]]) -> list[float | None]:
        metrics = scored(["key", "predicted", *header], rows, split=1).metrics
        assert metrics.top1 == 1
        return [metrics.loss, metrics.calibration_error, metrics.top5]

    assert found([], ROWS) == [None, None, None]
    assert found(["confidence"], with_column(0.75)) == [None, pytest.approx(0.25), None]
    assert found(CLASSES, PROBABLE) == [pytest.approx(-np.log(0.6)), pytest.approx(0.4), None]


def test_of_equal_probabilities_the_predicted_class_is_the_answer(scored: Scored) -> None:
    even = [[key, "act1", 0.4, 0.4, 0.2] for key, _ in ROWS]
    found = scored(["key", "predicted", *CLASSES], even)
    assert {p.predicted for p in found.predictions} == {"act1"}
    assert {p.top5 for p in found.predictions} == {"act1|act0|act2"} and found.predictions[0].probability == 0.4


def test_a_table_of_a_spreadsheet_may_begin_with_a_mark(scored: Scored, tmp_path: Path) -> None:
    table = tmp_path / "marked.csv"
    table.write_text("\ufeffkey,predicted\n\n" + "".join(f"{key},{name}\n" for key, name in ROWS), "utf-8")
    assert scored(["key"], [], predictions=table).metrics.top1 == 1
