"""Pictures of a run: its training curves and its confusion matrix, as PNG files that survive a grey-scale print."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap, PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, MultipleLocator

from .errors import FileError
from .storage.files import read_csv, write_file
from .texts import printable

_COLUMNS = ("epoch", "train_loss", "train_accuracy", "val_loss", "val_accuracy")
_DPI = 150
_INK, _FAINT = "#222222", "#d9d9d9"
# Apart in lightness as well as in hue, and in their dashes.
_STYLES: dict[str, dict[str, Any]] = {
    "train": {"color": "#d98200", "linestyle": (0, (4, 1.5)), "label": "training"},
    "val": {"color": "#0b4f8a", "linestyle": "-", "label": "validation"},
}
_SHARES = LinearSegmentedColormap.from_list("shares", ["#ffffff", "#b9d3ea", "#4a8fc7", "#0b4f8a", "#04203d"])
_CELL_IN = {"few": 0.55, "many": 0.235}  # inches; below and above _FEW classes
_FEW = 20


def plot_curves(metrics_csv: Path, out: Path, best: int) -> None:
    """Draw loss and accuracy per epoch, training and validation, from `metrics.csv` to the PNG `out`.

    The epoch `best` is marked, if it is among them. Empty cells are gaps. Raises FileError where the table is damaged,
    or the picture cannot be written.
    """
    columns = _columns(metrics_csv)
    figure = Figure(figsize=(10.5, 4.2), layout="constrained")
    loss, accuracy = figure.subplots(1, 2)
    _draw(loss, columns, "loss", 1.0)
    _draw(accuracy, columns, "accuracy", 100.0)
    loss.set(title="Loss", ylabel="cross-entropy (nats)")
    accuracy.set(title="Accuracy", ylabel="top-1 (% of clips)", ylim=(0, 102))
    _show_best(loss, accuracy, columns, best)
    figure.legend(*accuracy.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    _save(figure, out)


def plot_confusion(matrix: np.ndarray, classes: Sequence[str], out: Path, title: str = "") -> None:
    """Draw a confusion matrix, int (classes, classes) with true classes as rows, to the PNG `out`.

    Each row is shown as shares of its clips, in percent, on a scale that lets rare confusions be seen; numbers stand
    in the cells that matter. Raises FileError where the picture cannot be written.
    """
    clips = matrix.sum(1)
    shares = 100 * matrix / np.maximum(clips, 1)[:, None]
    few = len(classes) <= _FEW
    side = max(2.2, len(classes) * _CELL_IN["few" if few else "many"])
    longest = max(map(len, classes))
    margin = 0.6 + longest * (0.09 if few else 0.075)
    figure = Figure(figsize=(side + margin + 1.1, side + margin + 0.5), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap=_SHARES, norm=PowerNorm(0.5, 0, 100), interpolation="nearest")
    _label_classes(axes, classes, clips, 9 if few else 8.5)
    _write_shares(axes, shares, 8.5 if few else 6.2, 0.5 if few else 4.5)
    axes.set_title(title or "Confusion matrix", fontsize=12, color=_INK, loc="left", parse_math=False)
    bar = figure.colorbar(image, ax=axes, fraction=0.035, pad=0.015, ticks=[0, 1, 5, 10, 25, 50, 75, 100])
    bar.set_label("% of the true class's clips", color=_INK)
    bar.outline.set_visible(False)
    _save(figure, out)


def _columns(metrics_csv: Path) -> dict[str, list[float]]:
    header, *rows = read_csv(metrics_csv) or [[]]
    try:
        columns = [header.index(name) for name in _COLUMNS]
        return {header[i]: [float(row[i] or "nan") for row in rows] for i in columns}
    except (ValueError, IndexError) as error:
        raise FileError(f"{metrics_csv}: damaged ({error})") from error


def _draw(axes: Axes, columns: dict[str, list[float]], what: str, scale: float) -> None:
    marker = "o" if len(columns["epoch"]) < 3 else ""
    for subset, style in _STYLES.items():
        values = [scale * value for value in columns[f"{subset}_{what}"]]
        axes.plot(columns["epoch"], values, linewidth=1.8, marker=marker, markersize=4, **style)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(color=_FAINT, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#888888")
    axes.tick_params(colors=_INK)


def _show_best(loss: Axes, accuracy: Axes, columns: dict[str, list[float]], epoch: int) -> None:
    if epoch not in columns["epoch"]:
        return
    row = columns["epoch"].index(epoch)
    value = 100 * columns["val_accuracy"][row]
    label = f"best epoch {epoch}: {value:.1f}%"
    for axes, height in ((loss, columns["val_loss"][row]), (accuracy, value)):
        axes.axvline(epoch, color="#888888", linewidth=1, linestyle=":")
        axes.plot(epoch, height, "D", color="#111111", markersize=6.5, markeredgecolor="white", zorder=5, label=label)


def _label_classes(axes: Axes, classes: Sequence[str], clips: np.ndarray, size: float) -> None:
    places = range(len(classes))
    names = list(map(printable, classes))
    as_they_are: Any = {"fontsize": size, "color": _INK, "parse_math": False}  # a `$` in a name is no formula
    axes.set_xticks(places, names, rotation=90, **as_they_are)
    axes.set_yticks(places, [f"{name} ({n})" for name, n in zip(names, clips, strict=True)], **as_they_are)
    axes.set_xlabel("predicted class", color=_INK)
    axes.set_ylabel("true class (clips)", color=_INK)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_locator(MultipleLocator(1, offset=0.5))
    axes.grid(which="minor", color="#ececec", linewidth=0.5)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_color(_FAINT)


def _write_shares(axes: Axes, shares: np.ndarray, size: float, least: float) -> None:
    for row, column in np.argwhere(shares >= least):
        share = shares[row, column]
        ink = "white" if share > 22 else _INK
        axes.text(column, row, f"{share:.0f}", ha="center", va="center", fontsize=size, color=ink)


def _save(figure: Figure, out: Path) -> None:
    image = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(image, format="png", dpi=_DPI, facecolor="white", bbox_inches="tight", metadata={"Software": None})
    write_file(out, image.getvalue())
