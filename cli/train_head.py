"""`har-cache train-head`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .console import Bar, Debug, friendly, resumable, say

if TYPE_CHECKING:
    from har_cache.training.journal import Row


def train_head(
    cache: Annotated[Path, typer.Option(help="A cache that `har-cache extract` made.")],
    run: Annotated[Path, typer.Option(help="Run directory to make: weights, metrics, curves.")],
    split: Annotated[str, typer.Option(help="1, 2, 3, or all: RUN/split1 to RUN/split3.")] = "1",
    epochs: Annotated[int, typer.Option(help="Times through the training clips.")] = 64,
    cell: Annotated[str, typer.Option(help="gru, lstm or rnn.")] = "gru",
    hidden: Annotated[int, typer.Option(help="Units of each direction of the RNN.")] = 128,
    layers: Annotated[int, typer.Option(help="Layers of the RNN.")] = 1,
    dropout: Annotated[float, typer.Option(help="Share of units dropped in training.")] = 0.5,
    frames: Annotated[int, typer.Option(help="Frames a clip: one from each of so many equal segments.")] = 32,
    batch_size: Annotated[int, typer.Option(help="Clips a step.")] = 32,
    lr: Annotated[float, typer.Option(help="Highest learning rate, of a warm-up and a cosine.")] = 2e-3,
    seed: Annotated[int, typer.Option(help="For weights, order, frames, and the clips held out.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that was interrupted.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run in the directory.")] = False,
    debug: Debug = False,
) -> None:
    """Stage two: a cache -> a bidirectional RNN that tells its classes apart.

    Validation clips are held out of the training list by source; the test list is not looked at. The weights of the
    best epoch on them are kept.
    """
    with friendly(debug):
        from har_cache.model.head import HeadSettings
        from har_cache.training import train_head as stage
        from har_cache.training.loop import TrainSettings

        settings = stage.Settings(
            cache=cache,
            run=run,
            split=split,
            head=HeadSettings(cell=cell, hidden=hidden, layers=layers, dropout=dropout),
            training=TrainSettings(epochs=epochs, frames=frames, batch_size=batch_size, lr=lr, seed=seed),
            device=device,
            resume=resume,
            overwrite=overwrite,
        )
        progress = Progress()
        with resumable(progress, run):
            runs = stage.train_head(settings, progress)
        for finished in runs:
            best, path = finished.config["best"], finished.path
            accuracy = f"validation accuracy {best['val_accuracy']:.1%}"
            say(f"{path}: best epoch {best['epoch']} of {epochs}, {accuracy}; next: har-cache evaluate {run}")


class Progress(Bar):
    """A training's listener: a bar of steps on a terminal, a line now and then elsewhere; with `clips_a_step` a bar of
    clips.
    """

    def __init__(self, clips_a_step: int | None = None) -> None:
        self._clips_a_step = clips_a_step
        super().__init__()
        self._epochs = 0

    def begin(self, epochs: int, steps: int, done: int) -> None:
        """Start counting."""
        self._epochs = epochs
        self._open(
            total=epochs * steps,
            initial=done * steps,
            unit="clip" if self._clips_a_step else "step",
            unit_scale=self._clips_a_step or False,
            desc="Training",
        )

    def step(self) -> None:
        """Count one step."""
        if self._bar is not None:
            self._bar.update()

    def epoch(self, row: "Row", best: bool) -> None:
        """Tell how it stands."""
        number = f"epoch {row['epoch']:.0f} of {self._epochs}"
        figures = (
            f"{number}: loss {row['train_loss']:.3f}, validation loss {row['val_loss']:.3f}, "
            f"accuracy {row['val_accuracy']:.1%}{' (best so far)' if best else ''}"
        )
        if self._bar is not None:
            self._bar.set_postfix_str(figures, refresh=False)
        elif self._due() or row["epoch"] == self._epochs:
            say(figures.capitalize())
