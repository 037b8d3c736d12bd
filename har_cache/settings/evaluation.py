"""Settings of what judges: evaluations, comparisons, predictions."""

from dataclasses import dataclass
from pathlib import Path

from ..errors import SettingError
from ..options import REQUIRED, Settings, option
from .common import device_option, stall_option, table_format_option, workers_option
from .names import MOST_SPLITS


@dataclass(frozen=True, kw_only=True)
class EvaluateSettings(Settings):
    """Settings of an evaluation."""

    run: Path = option(REQUIRED, "Run directory of train-head or finetune.", argument=True)
    split: int | None = option(None, "Split to test on; default: the run's own.", least=1, most=MOST_SPLITS)
    cache: Path | None = option(None, "The run's cache, if it has moved; or one made with its own encoder.")
    data: Path | None = option(None, "A fine-tuned run's data set, if it has moved.")
    workers: int | None = workers_option("Processes that decode raw frames; default: one per core.")
    stall_s: float = stall_option()
    device: str = device_option()
    probabilities: bool = option(False, "Write probabilities.csv too, of every class, as `har-cache score` reads it.")


@dataclass(frozen=True, kw_only=True)
class KnownClips(Settings):
    """Of what needs no more than what a data set's clips are: a cache knows that too."""

    cache: Path | None = option(None, "Cache of the data set: it knows classes, splits and sources.")
    data: Path | None = option(None, "The data set, in place of a cache, as of `extract`.")
    lists: tuple[str, ...] = option((), "List of the clips, as of `extract`. Repeatable.", flag="list", metavar="FILE")
    splits: Path | None = option(None, "Folder of split lists, as of `extract`.")
    folds: int | None = option(None, "Without split lists: draw so many folds, as of `extract`.", least=2)
    source_pattern: str | None = option(
        None, "Regular expression for a clip's source, as of `extract`.", metavar="REGEX"
    )

    def _check_together(self) -> None:
        if bool(self.cache) == bool(self.data or self.lists):
            raise SettingError("--cache and --data (or --list) both say which clips there are: give one of them")
        if self.cache and (self.splits or self.folds or self.source_pattern):
            raise SettingError("--splits, --folds and --source-pattern go with --data: a cache has its own")


@dataclass(frozen=True, kw_only=True)
class ScoreSettings(KnownClips):
    """Settings of an evaluation of predictions, whoever made them."""

    predictions: Path = option(
        REQUIRED, "CSV: key, predicted and what else is known; see docs/scoring.md.", metavar="FILE"
    )
    trained_on: Path = option(REQUIRED, "CSV: key of each training clip; or a run's clips.csv.", metavar="FILE")
    split: int | None = option(None, "Split to test on; default: the one that is predicted.", least=1, most=MOST_SPLITS)
    out: Path | None = option(None, "Folder for metrics.json, tables, confusion.png and report.html.")


@dataclass(frozen=True, kw_only=True)
class LeakageSettings(KnownClips):
    """Settings of the overlap of splits."""

    format: str = table_format_option()


@dataclass(frozen=True, kw_only=True)
class CompareSettings(Settings):
    """Settings of a comparison."""

    runs: tuple[Path, ...] = option(
        REQUIRED, "Run directories, evaluated; the first is the reference.", argument=True, metavar="RUN..."
    )
    split: int | None = option(None, "Split to test on; default: the run's own.", least=1, most=MOST_SPLITS)
    out_of_fold: bool = option(False, "Compare runs of --folds on the training list, without any test.")
    format: str = table_format_option()
    page: Path | None = option(None, "Write a web page too, an .html file that needs nothing else.", metavar="FILE")

    def _check_together(self) -> None:
        if self.out_of_fold and self.split:
            raise SettingError("--split names a test list, --out-of-fold asks for none: give one of them")
        if self.out_of_fold and len(self.runs) < 2:
            raise SettingError("RUN...: expected two or more to be compared out of fold")


@dataclass(frozen=True, kw_only=True)
class AblateSettings(Settings):
    """Settings of ablations without training."""

    run: Path = option(REQUIRED, "Run directory of train-head or finetune.", argument=True)
    split: int | None = option(None, "Split to test on; default: the run's own.", least=1, most=MOST_SPLITS)
    cache: Path | None = option(None, "The run's cache, if it has moved; if fine-tuned, one of its own encoder.")
    device: str = device_option()
    format: str = table_format_option()


@dataclass(frozen=True, kw_only=True)
class PredictSettings(Settings):
    """Settings of a prediction."""

    run: Path = option(REQUIRED, "Run directory of train-head or finetune.", argument=True)
    videos: tuple[Path, ...] = option(REQUIRED, "Videos, or folders of them.", argument=True, metavar="VIDEO...")
    film: Path | None = option(
        None, "Write an annotated film, a .gif or .mp4.", flag="gif", aliases=("film",), metavar="FILE"
    )
    csv: Path | None = option(None, "Write a table, with a row per video, or per window of --every.", metavar="FILE")
    every: float | None = option(
        None, "Also predict each part of a video that is so long, by its timestamps.", above=0, metavar="SECONDS"
    )
    device: str = device_option("Where the head computes; auto: the CPU, where frames are embedded.")
    workers: int | None = workers_option()
    stall_s: float = stall_option()
