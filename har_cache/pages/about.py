"""What a figure is of, as it stands first on a page: data, encoder and weights, dates and machine, commands."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..cache.recipe import Recipe
from ..data.hmdb51 import CLASS_NAMES
from ..data.index import DataSetName, data_set_name
from ..evaluation.results import DataSetSize, Metrics
from ..model.config import FINETUNED, RunConfig
from ..model.run import Run
from ..sample_data.standin import WEIGHTS as MADE_UP
from ..storage.history import TRAINED, Event, evaluated_on, read_history
from .making import commands_of_run, commands_of_runs

_RANDOM = "random"
_PACKAGES = ("har-cache", "torch", "torchvision")


@dataclass(frozen=True)
class About:
    """What a figure is of: `facts` by name, `warnings` of what makes it no result, and the commands that make it again
    with what was settled; options that are as by default are left out of them.
    """

    facts: Mapping[str, str]
    warnings: tuple[str, ...]
    commands: tuple[str, ...]


def about_run(run: Run, metrics: Metrics | None, data: Path | None = None) -> About:
    """Of a run, by its evaluation on the split that `metrics` are of, if there is one. Raises RunError where its
    history is damaged.
    """
    config, history = run.config, read_history(run.path)
    evaluated = history.get(evaluated_on(metrics.split)) if metrics else None
    facts = {
        "Data": _data(config, metrics, data),
        "Encoder": _encoder(config.recipe),
        "Weights": _weights(config.recipe, metrics.projection_fit if metrics else config.projection_fit),
        "Model": _model(config),
        "Trained": _event(history.get(TRAINED)),
        "Evaluated": _event(evaluated),
        "Software": ", ".join(f"{name} {config.versions[name]}" for name in _PACKAGES if name in config.versions),
    }
    known = {name: fact for name, fact in facts.items() if fact}
    return About(known, tuple(warnings(config.recipe, metrics, data)), commands_of_run(run, metrics, data))


def about_runs(
    path: Path, runs: Sequence[Run], all_metrics: Sequence[Metrics | None], data: Path | None = None
) -> About:
    """Of the runs of several splits and seeds below `path`, where that is not the run itself; what differs from one to
    the next is left out. Raises RunError as `about_run` does.
    """
    found = [about_run(run, metrics, data) for run, metrics in zip(runs, all_metrics, strict=True)]
    if len(runs) == 1:
        return found[0]
    trained = [event for run in runs if (event := read_history(run.path).get(TRAINED))]
    facts = shared_facts(found) | ({"Trained": _events(trained)} if len(trained) == len(runs) else {})
    return About(facts, found[0].warnings, commands_of_runs(path, runs, data))


def about_scored(metrics: Metrics, settings: Mapping[str, str]) -> About:
    """Of predictions that were scored, with these settings."""
    facts = {"Data": size_text(metrics), "Predictions": settings.get("predictions", "")}
    return About({name: fact for name, fact in facts.items() if fact}, tuple(warnings(None, metrics)), ())


def warnings(recipe: Recipe | None, metrics: Metrics | None, data: Path | None = None) -> list[str]:
    """Why the figures are no result, if they are none."""
    drawn = bool(metrics and metrics.data_set and metrics.data_set.drawn) or bool(data and data_set_name(data).drawn)
    if recipe and recipe.weights == MADE_UP:
        return [
            "MADE-UP EMBEDDINGS: there are no videos behind this cache (`har-cache standin`). The figures rehearse a "
            "procedure, and say nothing of the data set"
        ]
    random = bool(recipe and recipe.weights.startswith(_RANDOM))
    if random and drawn:
        return [
            "RANDOM WEIGHTS, DRAWN VIDEOS: the encoder has learnt nothing from images, and `har-cache sample` drew the "
            "clips. The figures show that every step works; they are no result"
        ]
    if random:
        return [
            "RANDOM WEIGHTS: the encoder has learnt nothing from images. The figures show that every step works; for a "
            "result, extract with `--weights imagenet`"
        ]
    if drawn:
        return [
            "DRAWN VIDEOS: `har-cache sample` drew the clips. The figures show that every step works, and say nothing "
            "of real videos"
        ]
    return []


def size_text(metrics: Metrics) -> str:
    """The data set and how much it holds, in words; empty where nobody knows."""
    known = metrics.data_set
    if known is None:
        return ""
    return f"{_named(known)}, {known.clips:,} clips of {known.classes} classes"


def _named(data: DataSetName | DataSetSize) -> str:
    return f"{'drawn sample ' if data.drawn else ''}\u201c{data.name}\u201d"


def _data(config: RunConfig, metrics: Metrics | None, data: Path | None) -> str:
    size = size_text(metrics) if metrics else ""
    hmdb51 = "HMDB51" if set(config.classes) == set(CLASS_NAMES) else ""
    if config.recipe.weights == MADE_UP:
        return f"made up for the split lists of {hmdb51 or f'{len(config.classes)} classes'}: no videos"
    if not size and data:
        size = f"{_named(data_set_name(data))}, {len(config.classes)} classes"
    if not size:
        return f"{hmdb51 or 'a data set'} of {len(config.classes)} classes; cache {config.cache}"
    return f"{hmdb51}, {size}" if hmdb51 else size


def _encoder(recipe: Recipe) -> str:
    if recipe.weights == MADE_UP:
        return ""
    views = f"view{'s' if len(recipe.views) > 1 else ''} {' and '.join(recipe.views)}"
    frames = f"{recipe.frames} of" if recipe.frames else "for every"
    how = "" if recipe.origin else f", {recipe.precision} on {recipe.device}"
    return f"{recipe.origin or recipe.model}: {recipe.dim} numbers {frames} frame, {views}{how}"


def _weights(recipe: Recipe, projection_fit: str | None) -> str:
    if recipe.weights == MADE_UP or recipe.origin:
        return ""
    fit = f", fitted on {projection_fit}" if projection_fit else ""
    return f"{recipe.weights}; projection: {recipe.projection}{fit}"


def _model(config: RunConfig) -> str:
    head = config.head
    cell = "dilated convolutions" if head.cell == "conv" else f"bidirectional {head.cell.upper()}"
    heads = f"mean of {config.heads} heads: " if config.heads else ""
    tuned = ", fine-tuned from raw frames" if config.stage == FINETUNED else " on frozen embeddings"
    return f"{heads}{cell}, hidden {head.hidden}, {config.training.frames} frames a clip{tuned}"


def _event(event: Event | None) -> str:
    if event is None:
        return ""
    return f"{event.at} UTC, in {duration(event.seconds)}, on {_machine(event)}"


def _events(events: Sequence[Event]) -> str:
    """The first and the last, the time of all, and the machines."""
    ends = sorted(event.at for event in events)
    machines = dict.fromkeys(_machine(event) for event in events)
    return f"{ends[0]} to {ends[-1]} UTC, {duration(sum(e.seconds for e in events))} in all, on {'; '.join(machines)}"


def _machine(event: Event) -> str:
    gpu = f"{event.gpu}, " if event.gpu else ""
    return f"{gpu}{event.cpu} ({event.cores} core{'s' if event.cores > 1 else ''})"


def duration(seconds: float) -> str:
    """A time in the units that people would say it in."""
    if seconds < 90:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def shared_facts(found: Sequence[About]) -> dict[str, str]:
    """The facts that are the same of all."""
    return {name: fact for name, fact in found[0].facts.items() if all(each.facts.get(name) == fact for each in found)}
