"""The `har-cache` command. Nothing here imports torch: each command imports what it needs when it runs."""

import typer

from . import bench, download, evaluate, export, extract, finetune, info, predict, report, sample, train_head, verify

app = typer.Typer(
    name="har-cache",
    help="Cache per-frame embeddings of action videos once; train on them in minutes.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich alone takes longer to import than all of --help
)
app.command("sample")(sample.sample)
app.command("download")(download.download)
app.command("extract")(extract.extract)
app.command("info")(info.info)
app.command("verify")(verify.verify)
app.command("train-head")(train_head.train_head)
app.command("finetune")(finetune.finetune)
app.command("evaluate")(evaluate.evaluate)
app.command("predict")(predict.predict)
app.command("export")(export.export)
app.command("report")(report.report)
app.command("bench")(bench.bench)


if __name__ == "__main__":
    app()
