"""The `har-cache` command. Nothing here imports torch: each command imports what it needs when it runs."""

from .starting import imported  # isort: skip - the first of all

import os

import typer

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
from .console import INTERRUPTED, printing, say
from .options import add
from .streams import open_streams

# For cuBLAS, which reads it once: without it, its products on a GPU may differ in their last bits from one run to the
# next, and so would a training. Worker processes inherit it.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

app = typer.Typer(
    name="har-cache",
    help="Cache per-frame embeddings of action videos once; train on them in minutes.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich alone takes longer to import than all of --help
)
add(app, "sample", sample.sample)
add(app, "download", download.download)
add(app, "standin", standin.standin)
add(app, "extract", extract.extract)
add(app, "import", import_features.import_features)
add(app, "info", info.info)
add(app, "verify", verify.verify)
add(app, "train-head", train_head.train_head)
add(app, "finetune", finetune.finetune)
add(app, "evaluate", evaluate.evaluate)
add(app, "score", score.score)
add(app, "leakage", leakage.leakage)
add(app, "compare", compare.compare)
add(app, "ablate", ablate.ablate)
add(app, "protocol", protocol.protocol)
add(app, "reproduce", reproduce.reproduce)
add(app, "predict", predict.predict)
add(app, "export", export.export)
add(app, "export-features", export_features.export_features)
add(app, "report", report.report)
add(app, "bench", bench.bench)


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
