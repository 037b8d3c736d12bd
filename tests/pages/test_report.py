import base64
import io
import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image

from har_cache.data.splits import TEST, TRAIN
from har_cache.errors import HarCacheError, RunError
from har_cache.evaluation.summary import CONFOUNDED
from har_cache.evaluation.tables import PER_CLASS_HEADER, PREDICTIONS_HEADER
from har_cache.model.run import Run
from har_cache.pages.pictures.strips import find_videos, to_jpeg
from har_cache.pages.report import flat, report
from har_cache.progress import Progress
from har_cache.storage.files import read_csv, sha256, to_csv
from har_cache.storage.history import TRAINED, add_event

from ..evaluation.test_evaluate import evaluate, no_network  # noqa: F401
from ..helpers.pages import Page
from ..helpers.sealed import change_sealed, write_sealed
from ..helpers.synthetic import small_subsets, write_cache, write_run
from ..helpers.videos import moving_frames, write_video


@pytest.fixture
def run(tmp_path) -> Path:
    cache = write_cache(tmp_path / "cache", small_subsets(), class_signal=0.1)
    return write_run(tmp_path / "run", cache)


def test_the_page_needs_nothing_else(run):
    evaluate(run)
    page = Page(report(run))
    assert page.open == []
    assert not page.elements.keys() & {"link", "iframe", "img"}
    assert not any("src" in script for script in page.elements["script"])
    assert not re.search(r"url\(|@import|https?://", (run / "report.html").read_text())
    assert any(meta.get("name") == "viewport" for meta in page.elements["meta"])
    assert all("scope" in head for head in page.elements["th"])


def test_the_page_says_what_the_figure_is(run):
    (evaluation,) = evaluate(run)
    text = Page(report(run)).text
    assert f"{100 * evaluation.metrics.top1:.1f}%" in text
    assert "Leakage: 0 seen, 0 siblings" in text
    assert "Protocol: trained on" in text
    assert "WARNING" not in text
    assert evaluation.metrics.fingerprint in text
    for name in ("mean embedding", "mean and first moment in time"):
        assert f"linear on {name}" in text
    assert "Macro F1" in text and "Top-5" not in text  # of four classes
    assert CONFOUNDED in text
    assert "top-1, no interval: fewer than 10 films" in " ".join(text.split())


def test_other_test_lists_stand_beside_with_their_leakage(run):
    evaluate(run)
    evaluate(run, split=3)
    text = Page(report(run)).text
    assert "split 1 (trained on 1)" in text
    assert "split 3 (trained on 1)" in text
    assert "WARNING" not in text  # the headline is that of the run's own split


def test_films_of_other_classes_stand_on_the_page(tmp_path):
    """film2 is tested in act0, and trains act1."""
    subsets = small_subsets(classes=2, clips=2)
    swapped = {key: parts if "act0/film2" not in key else (TEST, TRAIN, TRAIN) for key, parts in subsets.items()}
    run = write_run(tmp_path / "run", write_cache(tmp_path / "cache", swapped, class_signal=0.3))
    (evaluation,) = evaluate(run)
    evaluate(run, split=2)
    known = evaluation.metrics.leakage.other_class
    assert known.clips == 2
    text = " ".join(Page(report(run)).text.split())
    assert re.search(rf"on 2 of films in other classes ?{100 * known.top1:.1f}%", text)
    assert "Same film in another class: 2 of the 10 clean clips" in text
    assert "2 of films in other classes" in text


def test_a_leaking_headline_comes_with_its_warning(run):
    evaluate(run, split=3)
    text = Page(report(run)).text
    assert "WARNING: the model was trained or validated on 24 of these 24 clips (100.0%)" in text
    assert text.index("WARNING") < text.index("top-1")


def test_three_splits_on_one_page(tmp_path):
    cache = write_cache(tmp_path / "cache", small_subsets(), class_signal=0.3)
    for split in (1, 2, 3):
        write_run(tmp_path / "all" / f"split{split}", cache, split)
    evaluate(tmp_path / "all")
    text = Page(report(tmp_path / "all")).text
    assert "mean over 3 splits, no interval: fewer than 10 films" in text
    assert "deviation" not in text
    assert all(f"Split {split}" in text for split in (1, 2, 3))


