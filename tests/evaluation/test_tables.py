import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from har_cache.errors import FileError
from har_cache.evaluation.tables import (
    PREDICTIONS_HEADER,
    ClipPrediction,
    join_names,
    predictions_table,
    probability_column,
    read_predictions,
    read_rows,
    split_names,
)
from har_cache.storage.files import to_csv, write_file

WRONG = ClipPrediction("a/film_a_0.avi", "a", "b", 0.5, "b|a", "clean", 30)
RIGHT = ClipPrediction("b/film_b_0.avi", "b", "b", 0.123456789, "b|a", "seen", 9)


def test_predictions_come_back_with_six_decimals(tmp_path: Path) -> None:
    write_file(tmp_path / "predictions.csv", to_csv(PREDICTIONS_HEADER, [WRONG.row(), RIGHT.row()]))
    wrong, right = read_predictions(tmp_path)
    assert wrong == WRONG
    assert (right.probability, right.frames) == (0.123457, 9)
    assert [prediction.correct for prediction in (wrong, right)] == [False, True]


def test_sources_stand_there_where_names_do_not_tell_them(tmp_path: Path) -> None:
    found = [WRONG, dataclasses.replace(RIGHT, source="b/park", probability=0.5)]
    write_file(tmp_path / "predictions.csv", predictions_table(found))
    wrong, right = read_predictions(tmp_path)
    assert (wrong.source, wrong.film, right.source, right.film) == ("a/film", "film", "b/park", "park")
    assert predictions_table([WRONG, RIGHT]) == to_csv(PREDICTIONS_HEADER, [WRONG.row(), RIGHT.row()])


def test_what_is_not_known_comes_back_so(tmp_path: Path) -> None:
    unknown = dataclasses.replace(WRONG, probability=None, top5="", frames=None)
    write_file(tmp_path / "predictions.csv", predictions_table([unknown]))
    assert read_predictions(tmp_path) == [unknown]


@pytest.mark.parametrize("name", ["key", "frames", "confidence", "p:walk", "walk"])
def test_columns_of_probabilities_are_told_from_the_others(name: str) -> None:
    column = probability_column(name)
    assert (column == name) == (name == "walk") and column.removeprefix("p:") == name


def test_one_film_in_two_classes_is_one() -> None:
    assert WRONG.film == RIGHT.film == "film"


def test_the_columns_are_those_of_before() -> None:
    assert PREDICTIONS_HEADER == ("key", "true", "predicted", "probability", "top5", "subset", "frames")


@pytest.mark.parametrize("content", ["", "a,b\n", "class,recall\nx\n", "class,recall\nx,all\n"])
def test_a_damaged_table_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "table.csv"
    path.write_text(content)
    with pytest.raises(FileError, match=r"table\.csv: damaged"):
        read_rows(path, ("class", "recall"))


def test_a_figure_that_is_not_there_is_none(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("class,recall\nx,\ny,0.5\n")
    rows = read_rows(tmp_path / "table.csv", ("class", "recall"))
    assert rows == [{"class": "x", "recall": None}, {"class": "y", "recall": 0.5}]


@given(st.lists(st.text("ab|\\\n", min_size=1) | st.text(min_size=1), min_size=1, max_size=5))
def test_names_of_any_kind_can_be_told_apart_again(names: list[str]) -> None:
    assert split_names(join_names(names)) == names


def test_names_without_bars_are_joined_as_before() -> None:
    assert join_names(["sit", "stand up"]) == "sit|stand up" and join_names(["a|b\\", "c"]) == "a\\|b\\\\|c"
