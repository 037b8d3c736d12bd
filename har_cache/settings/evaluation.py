"""Settings of what judges: evaluations, comparisons, predictions."""

from dataclasses import dataclass
from pathlib import Path

from ..errors import SettingError
from ..options import REQUIRED, Settings, option
from .common import device_option, stall_option, table_format_option, workers_option
from .names import FORMATS, MOST_SPLITS


@dataclass(frozen=True, kw_only=True)
class EvaluateSettings(Settings):
    """Settings of an evaluation."""

    run: Path = option(REQUIRED, "Run directory, as written by train-head or finetune.", argument=True)
    split: int | None = option(None, "Whose test list; default: its own split's.", least=1, most=MOST_SPLITS)
    cache: Path | None = option(None, "The run's cache, if it has moved; or one of its own.")
    data: Path | None = option(None, "A fine-tuned run's data set, if it has moved.")
    workers: int | None = workers_option("Processes that decode raw frames; default: one a core.")
    device: str = device_option()
    probabilities: bool = option(False, "Write probabilities.csv too: every class's, as `har-cache score` reads them.")


@dataclass(frozen=True, kw_only=True)
class KnownClips(Settings):
    """Of what needs no more than what a data set's clips are: a cache knows that too."""

    cache: Path | None = option(None, "A cache of the data set: it knows classes, splits and sources.")
    data: Path | None = option(None, "The data set, in place of a cache, as `har-cache extract` has it.")
    lists: tuple[str, ...] = option((), "As `har-cache extract` has it.", flag="list", metavar="FILE")
    splits: Path | None = option(None, "As `har-cache extract` has it.")
    folds: int | None = option(None, "As `har-cache extract` has it.", least=2)
    source_pattern: str | None = option(None, "As `har-cache extract` has it.", metavar="REGEX")

    def _check_together(self) -> None:
        if bool(self.cache) == bool(self.data or self.lists):
            raise SettingError("--cache and --data (or --list) both say which clips there are: give one of them")
        if self.cache and (self.splits or self.folds or self.source_pattern):
            raise SettingError("--splits, --folds and --source-pattern go with --data: a cache has its own")


@dataclass(frozen=True, kw_only=True)
class ScoreSettings(KnownClips):
    """Settings of an evaluation of predictions, whoever made them."""

    predictions: Path = option(REQUIRED, "CSV: key, predicted; and what else is known: see docs/scoring.md.")
    trained_on: Path = option(REQUIRED, "CSV of the clips that the model learnt from: key; or a run's clips.csv.")
    split: int | None = option(None, "Whose test list; default: the one that is predicted.", least=1, most=MOST_SPLITS)
    out: Path | None = option(None, "Directory for metrics.json, tables, confusion.png and report.html.")


@dataclass(frozen=True, kw_only=True)
class LeakageSettings(KnownClips):
    """Settings of the overlap of splits."""

    format: str = option("text", "What the table is printed as.", choices=FORMATS)


@dataclass(frozen=True, kw_only=True)
class CompareSettings(Settings):
    """Settings of a comparison."""

    runs: tuple[Path, ...] = option(
        REQUIRED, "Run directories, evaluated; the first is the reference.", argument=True, metavar="RUN..."
    )
    split: int | None = option(None, "Whose test list; default: its own split's.", least=1, most=MOST_SPLITS)
    out_of_fold: bool = option(False, "On the training list, by runs of --folds: to choose settings without a test.")
    format: str = table_format_option()
    page: Path | None = option(None, "Write a page too: an .html that needs nothing else.")

    def _check_together(self) -> None:
        if self.out_of_fold and self.split:
            raise SettingError("--split names a test list, --out-of-fold asks for none: give one of them")
        if self.out_of_fold and len(self.runs) < 2:
            raise SettingError("RUN...: expected two or more to be compared out of fold")


@dataclass(frozen=True, kw_only=True)
class AblateSettings(Settings):
    """Settings of ablations without training."""

    run: Path = option(REQUIRED, "Run directory, as written by train-head or finetune.", argument=True)
    split: int | None = option(None, "Whose test list; default: its own split's.", least=1, most=MOST_SPLITS)
    cache: Path | None = option(None, "The run's cache, if it has moved; of a fine-tuned run one of its own.")
    device: str = device_option()
    format: str = table_format_option()


@dataclass(frozen=True, kw_only=True)
class PredictSettings(Settings):
    """Settings of a prediction."""

    run: Path = option(REQUIRED, "Run directory, as written by train-head or finetune.", argument=True)
    videos: tuple[Path, ...] = option(REQUIRED, "Videos, or folders of them.", argument=True, metavar="VIDEO...")
    film: Path | None = option(None, "Write an annotated film of the videos: a .gif, or an .mp4.", flag="gif")
    device: str = device_option("Where the head computes; auto: the CPU, where frames are embedded.")
    workers: int | None = workers_option()
    stall_s: float = stall_option()
