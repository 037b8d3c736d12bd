"""`har-cache finetune`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from har_cache.interrupts import uninterrupted

from .console import SOME_CLIPS_FAILED, Debug, friendly, plural, resumable, say
from .train_head import Progress

if TYPE_CHECKING:
    from har_cache.training.finetune import Finetuned


def finetune(
    source: Annotated[Path, typer.Option("--from", help="Run that `har-cache train-head` made.")],
    data: Annotated[Path, typer.Option(help="The data set that the run's cache was made from.")],
    run: Annotated[Path, typer.Option(help="Run directory to make: weights, metrics, curves.")],
    cache: Annotated[Path | None, typer.Option(help="The run's cache, if it has moved.")] = None,
    epochs: Annotated[int, typer.Option(help="Times through the training clips.")] = 12,
    frames: Annotated[int, typer.Option(help="Frames a clip: one from each of so many equal segments.")] = 16,
    batch_size: Annotated[int, typer.Option(help="Clips on the device at a time.")] = 8,
    accumulate: Annotated[int, typer.Option(help="Batches a step.")] = 1,
    lr: Annotated[float, typer.Option(help="Highest learning rate of the head.")] = 3e-4,
    backbone_lr: Annotated[float, typer.Option(help="That of the backbone, as a share of --lr.")] = 0.1,
    head_epochs: Annotated[int, typer.Option(help="Epochs at the beginning that train the head alone.")] = 1,
    unfreeze: Annotated[
        int | None, typer.Option(help="Train the last so many of the backbone's 18 blocks; default: all of them.")
    ] = None,
    ema: Annotated[float, typer.Option(help="What a step keeps of the averaged weights; 0: no average.")] = 0.99,
    augment: Annotated[bool, typer.Option(help="Random crops, flips and colours, one of each a clip.")] = True,
    train_norms: Annotated[bool, typer.Option("--train-norms", help="Let BatchNorm learn statistics anew.")] = False,
    checkpointing: Annotated[
        bool, typer.Option("--checkpointing", help="Less memory for more time: compute activations twice.")
    ] = False,
    seed: Annotated[int, typer.Option(help="For order, frames and augmentation.")] = 0,
    workers: Annotated[
        int | None, typer.Option(help="Processes that decode; default: one a core, half of that without a GPU.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    clip_timeout: Annotated[float, typer.Option(help="Give up on a clip after so many seconds without a frame.")] = 60,
    allow_failed: Annotated[bool, typer.Option("--allow-failed", help="Exit with 0 although clips failed.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that was interrupted.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run in the directory.")] = False,
    debug: Debug = False,
) -> None:
    """Stage three: raw frames -> encoder and head trained end to end, from a run of stage two on.

    The clips that it learns from and validates on are the run's. Exit code 3: some clips do not decode; they were left
    out, and are named.
    """
    with friendly(debug):
        from har_cache.workers.server import fork_server

        fork_server()  # imports torch in parallel with the next lines
        with uninterrupted():
            from har_cache.training import finetune as stage
            from har_cache.training.end_to_end import TuneSettings

        training = TuneSettings(
            epochs=epochs,
            frames=frames,
            batch_size=batch_size,
            lr=lr,
            seed=seed,
            backbone_lr=backbone_lr,
            head_epochs=head_epochs,
            unfreeze=unfreeze,
            accumulate=accumulate,
            ema=ema,
            augment=augment,
            train_norms=train_norms,
            checkpointing=checkpointing,
        )
        settings = stage.Settings(
            source, data, run, training, cache, device, workers, clip_timeout, resume=resume, overwrite=overwrite
        )
        progress = Progress(clips_a_step=batch_size)
        with resumable(progress, run):
            finished = stage.finetune(settings, progress)
        _summarise(finished, epochs)
        if finished.failures and not allow_failed:
            raise typer.Exit(SOME_CLIPS_FAILED)


def _summarise(finished: "Finetuned", epochs: int) -> None:
    best, path, pace = finished.run.config["best"], finished.run.path, finished.pace
    if pace:
        say(
            f"{pace.achieved:.1f} clips/s; decoding alone {pace.decode:.1f}, training alone {pace.compute:.1f}; "
            f"{pace.waited:.1%} of the time went into waiting for frames"
        )
    if finished.failures:
        failed = plural(len(finished.failures), "clip")
        say(f"{failed} could not be decoded, and left out (named above, and in config.json)")
    accuracy = f"validation accuracy {best['val_accuracy']:.1%}"
    say(f"{path}: best epoch {best['epoch']} of {epochs}, {accuracy}; next: har-cache evaluate {path}")