def test_a_run_that_is_not_evaluated_is_refused(run):
    with pytest.raises(HarCacheError, match="har-cache evaluate"):
        report(run)


def test_an_evaluation_of_the_model_that_was_there_before_does_not_count(run):
    evaluate(run)
    config = run / "config.json"
    config.write_text(config.read_text().replace("0" * 64, "1" * 64))
    with pytest.raises(HarCacheError, match="not been evaluated"):
        report(run)


def test_a_damaged_evaluation_is_named(run):
    evaluate(run)
    for content in ("{", "[]", '{"schema": "har-evaluation/1"}', '{"schema": "har-evaluation/0"}'):
        (run / "evaluate" / "split1" / "metrics.json").write_text(content)
        with pytest.raises(HarCacheError, match=r"metrics\.json: .*again"):
            report(run)


def test_a_run_without_its_epochs_still_has_a_page(run):
    evaluate(run)
    (run / "metrics.csv").unlink()
    assert "No metrics.csv" in Page(report(run)).text


def test_mistakes_come_with_filmstrips_where_the_videos_are(tmp_path, run):
    evaluate(run)
    clip = write_video(tmp_path / "clip.avi", moving_frames(4))
    keys = list(small_subsets())
    for key in keys:
        path = tmp_path / "data" / "videos" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(clip, path)
    assert "--data DIR" in Page(report(run)).text
    page = Page(report(run, tmp_path / "data"))
    assert "--data DIR" not in page.text
    strips = [image for image in page.elements["img"] if image["src"].startswith("data:image/jpeg")]
    assert len(strips) == 4 * min(12, len(page.elements["article"]))
    assert all("picture" in image["alt"] for image in strips)


def test_a_clip_that_does_not_decode_is_said_so(tmp_path, run):
    evaluate(run)
    for key in small_subsets():
        path = tmp_path / "data" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"no video")
    assert "Cannot be decoded" in Page(report(run, tmp_path / "data")).text


def test_videos_are_where_the_cache_says(tmp_path, run):
    evaluate(run)
    clip = tmp_path / "data" / "clips" / "one.avi"
    clip.parent.mkdir(parents=True)
    clip.touch()
    places = dict.fromkeys(list(small_subsets())[:-1], "clips/one.avi") | {"act0/gone.avi": "clips/gone.avi"}
    change_sealed(tmp_path / "cache" / "manifest.json", lambda manifest: manifest.update(paths=places))
    videos = find_videos(tmp_path / "data", Run.open(run))
    assert videos == dict.fromkeys(list(small_subsets())[:-1], clip)


@pytest.mark.parametrize(("frames", "pictures"), [(40, 6), (3, 3), (1, 1)])
def test_a_film_strip_is_spread_over_the_clip(tmp_path, run, frames, pictures):
    evaluate(run)
    folder = run / "evaluate" / "split1"
    header, first, *_ = read_csv(folder / "predictions.csv")
    key, true = first[:2]
    change_tables(folder, {"predictions.csv": to_csv(header, [(key, true, "another", "0.9", true, "clean", frames)])})
    (tmp_path / "data" / true).mkdir(parents=True)
    write_video(tmp_path / "data" / key, moving_frames(frames))
    progress = Counted()
    page = Page(report(run, tmp_path / "data", progress))
    strip = [image["src"] for image in page.elements["img"] if image["src"].startswith("data:image/jpeg")]
    assert len(set(strip)) == len(strip) == pictures
    assert progress.done == 1


def change_tables(folder: Path, tables: Mapping[str, bytes]) -> None:
    """Replace tables of an evaluation by name, as the seal allows."""
    digests = {}
    for name, data in tables.items():
        (folder / name).write_bytes(data)
        digests[name] = sha256(data)
    change_sealed(folder / "metrics.json", lambda metrics: metrics["files"].update(digests))


class Counted(Progress):
    done = 0

    def advance(self, count: int = 1, note: str = "") -> None:
        self.done += count


