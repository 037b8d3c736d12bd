"""The `har-cache` command. Nothing here imports torch: each command imports what it needs when it runs."""

from .starting import imported  # isort: skip - the first of all

from typing import Annotated

import typer

from har_cache.system import repeat_products, version

from . import (
    ablate,
    bench,
    compare,
    download,
    evaluate,
    export,
    export_features,
    extract,
    finetune,
    import_features,
    info,
    leakage,
    predict,
    protocol,
    report,
    reproduce,
    sample,
    score,
    standin,
    train_head,
    verify,
)
from .commands import CommandGroup
from .console import INTERRUPTED, echo, printing, say
from .options import add
from .streams import open_streams

repeat_products()

_DATA, _CACHE, _TRAINING, _RESULTS, _USE, _MORE = (
    "Data sets",
    "Stage one, features",
    "Stages two and three, training",
    "Results",
    "Use",
    "More",
)

app = typer.Typer(
    name="har-cache",
    cls=CommandGroup,
    help="Cache per-frame embeddings of action videos once; train on them in minutes.",
    epilog="The usual way: extract -> train-head -> evaluate -> report. `har-cache COMMAND --help` says more.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich alone takes longer to import than all of --help
)


def _print_version(wanted: bool) -> None:
    if wanted:
        echo(f"har-cache {version()}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    pass


for _name, _command, _section, _summary in (
    ("sample", sample.sample, _DATA, "Draw a small data set, to try everything on"),
    ("download", download.download, _DATA, "Fetch HMDB51, and check that all of it is there"),
    ("leakage", leakage.leakage, _DATA, "Count test clips that training lists know, or their films"),
    ("extract", extract.extract, _CACHE, "Embed the frames of videos, into a cache"),
    ("import", import_features.import_features, _CACHE, "Make a cache of features of another tool"),
    ("standin", standin.standin, _CACHE, "Make a cache without videos, to rehearse at full size"),
    ("info", info.info, _CACHE, "Show what a cache or a run is, and how it was made"),
    ("verify", verify.verify, _CACHE, "Check every file of a cache against its checksum"),
    ("export-features", export_features.export_features, _CACHE, "Write a cache's features for other tools"),
    ("train-head", train_head.train_head, _TRAINING, "Train a head on a cache"),
    ("finetune", finetune.finetune, _TRAINING, "Train encoder and head end to end, from a run"),
    ("evaluate", evaluate.evaluate, _RESULTS, "Score a run on a test list, and count what it knew"),
    ("report", report.report, _RESULTS, "Write a run's page, RUN/report.html"),
    ("compare", compare.compare, _RESULTS, "Compare runs: which differences are more than chance"),
    ("ablate", ablate.ablate, _RESULTS, "Score a run without order, parts or frames"),
    ("score", score.score, _RESULTS, "Score predictions of any model as a run's"),
    ("predict", predict.predict, _USE, "Name the action in videos"),
    ("export", export.export, _USE, "Write encoder and head as ONNX or for torch.export"),
    ("protocol", protocol.protocol, _MORE, "Train by the headline's protocol and the honest one"),
    ("reproduce", reproduce.reproduce, _MORE, "HMDB51 from the download to a table of results"),
    ("bench", bench.bench, _MORE, "Measure this machine, each part beside its limit"),
):
    add(app, _name, _command, _section, _summary)


def main() -> None:
    """The command as a program."""
    open_streams()
    with printing():
        try:
            app()
        except KeyboardInterrupt:  # before there is a command that could be told to go on
            say("Interrupted.")
            raise SystemExit(INTERRUPTED) from None


imported()


if __name__ == "__main__":
    main()
