from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from har_cache.errors import FileError, HarCacheError
from har_cache.plots import plot_confusion, plot_curves

HEADER = "epoch,train_loss,train_accuracy,val_loss,val_accuracy,lr,seconds\n"


def _size(path: Path) -> tuple[int, int]:
    with Image.open(path) as picture:
        return picture.size


@pytest.mark.parametrize(
    "rows",
    [
        ["1,1.0,0.3,1.1,0.3,0.01,2"],
        ["1,1.0,0.3,,,0.01,2", "2,0.5,0.6,,,0.01,2"],
        ["1,1.0,0.3,nan,nan,0.01,2", "2,0.5,0.6,1,0.5,0.01,2"],
        [],
    ],
    ids=["one epoch", "no validation", "a gap", "nothing yet"],
)
def test_curves_of_any_length(tmp_path, rows):
    (tmp_path / "metrics.csv").write_text(HEADER + "\n".join(rows))
    plot_curves(tmp_path / "metrics.csv", tmp_path / "curves.png", best=1)
    width, height = _size(tmp_path / "curves.png")
    assert width > 2 * height > 800


def test_the_same_metrics_give_the_same_picture(tmp_path):
    (tmp_path / "metrics.csv").write_text(HEADER + "1,1,0.3,1,0.3,0.01,2\n2,0.5,0.6,1,0.5,0.01,2\n")
    for name in ("a.png", "b.png"):
        plot_curves(tmp_path / "metrics.csv", tmp_path / name, best=2)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_the_epoch_that_was_chosen_is_the_one_that_is_marked(tmp_path):
    (tmp_path / "metrics.csv").write_text(HEADER + "1,1,0.3,1,0.6,0.01,2\n2,0.5,0.6,0.8,0.5,0.01,2\n")
    pictures = []
    for best in (1, 2, 0):
        plot_curves(tmp_path / "metrics.csv", tmp_path / "curves.png", best)
        pictures.append((tmp_path / "curves.png").read_bytes())
    assert len(set(pictures)) == 3


@pytest.mark.parametrize(
    "content", ["", "epoch,seconds\n1,2\n", HEADER + "1,high,0.3,1,0.6,0.01,2\n", HEADER + "1,1\n"]
)
def test_a_table_that_is_damaged_is_named(tmp_path, content):
    path = tmp_path / "metrics.csv"
    path.write_text(content)
    with pytest.raises(FileError, match=r"metrics\.csv: damaged"):
        plot_curves(path, tmp_path / "curves.png", best=1)
    path.unlink()
    with pytest.raises(FileError, match=r"metrics\.csv: cannot be read"):
        plot_curves(path, tmp_path / "curves.png", best=1)


def test_a_confusion_matrix_grows_with_its_classes(tmp_path):
    names = [f"class_with_a_name_{i}" for i in range(51)]
    for count in (1, 2, 8, 51):
        matrix = np.full((count, count), 1) + 20 * np.eye(count, dtype=int)
        matrix[0] = 0  # a class without clips is an empty row
        plot_confusion(matrix, names[:count], tmp_path / f"{count}.png")
    # 51 rows that are about as high as a line of small print, at 150 dots an inch.
    assert _size(tmp_path / "51.png")[1] > 51 * 30
    assert _size(tmp_path / "2.png")[1] < _size(tmp_path / "8.png")[1] < _size(tmp_path / "51.png")[1]


def test_a_darker_cell_is_a_larger_share_in_grey_as_well(tmp_path):
    from har_cache.plots import _SHARES

    red, green, blue, _ = _SHARES(np.linspace(0, 1, 64)).T
    grey = 0.299 * red + 0.587 * green + 0.114 * blue
    assert (np.diff(grey) < 0).all()
    assert grey[0] - grey[-1] > 0.8


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(HarCacheError, match="nowhere"):
        plot_confusion(np.eye(2, dtype=int), "ab", tmp_path / "nowhere" / "c.png")


@pytest.mark.filterwarnings("error")
def test_names_of_any_kind_are_written_as_they_are_and_are_no_formulas(tmp_path):
    names = ["$\\formula$", "a\nb\r", "\x1b[31m"]
    plot_confusion(np.eye(3, dtype=int), names, tmp_path / "confusion.png", "$\\title$")
    assert _size(tmp_path / "confusion.png")[0] > 100
