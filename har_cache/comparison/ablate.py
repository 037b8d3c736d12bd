"""What a run's accuracy rests on: the same model and clips, something taken away. Nothing is trained."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..cache.reader import FeatureCache
from ..data.keys import film_of
from ..data.leakage import CLEAN, groups
from ..devices import resolve_device
from ..errors import RunError
from ..model.config import FINETUNED
from ..model.ensemble import HeadEnsemble
from ..model.load import is_encoder_of, known_sources, listed_clips, load_run_encoder, open_cache
from ..model.run import EVALUATIONS, Run, find_runs
from ..progress import Progress
from ..settings.evaluation import AblateSettings
from ..statistics.calibration import calibration_error, fit_temperature, mean_loss, tempered
from ..statistics.intervals import Interval, mean_accuracy_interval
from ..storage.files import make_directory, to_json, write_file
from ..storage.parsing import to_json_types
from ..training.batches import Sequences
from .paired import ClipList, Difference, difference
from .variants import Variant, variants

SCHEMA = "har-ablation/1"
FILE = "ablation.json"


@dataclass(frozen=True)
class Calibration:
    """Whether the probabilities are as high as the accuracy is: loss (nats) and expected calibration error (a share of
    1) on the test clips, without a temperature and at one that was fitted on the run's validation clips, `val_clips`;
    of these, none is a test clip. A run of several folds has its temperature, of all that it learnt from, out of fold.
    """

    val_clips: int
    temperature: float
    loss: float
    loss_at_temperature: float
    error: float
    error_at_temperature: float


@dataclass(frozen=True)
class Ablation:
    """A run on a test list, as it is and with something taken away, each paired with the run as it is.

    `known`: clips that the run was trained or validated on, or whose source; `ways`: how many its probabilities are
    averaged over; `by_class`: of the run as it is and of each variant the accuracy on each class that is tested, by
    name, since order may decide between some classes and not between others; `calibration`: None without validation
    clips.
    """

    schema: str
    run: str
    model_sha256: str
    fingerprint: str
    split: int
    clips: int
    films: int
    classes: int
    known: int
    chance: float
    frames: int
    ways: int
    top1: float
    interval: Interval | None
    variants: tuple[Difference, ...]
    by_class: Mapping[str, Mapping[str, float]]
    calibration: Calibration | None


def ablate(settings: AblateSettings, progress: Progress = Progress()) -> list[Ablation]:
    """Ablate a run, or those of several splits, on the test list of `split` or of their own, and write
    RUN/evaluate/split<k>/ablation.json.

    Raises HarCacheError: no run, no cache or another one than the run's; a fine-tuned run without a cache of its own
    encoder; a test list without a clip in the cache.
    """
    settings.check()
    runs = [Run.open(path) for path in find_runs(settings.run)]
    cache = open_cache(runs, settings.cache)
    for run in runs:
        if run.config.stage == FINETUNED and not is_encoder_of(load_run_encoder(run), cache):
            raise RunError(
                f"{run.path} is fine-tuned, and {cache.path} is not of its encoder: make a cache with "
                f"`har-cache extract --weights {run.path}`, and give it with --cache"
            )
    sequences = Sequences.from_cache(cache, resolve_device(settings.device, progress.say))
    return [_ablate(run, cache, sequences, settings.split or run.config.split, progress) for run in runs]


def _ablate(run: Run, cache: FeatureCache, sequences: Sequences, split: int, progress: Progress) -> Ablation:
    test, labels = listed_clips(run, cache, split)
    tested = {cache.clip_keys[i]: cache.sources[i] for i in test}
    keys = list(tested)
    clips = ClipList(split, tuple(keys), tuple(map(film_of, tested.values())))
    whole, *others = variants(run.load_head(), run.config.training.frames)
    with progress.task("Ablating", "variant", len(others)):
        found = whole.probabilities(sequences, test, keys)
        right = _right(found, labels[test])
        names = [run.config.classes[i] for i in labels[test]]
        rows, by_class = [], {whole.name: _by_class(right, names)}
        for variant in others:
            without = _right(variant.probabilities(sequences, test, keys), labels[test])
            by_class[variant.name] = _by_class(without, names)
            rows.append(difference(whole.name, variant.name, [right], [without], [clips], len(others)))
            progress.advance()
    ablation = Ablation(
        schema=SCHEMA,
        run=str(run.path),
        model_sha256=run.model_sha256,
        fingerprint=cache.fingerprint,
        split=split,
        clips=len(keys),
        films=len(set(clips.films)),
        classes=len(run.config.classes),
        known=sum(group != CLEAN for group in groups(known_sources(run, cache), tested)),
        chance=1 / len(run.config.classes),
        frames=whole.frames,
        ways=sequences.ways,
        top1=float(right.mean()),
        interval=mean_accuracy_interval([(right, clips.films)]),
        variants=tuple(rows),
        by_class=by_class,
        calibration=_calibration(run, cache, sequences, whole, found, labels, test),
    )
    folder = run.path / EVALUATIONS / f"split{split}"
    make_directory(folder)
    write_file(folder / FILE, to_json(to_json_types(ablation)))
    return ablation


def _calibration(
    run: Run,
    cache: FeatureCache,
    sequences: Sequences,
    whole: Variant,
    found: np.ndarray,
    labels: np.ndarray,
    test: np.ndarray,
) -> Calibration | None:
    """`found`: the probabilities of the test clips. Several heads have a temperature, fitted out of fold."""
    if isinstance(whole.model, HeadEnsemble):
        plain = replace(whole, model=HeadEnsemble(whole.model.heads))
        before = plain.probabilities(sequences, test, [cache.clip_keys[i] for i in test])
        return _calibrated(len(run.clips), float(whole.model.temperature), before, found, labels[test])
    tested = {*test.tolist()}
    val = [i for i, key in enumerate(cache.clip_keys) if run.clips.get(key) == "val" and i not in tested]
    if not val:
        return None
    of_val = whole.probabilities(sequences, np.array(val), [cache.clip_keys[i] for i in val])
    temperature = fit_temperature(of_val, labels[val])
    return _calibrated(len(val), temperature, found, tempered(found, temperature), labels[test])


def _calibrated(
    val_clips: int, temperature: float, before: np.ndarray, after: np.ndarray, true: np.ndarray
) -> Calibration:
    return Calibration(
        val_clips=val_clips,
        temperature=temperature,
        loss=mean_loss(before, true),
        loss_at_temperature=mean_loss(after, true),
        error=calibration_error(before, true),
        error_at_temperature=calibration_error(after, true),
    )


def _by_class(right: np.ndarray, names: Sequence[str]) -> dict[str, float]:
    return {name: float(right[np.array(names) == name].mean()) for name in sorted(set(names))}


def _right(probabilities: np.ndarray, true: np.ndarray) -> np.ndarray:
    return (probabilities.argmax(1) == true).astype(float)
