import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from har_cache.errors import HarCacheError
from har_cache.evaluation.filmstrip import filmstrip
from har_cache.evaluation.page import element, html, table
from har_cache.evaluation.report import report
from har_cache.plots import plot_curves

from ..helpers.synthetic import small_subsets, write_cache, write_run
from ..helpers.videos import moving_frames, write_video
from .test_evaluate import evaluate, no_network  # noqa: F401


class Page(HTMLParser):
    """What the tests look for: elements by name, all text, and whether every element is closed."""

    VOID = frozenset({"meta", "img"})

    def __init__(self, path: Path):
        super().__init__()
        self.elements: dict[str, list[dict[str, str]]] = {}
        self.text, self.open = "", []
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag, attrs):
        self.elements.setdefault(tag, []).append(dict(attrs))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def run(tmp_path) -> Path:
    cache = write_cache(tmp_path / "cache", small_subsets(), class_signal=0.1)
    return _with_curves(write_run(tmp_path / "run", cache))


def _with_curves(run: Path) -> Path:
    plot_curves(run / "metrics.csv", run / "curves.png", best=1)
    return run


def test_the_page_needs_nothing_else(run):
    evaluate(run)
    page = Page(report(run))
    assert page.open == []
    assert all(image["src"].startswith("data:image/") for image in page.elements["img"])
    assert all(image["alt"] for image in page.elements["img"])
    assert not page.elements.keys() & {"link", "iframe", "a"}
    assert not any("src" in script for script in page.elements["script"])
    assert not re.search(r"url\(|@import|https?://", (run / "report.html").read_text())
    assert any(meta.get("name") == "viewport" for meta in page.elements["meta"])
    assert all("scope" in head for head in page.elements["th"])


def test_the_page_says_what_the_figure_is(run):
    (evaluation,) = evaluate(run)
    text = Page(report(run)).text
    assert f"{100 * evaluation.metrics['top1']:.1f}%" in text
    assert "Leakage: 0 seen, 0 siblings" in text
    assert "Protocol: trained on" in text
    assert "WARNING" not in text
    assert evaluation.metrics["fingerprint"] in text


def test_other_test_lists_stand_beside_with_their_leakage(run):
    evaluate(run)
    evaluate(run, split=3)
    text = Page(report(run)).text
    assert "split 1 (trained on 1)" in text
    assert "split 3 (trained on 1)" in text
    assert "WARNING" not in text  # the headline is that of the run's own split


def test_a_leaking_headline_comes_with_its_warning(run):
    evaluate(run, split=3)
    text = Page(report(run)).text
    assert "WARNING: the model was trained on 24 of these 24 clips (100.0%)" in text
    assert text.index("WARNING") < text.index("top-1")


def test_three_splits_on_one_page(tmp_path):
    cache = write_cache(tmp_path / "cache", small_subsets(), class_signal=0.3)
    for split in (1, 2, 3):
        _with_curves(write_run(tmp_path / "all" / f"split{split}", cache, split))
    evaluate(tmp_path / "all")
    text = Page(report(tmp_path / "all")).text
    assert "mean over 3 splits" in text
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
    for content in ("{", "[]", '{"schema": "har-evaluation/0"}'):
        (run / "evaluate" / "split1" / "metrics.json").write_text(content)
        with pytest.raises(HarCacheError, match=r"metrics\.json .*again"):
            report(run)


def test_a_run_without_curves_still_has_a_page(run):
    evaluate(run)
    (run / "curves.png").unlink()
    assert "No curves.png" in Page(report(run)).text


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


def test_a_filmstrip_is_spread_over_the_clip(tmp_path):
    path = write_video(tmp_path / "clip.avi", moving_frames(40))
    assert len(set(filmstrip(path, 40))) == 6
    assert len(filmstrip(path, 1)) == 1
    assert len(filmstrip(path, 3)) == 3


def test_hostile_names_stay_text(tmp_path):
    bad = "<script>alert(1)</script>&\"'"
    safe = str(element("td", bad, title=bad))
    assert "<script>" not in safe
    assert Page.__new__(Page).VOID  # the parser below sees one element, and the text as it was
    (tmp_path / "page.html").write_text(safe)
    page = Page(tmp_path / "page.html")
    assert (page.text, page.elements) == (bad, {"td": [{"title": bad}]})
    assert html(element("p", "a")) == "<p>a</p>"
    assert "<script>" not in table(bad, {"name": bad}, [{"name": bad}])


def test_tables_tell_numbers_from_text():
    content = table("caption", {"name": "name", "share": "share", "n": "n"}, [{"name": "x", "share": None, "n": 1200}])
    assert 'data-value=""' in content
    assert 'data-value="1200"' in content
    assert "1,200" in content
