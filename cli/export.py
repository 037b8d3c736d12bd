"""`har-cache export`."""

from pathlib import Path
from typing import Annotated

import typer

from .console import Bar, print_json, say
from .options import Json


def export(
    run: Annotated[Path, typer.Argument(help="Run directory of train-head or finetune.")],
    to: Annotated[
        Path, typer.Option("--to", "--out", help="File to write: .onnx, or .pt2 for torch.export.load.", metavar="FILE")
    ],
    video: Annotated[
        Path | None, typer.Option(help="Check it on this video's frames; default: on patterned noise.", metavar="VIDEO")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write encoder and head as one file for other programs, checked against the model it comes from.

    It takes crops as uint8 RGB (batch, frames, 3, 224, 224) and a mask, bool (batch, frames), true for frames, which
    come first; any number of clips and frames. It gives logits (batch, classes). Classes, frames, transform and
    fingerprint are in its metadata.
    """
    from har_cache.exporting.export import export as write

    written = write(run, to, video, Bar())
    if as_json:
        print_json(written)
    say(f"Checked on {written.checked_on}: logits differ by at most {written.difference:.1e} from the model's")
    told = ", ".join(f"{key} {written.metadata[key]}" for key in ("stage", "split", "frames"))
    say(f"{written.path}: {written.bytes / 1e6:.1f} MB, {told}")