@pytest.mark.parametrize(("width", "height"), [(2, 4000), (4000, 2), (240, 320), (320, 240)])
def test_pictures_of_a_film_strip_are_small_whatever_the_shape(width, height):
    data = base64.b64decode(to_jpeg(np.zeros((height, width, 3), np.uint8)).partition(",")[2])
    shown = Image.open(io.BytesIO(data)).size
    assert 1 <= shown[0] <= 160 and 1 <= shown[1] <= 320 and max(shown) >= 160


def test_hostile_names_stay_text(tmp_path, run):
    bad = "<script>alert(1)</script>&\"'{{ 7 * 7 }}"
    evaluate(run)
    folder = (run / "evaluate" / "split1").rename(tmp_path / "kept")
    content = json.loads((folder / "metrics.json").read_text())
    content["confused"] = [{"true": bad, "predicted": bad, "clips": 1, "share": 0.5}]
    content["tags"] = [{"tag": bad, "value": bad, "clips": 1, "top1": 0.5, "interval": None}]
    content["missing"] = {bad: "failed: no frame decodes"}
    content["stage_two"] = {"run": bad, "unknown": bad}
    write_sealed(folder / "metrics.json", content)
    tables = {
        "per_class.csv": to_csv(PER_CLASS_HEADER, [(bad, 1, "", "", 0.0, bad)]),
        "predictions.csv": to_csv(PREDICTIONS_HEADER, [(f"a/{bad}", bad, "b", 0.5, bad, bad, 9)]),
    }
    change_tables(folder, tables)
    run = run.rename(tmp_path / "<u>run & 'x'")
    folder.rename(run / "evaluate" / "split1")
    page = Page(report(run))
    assert (len(page.elements["script"]), "u" in page.elements) == (1, False)
    assert page.text.count(bad) == 11
    assert page.text.count(run.name) == 3
    assert page.open == []


def test_tables_tell_numbers_from_text(run):
    evaluate(run)
    rows = [("x", 1200, 0.25, "", 0.5, ""), ("y", 0, "", "", 0.0, "x")]
    change_tables(run / "evaluate" / "split1", {"per_class.csv": to_csv(PER_CLASS_HEADER, rows)})
    page = report(run).read_text("utf-8")
    assert '<td data-value="" data-label="recall">-</td>' in page
    assert '<td data-value="1200" data-label="clips">1,200</td>' in page
    assert '<td data-value="0.250000" data-label="precision">' in page
    assert '<th scope="col" class="text">class</th>' in page
    assert '<th scope="col">precision</th>' in page


@pytest.mark.parametrize("name", ["predictions.csv", "per_class.csv"])
def test_a_file_that_is_gone_or_damaged_is_named(run, name):
    evaluate(run)
    path = run / "evaluate" / "split1" / name
    whole = path.read_text()
    for content in (
        "",
        whole.replace("clip", "", 1).replace(",", ";"),
        whole.replace("0", "none"),
        whole + "a,b\n",
    ):
        path.write_text(content)
        with pytest.raises(RunError, match=rf"{name}: damaged .*again") as raised:
            report(run)
        assert "\n" not in str(raised.value)
    path.unlink()
    with pytest.raises(RunError, match=rf"{name}: cannot be read.*evaluate` again"):
        report(run)


def test_what_the_figure_is_of_stands_before_everything_else(run):
    evaluate(run)
    add_event(run, TRAINED, 100.0, "a GPU")
    text = Page(report(run)).words
    first = text[: text.index("Protocol and leakage")]
    for fact in (
        "Data",
        "4 classes",
        "random",
        "mnasnet0_5",
        " UTC, in 2 min, on a GPU, ",
        "bidirectional GRU",
    ):
        assert fact in first, fact
    assert f"har-cache train-head --cache {run.parent / 'cache'} --run {run}" in first
    assert f"har-cache evaluate {run}" in first
    assert first.startswith("RANDOM WEIGHTS: ")


def test_no_date_stands_on_the_page_of_a_run_that_an_earlier_version_made(run):
    evaluate(run)
    (run / "history.json").unlink()
    text = Page(report(run)).words
    assert "UTC" not in text and "Trained" not in text and "Evaluated" not in text


