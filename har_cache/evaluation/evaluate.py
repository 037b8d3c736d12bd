"""A trained run on a test list: honest figures, in RUN/evaluate/split<k>/."""

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..cache.manifest import TESTED
from ..cache.reader import FeatureCache
from ..data.keys import FILES
from ..data.leakage import groups, in_other_class
from ..devices import device_versions, resolve_device
from ..encoder.architectures.packing import transform_of
from ..errors import HarCacheError
from ..finetuning.raw_batches import RawClips
from ..finetuning.raw_inference import raw_probabilities
from ..model.config import FINETUNED, Start
from ..model.load import (
    is_encoder_of,
    known_sources,
    labels_for,
    listed_clips,
    load_network,
    missing_clips,
    open_cache,
)
from ..model.network import CNNBidirectionalRNN
from ..model.run import EVALUATIONS, VALIDATES, Run, find_runs, fold_subset
from ..model.writer import writing
from ..progress import Progress
from ..settings.evaluation import EvaluateSettings
from ..statistics.intervals import difference_interval, mcnemar
from ..storage.files import make_directory, remove_file, write_file
from ..storage.history import add_event, evaluated_on
from ..system import default_workers
from ..training.batches import PLACES, Sequences
from ..training.inference import probabilities
from ..workers.prefetch import FramePrefetcher
from .averages import summarise
from .extra_tables import linear_table, probabilities_table
from .linear_probe import ProbeOutcome, linear_probe, moments
from .metrics import Answers, ScoredClips, write_scored
from .results import DataSetSize, Evaluation, Metrics, NotCompared, StartComparison
from .tables import LINEAR, PROBABILITIES


def evaluate(settings: EvaluateSettings, progress: Progress = Progress()) -> list[Evaluation]:
    """Score a run on the test list of `split`, or else on that of the split it was trained on, and write the files.

    A directory of several splits or seeds gives one evaluation of each run, and `evaluate/summary.json` beside them. A
    fine-tuned run is scored on raw frames, of the data set that it was tuned on or of `data`; or on a `cache` that was
    extracted with its own encoder. Raises HarCacheError: no run, no cache or another one than the run's, a test list
    without a clip in the cache.
    """
    settings.check()
    paths = find_runs(settings.run)
    with ExitStack() as stack:
        for path in sorted({*paths, settings.run}):  # the first of them decides between two evaluations
            if path.is_dir():
                stack.enter_context(writing(path, progress.say))
        return _evaluate(settings, paths, progress)


def _evaluate(settings: EvaluateSettings, paths: list[Path], progress: Progress) -> list[Evaluation]:
    runs = [Run.open(path) for path in paths]
    cache = open_cache(runs, settings.cache)
    sequences = Sequences.from_cache(cache, resolve_device(settings.device, progress.say))
    test_lists = _TestLists(cache, sequences, moments(sequences), settings, progress)
    evaluations = [test_lists.evaluate(run) for run in runs]
    if len(evaluations) > 1:
        folder = settings.run / EVALUATIONS
        make_directory(folder)
        name = f"summary-split{settings.split}.json" if settings.split else "summary.json"
        write_file(folder / name, _json(summarise(evaluations)))
    return evaluations


