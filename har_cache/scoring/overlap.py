"""How much of each test list a model knows that learnt from the training list of each split."""

from dataclasses import dataclass

from ..comparison.tables import Table
from ..data.keys import FILES, class_of
from ..data.leakage import CLEAN, SEEN, SIBLING, groups, in_other_class
from ..evaluation.summary import GROUP_WORDS, percent
from ..settings.evaluation import LeakageSettings
from .data_set import DataSet, read_data_set

SCHEMA = "har-leakage/1"


@dataclass(frozen=True)
class Cell:
    """A training list, and the clips of a test list: seen, siblings and clean ones are together all; `other_class`: of
    the clean ones, those of a film that is known from another class.
    """

    trained_on: int
    tested_on: int
    train_clips: int
    clips: int
    seen: int
    sibling: int
    clean: int
    other_class: int


@dataclass(frozen=True)
class Overlap:
    """All splits of a data set, each with each. `clips`: that it holds, or that its lists name; `absent`: how many of
    them it does not hold; they are counted as the others are.
    """

    schema: str
    data: str
    classes: int
    clips: int
    absent: int
    splits: tuple[int, ...]
    splits_from: str
    sources_from: str
    cells: tuple[Cell, ...]

    def on(self, trained_on: int) -> list[Cell]:
        """What a model of this split knows of each test list."""
        return [cell for cell in self.cells if cell.trained_on == trained_on]


def overlap(settings: LeakageSettings) -> Overlap:
    """Count the overlap of all splits, each with each. Raises HarCacheError where the data set or the cache cannot be
    read, or has no splits.
    """
    settings.check()
    data_set = read_data_set(settings)
    return Overlap(
        schema=SCHEMA,
        data=data_set.name,
        classes=len(set(map(class_of, data_set.sources))),
        clips=len(data_set.sources),
        absent=sum(key in data_set.sources for key in data_set.absent),
        splits=data_set.splits,
        splits_from=data_set.splits_from,
        sources_from=data_set.sources_from,
        cells=tuple(_cell(data_set, i, j) for i in data_set.splits for j in data_set.splits),
    )


def table(found: Overlap) -> Table:
    """For people."""
    lists = "the data set's split lists" if found.splits_from == "lists" else "splits drawn by source"
    notes = []
    if found.absent:
        notes.append(f"{found.absent:,} of the clips that lists name are not there, and are counted all the same.")
    if found.sources_from == FILES:
        notes.append("Each file is taken for a source of its own: say with --source-pattern what a clip is of.")
    return Table(
        title=f"What a model knows of each test list; {found.clips:,} clips of {found.classes} classes, {lists}",
        header=("trained on", *(f"test list {split}" for split in found.splits), "clips"),
        rows=tuple(row for split in found.splits for row in _rows(found.on(split), split)),
        notes=tuple(notes),
    )


def _cell(data_set: DataSet, trained_on: int, tested_on: int) -> Cell:
    trained, tested = data_set.trained(trained_on), data_set.tested(tested_on)
    found = groups(trained, tested)
    return Cell(
        trained_on=trained_on,
        tested_on=tested_on,
        train_clips=len(trained),
        clips=len(tested),
        seen=found.count(SEEN),
        sibling=found.count(SIBLING),
        clean=found.count(CLEAN),
        other_class=sum(in_other_class(trained, tested)),
    )


def _rows(cells: list[Cell], split: int) -> list[tuple[str, ...]]:
    by_group = [(cell.seen, cell.sibling, cell.clean, cell.other_class) for cell in cells]
    lines = zip(GROUP_WORDS.items(), zip(*by_group, strict=True), strict=True)
    return [
        (f"split {split}", *(f"{cell.clips:,}" for cell in cells), "all"),
        *(("", *map(_of, counts, cells), f"{group}: {meaning}") for (group, meaning), counts in lines),
    ]


def _of(count: int, cell: Cell) -> str:
    return f"{count:,} ({percent(count / cell.clips)})" if cell.clips and count else f"{count:,}"
