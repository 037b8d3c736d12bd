import json
from pathlib import Path
from typing import Any

import pytest
from har_cache_cli.main import app
from typer.testing import CliRunner

from har_cache.settings.training import HeadSettings, TrainHeadSettings, TrainSettings
from har_cache.training.train_head import train_head

from ..helpers import caches


def call(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["ablate", *map(str, arguments), "--device", "cpu"])


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a run of each split, hardly trained."""
    folder = tmp_path_factory.mktemp("runs")
    caches.write_cache(folder / "cache", caches.action_embeddings(sources=6, clips=1), shard_clips=24)
    training, head = TrainSettings(epochs=1, frames=4), HeadSettings(hidden=4, width=4)
    train_head(TrainHeadSettings(cache=folder / "cache", run=folder / "all", split="all", head=head, training=training))
    return folder / "all"


def test_people_read_a_table(runs: Path) -> None:
    result = call(runs / "split1")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert "8 clips of 4 classes and 8 films; 4 frames, mean over 3 ways; chance 25.0%" in lines[0]
    assert [line.split("  ")[0] for line in lines[3:5]] == ["as it is", "order reversed"]
    assert lines[4].endswith("too few films to say")
    assert "No interval, and so no verdict: fewer than 10 films" in result.stdout
    assert "Probabilities of the test clips" in result.stdout


def test_json_is_all_of_stdout(runs: Path) -> None:
    content = json.loads(call(runs / "split1", "--json").stdout)
    assert content == json.loads((runs / "split1" / "evaluate" / "split1" / "ablation.json").read_text())
    three = json.loads(call(runs, "--json").stdout)
    assert [each["split"] for each in three["runs"]] == [1, 2, 3]


def test_other_formats(runs: Path) -> None:
    assert r"\begin{tabular}{lrrrrrrl}" in call(runs / "split1", "--format", "latex").stdout
    assert "| order reversed |" in call(runs / "split1", "--format", "markdown").stdout


def test_errors_are_one_line(runs: Path, tmp_path: Path) -> None:
    assert call(runs / "split1", "--format", "html").exit_code == 2
    assert call(runs / "split1", "--split", 4).exit_code == 2
    for result in (call(tmp_path), call(runs / "split1", "--cache", tmp_path / "nothing")):
        assert result.exit_code == 1
        assert result.stdout == "" and result.stderr.startswith("Error: ") and result.stderr.count("\n") == 1
