import shlex
from pathlib import Path

import pytest
from har_cache_cli.options import add
from typer import Typer
from typer.testing import CliRunner

from har_cache.commands import command_line
from har_cache.options import Settings
from har_cache.settings.evaluation import CompareSettings
from har_cache.settings.extraction import ExtractSettings
from har_cache.settings.tools import DownloadSettings, ProtocolSettings
from har_cache.settings.training import FinetuneSettings, HeadSettings, TrainHeadSettings, TrainSettings, TuneSettings


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (DownloadSettings(out=Path("a b"), mirrors=("x", "y")), "--out 'a b' --from x --from y"),
        (
            ExtractSettings(data=Path("d"), cache=Path("c"), views=("center", "flip"), overwrite=True),
            "--data d --cache c --views center,flip --overwrite",
        ),
        (
            TrainHeadSettings(
                cache=Path("c"),
                run=Path("r"),
                training=TrainSettings(epochs=3),
                head=HeadSettings(cell="lstm"),
                folds=5,
            ),
            "--cache c --run r --folds 5 --epochs 3 --cell lstm",
        ),
        (
            FinetuneSettings(start=Path("s"), data=Path("d"), run=Path("r"), training=TuneSettings(augment=False)),
            "--from s --data d --run r --no-augment",
        ),
        (ProtocolSettings(cache=Path("c"), run=Path("r")), "c --run r"),
        (CompareSettings(runs=(Path("a"), Path("b")), format="markdown"), "a b --format markdown"),
    ],
)
def test_what_is_shown_gives_the_settings_when_it_is_typed(settings: Settings, expected: str) -> None:
    line = command_line("name", settings)
    assert line == f"har-cache name {expected}"
    taken = []

    def command(given: type(settings)) -> None:  # type: ignore[valid-type]
        taken.append(given)

    app = Typer()
    add(app, "name", command)
    add(app, "other", command)  # or typer takes the only one without its name

    result = CliRunner().invoke(app, shlex.split(line)[1:])
    assert result.exit_code == 0, result.output
    assert taken == [settings]
