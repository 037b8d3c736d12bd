"""The files of a run and of its evaluations, as links from a page beside them."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from ..evaluation.results import METRICS as FIGURES
from ..evaluation.tables import CONFUSION, LINEAR, PER_CLASS, PREDICTIONS, PROBABILITIES
from ..model.config import CONFIG
from ..model.run import CLIPS, CURVES, METRICS, OUT_OF_FOLD, REPORT
from ..storage.history import HISTORY

_OF_RUN = {
    CONFIG: "all settings and versions",
    CLIPS: "which clips trained, and which validated",
    METRICS: "loss and accuracy by epoch",
    CURVES: "the same as a picture",
    OUT_OF_FOLD: "predictions for the training clips",
    HISTORY: "dates and machine",
}
_OF_EVALUATION = {
    FIGURES: "all figures",
    PREDICTIONS: "the prediction for each clip",
    PROBABILITIES: "the probabilities of all classes",
    PER_CLASS: "the figures of each class",
    LINEAR: "what the linear probes predict",
    CONFUSION: "the confusion matrix as a picture",
}


@dataclass(frozen=True)
class Link:
    """A file: its path as people read it, the address of it from the page, and what it holds."""

    name: str
    address: str
    what: str


def files_of_run(run: Path, page: Path) -> list[Link]:
    """Those that are there."""
    return list(_links(run, _OF_RUN, page))


def files_of_evaluation(folder: Path, page: Path) -> list[Link]:
    """Those that are there."""
    return list(_links(folder, _OF_EVALUATION, page))


def page_of_run(run: Path, page: Path) -> str | None:
    """The address of the run's own page, if it has one."""
    return _address(run / REPORT, page) if (run / REPORT).is_file() and run / REPORT != page else None


def _links(folder: Path, known: dict[str, str], page: Path) -> Iterator[Link]:
    for name, what in known.items():
        if (folder / name).is_file():
            yield Link(_from(folder / name, page), _address(folder / name, page), what)


def _from(path: Path, page: Path) -> str:
    return Path(os.path.relpath(path, page.parent)).as_posix()


def _address(path: Path, page: Path) -> str:
    return f"./{quote(os.fsencode(_from(path, page)))}"