def test_links_lead_somewhere(run):
    evaluate(run)
    evaluate(run, split=3)
    page = Page(report(run))
    ids = [found["id"] for elements in page.elements.values() for found in elements if "id" in found]
    assert len(set(ids)) == len(ids)
    addresses = [link["href"] for link in page.elements["a"]]
    assert {"#result", "#lists", "#classes", "#copy"} <= set(addresses)
    for address in addresses:
        assert address[1:] in ids if address.startswith("#") else (run / unquote(address)).is_file(), address
    assert "./evaluate/split1/metrics.json" in addresses and "./config.json" in addresses


def test_a_leaked_figure_is_struck_out_wherever_it_stands(run):
    evaluate(run)
    (leaked,) = evaluate(run, split=3)
    figure = f"{100 * leaked.metrics.top1:.1f}%"
    page = Page(report(run))  # beside the honest one
    assert page.within["s"][0] == figure and "not a test accuracy" in page.text
    shutil.rmtree(run / "evaluate" / "split1")
    page = Page(report(run))  # alone
    assert page.of_class("div", "figure") == ["no test"]
    assert figure not in "".join(page.within["title"])
    (lead,) = page.of_class("section", "lead")
    assert lead.count("%") - 1 == len(page.within["s"]) > 2  # all but chance
    assert page.words.count("Clips that the model knew are among these") == 4  # confusion, classes, calibration, tags


def test_cells_say_what_they_are_where_rows_are_stacked(run):
    evaluate(run)
    evaluate(run, split=3)
    page = Page(report(run))
    assert len(page.elements["table"]) >= 5
    cells = page.elements["td"]
    of_the_matrix = 4 * 4
    assert sum("data-label" not in cell for cell in cells) == of_the_matrix


def test_models_of_several_splits_are_collapsed(tmp_path):
    cache = write_cache(tmp_path / "cache", small_subsets(), class_signal=0.3)
    for split in (1, 2):
        write_run(tmp_path / "all" / f"split{split}", cache, split)
    evaluate(tmp_path / "all")
    page = Page(report(tmp_path / "all"))
    models = [details for details in page.elements["details"] if details.get("class") == "model"]
    assert [model["id"] for model in models] == ["model1", "model2"] and not any("open" in model for model in models)
    assert f"har-cache train-head --cache {tmp_path / 'cache'} --run {tmp_path / 'all'} --split all" in page.words


def test_tags_of_one_value_are_left_out(run):
    (evaluation,) = evaluate(run)
    values = {tag: [row.value for row in evaluation.metrics.tags if row.tag == tag] for tag in ("quality", "camera")}
    assert (len(values["quality"]), len(values["camera"])) == (1, 2)
    text = Page(report(run)).words
    assert "camera motion: camera moves" in text and "video quality: medium" not in text


def test_settings_keep_the_names_that_they_have_in_the_file(run):
    evaluate(run)
    page = Page(report(run))
    names = set(page.within["code"])
    assert {"training.batch_size", "recipe.projection_fit", "best.val_loss"} <= names
    assert not {"projection_fit", "classes", "schema"} & names


@pytest.mark.parametrize(
    ("value", "shown"),
    [(["center", "flip"], "center, flip"), (0.9074074074, "0.9074"), (2e-3, "0.002"), (True, "yes"), (640, "640")],
)
def test_settings_are_written_as_people_write_them(value, shown):
    assert list(flat({"a": {"b": value}, "none": None})) == [("a.b", shown)]


def test_a_damaged_history_is_named(run):
    evaluate(run)
    (run / "history.json").write_text('{"events": {}}')
    with pytest.raises(RunError, match=r"history\.json: damaged.*remove it"):
        report(run)


def test_clips_that_did_not_decode_are_listed_with_the_reason(tmp_path):
    failed = dict.fromkeys(list(small_subsets())[:2], "no frame decodes")  # one film of the test list, or of training
    cache = write_cache(tmp_path / "cache", small_subsets(), failed=failed)
    run = write_run(tmp_path / "run", cache)
    evaluate(run)
    text = Page(report(run)).words
    assert "2 did not decode, in whatever list" in text
    assert all(f"{key}no frame decodes" in text for key in failed)
    shutil.rmtree(tmp_path / "cache")
    assert "did not decode" not in Page(report(run)).words