@dataclass(frozen=True)
class _TestLists:
    """The test lists of a cache: its embeddings on the device, the moments of each clip's, float32 (clips, 512), and
    the linear probes so far, by the classes and clips that they were fitted and tested on.
    """

    cache: FeatureCache
    sequences: Sequences
    moments: np.ndarray
    settings: EvaluateSettings
    progress: Progress
    probes: dict[tuple[Any, ...], list[ProbeOutcome | None]] = field(default_factory=dict)

    def evaluate(self, run: Run) -> Evaluation:
        """Score a run on those clips of the list that the cache holds, and write the files."""
        began = time.monotonic()
        cache, split = self.cache, self.settings.split or run.config.split
        test, labels = listed_clips(run, cache, split)
        failed: dict[str, str] = {}
        network = load_network(run) if run.config.stage == FINETUNED else None
        if network and not is_encoder_of(network.encoder, cache):
            test, found, failed = self._score_frames(run, network, labels, test)
        else:
            head = network.head if network else run.load_head()
            found = probabilities(head, self.sequences, test, run.config.training.frames)
        if not np.isfinite(found).all():
            raise HarCacheError(f"{run.path}: the model's probabilities are not finite; train it again")
        trained, tested = known_sources(run, cache), {cache.clip_keys[i]: cache.sources[i] for i in test}
        scored = ScoredClips(
            classes=run.config.classes,
            sources=tested,
            frames=cache.frames[test].tolist(),
            true=labels[test],
            answers=Answers.of(found),
            groups=groups(trained, tested),
            in_other_class=in_other_class(trained, tested),
        )
        linear = self._linear_probes(run, labels, test)
        metrics = self._metrics(run, split, scored, failed, linear)
        folder = run.path / EVALUATIONS / f"split{split}"
        more = {LINEAR: linear_table(scored, linear)}
        if self.settings.probabilities:
            more[PROBABILITIES] = probabilities_table(scored, found)
        else:
            remove_file(folder / PROBABILITIES)
        written = write_scored(folder, metrics, scored, more)
        gpu = device_versions(str(self.sequences.device)).get("gpu")
        add_event(run.path, evaluated_on(split), time.monotonic() - began, gpu)
        return replace(written, failures=failed)

    def _metrics(
        self,
        run: Run,
        split: int,
        scored: ScoredClips,
        failed: Mapping[str, str],
        linear: Sequence[ProbeOutcome | None],
    ) -> Metrics:
        on_mean, on_moments = (probe and probe.figures(scored.true, scored.films) for probe in linear)
        subsets, fit = list(run.clips.values()), self.cache.manifest.projection_fit
        val = subsets.count(VALIDATES)
        tuned = run.config.stage == FINETUNED
        return Metrics(
            stage=run.config.stage,
            split=split,
            trained_on=run.config.split,
            splits_from=self.cache.manifest.splits.from_,
            train_clips=len(subsets) - val,
            val_clips=val,
            fingerprint=self.cache.fingerprint,
            model_sha256=run.model_sha256,
            projection_fit=fit,
            projection_saw_test_clips=TESTED in fit,
            clips=len(scored.keys),
            classes=len(scored.classes),
            chance=1 / len(scored.classes),
            **scored.figures(),
            linear_on_mean=on_mean,
            linear_on_moments=on_moments,
            missing=missing_clips(self.cache, split) | {key: f"failed: {reason}" for key, reason in failed.items()},
            stage_two=compare_with_start(run, scored, self.sequences, self.cache) if tuned else None,
            seed=run.config.training.seed,
            heads=run.config.heads,
            out_of_fold=run.config.out_of_fold,
            validated_on=run.config.validate_on,
            val_set_apart=run.config.val_set_apart,
            sources_from=FILES if self.cache.manifest.sources_from == FILES else None,
            data_set=DataSetSize.of(self.cache.manifest.data_set, len(self.cache.clip_keys), len(self.cache.classes)),
        )

    def _score_frames(
        self, run: Run, network: CNNBidirectionalRNN, labels: np.ndarray, test: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, dict[str, str]]:
        """The clips of `test`, int64 (n), that decode, int64 (m); their probabilities by the whole network, float32
        (m, classes); and why the others do not, by key.
        """
        data = self.settings.data or Path(run.config.data or "")
        files = self.cache.files(data)
        frames, workers = run.config.training.frames, self.settings.workers or default_workers()
        device = self.sequences.device
        most, recipe = len(PLACES) * frames, self.cache.recipe
        transform, as_decoded, stall_s = transform_of(recipe), device.type == "cuda", self.settings.stall_s
        with FramePrefetcher(
            most, workers, 2 * workers, stall_s, as_decoded, sampling=recipe.frames, transform=transform
        ) as prefetcher:
            raw = RawClips(self.cache, labels, files, prefetcher, device, self.progress, transform=transform)
            with self.progress.task("Evaluating raw frames", "clip", len(test)):
                found = raw_probabilities(network, raw, test, frames, self.cache.views, self.progress)
        if not found:
            key, reason = next(iter(raw.failures.items()))
            raise HarCacheError(f"{data}: no clip of the test list can be decoded; {key}: {reason}; choose its --data")
        return np.array(list(found)), np.stack(list(found.values())), raw.failures

    def _linear_probes(self, run: Run, labels: np.ndarray, test: np.ndarray) -> list[ProbeOutcome | None]:
        """Those on the mean, and on the mean and the first moment in time: fitted once for runs of the same clips."""
        subset = np.array([run.clips.get(key, "") for key in self.cache.clip_keys])
        # Several heads have seen all clips: so do the probes, whose strength the first fold decides.
        several = bool(run.config.heads)
        val = np.flatnonzero(subset == (fold_subset(0) if several else VALIDATES))
        train = np.setdiff1d(np.flatnonzero(subset != ""), val)
        same = run.config.classes, several, *(clips.tobytes() for clips in (train, val, test))
        if same not in self.probes:
            self.probes[same] = [
                linear_probe(features, labels, train, val, test, several, self.progress)
                for features in (self.moments[:, : self.moments.shape[1] // 2], self.moments)
            ]
        return self.probes[same]


def compare_with_start(
    run: Run, scored: ScoredClips, sequences: Sequences, cache: FeatureCache
) -> StartComparison | NotCompared:
    """Change by fine-tuning: the run against the run of stage two that it came from, on the clips `scored`.

    `cache`, `sequences`: used where they hold the embeddings that stage two learnt from, else its own cache is opened.
    """
    start, now = run.config.started_from, scored.correct
    assert start is not None  # of a fine-tuned run
    try:
        before = _correct_before(start, scored.keys, sequences, cache)
    except HarCacheError as error:
        return NotCompared(start.run, str(error))
    fixed, broken = int((now & ~before).sum()), int((before & ~now).sum())
    paired = difference_interval(now, before, scored.films)
    return StartComparison(start.run, float(before.mean()), fixed, broken, mcnemar(fixed, broken), paired)


def _correct_before(start: Start, keys: Sequence[str], sequences: Sequences, cache: FeatureCache) -> np.ndarray:
    """Which clips the stage-two run has right, bool (clips)."""
    before = Run.open(Path(start.run))
    if before.model_sha256 != start.model_sha256:
        raise HarCacheError(f"{start.run} has been trained again since")
    if cache.fingerprint != before.config.fingerprint:
        cache = FeatureCache(Path(before.config.cache))
        if cache.fingerprint != before.config.fingerprint:
            raise HarCacheError(f"{cache.path} is not the cache of {start.run} any more")
        sequences = Sequences.from_cache(cache, str(sequences.device))
    place = {key: i for i, key in enumerate(cache.clip_keys)}
    lost = [key for key in keys if key not in place]
    if lost:
        raise HarCacheError(f"{cache.path} lacks {len(lost)} of these clips")
    clips = np.array([place[key] for key in keys])
    found = probabilities(before.load_head(), sequences, clips, before.config.training.frames)
    return found.argmax(1) == labels_for(before, cache)[clips]


def _json(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=2, allow_nan=False) + "\n").encode()
