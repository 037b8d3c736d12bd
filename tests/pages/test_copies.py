from dataclasses import replace

from har_cache.evaluation.results import Accuracy
from har_cache.pages.copies import figures_to_copy, to_cite

from ..evaluation.test_results import METRICS


def test_figures_are_there_to_be_pasted() -> None:
    markdown, latex = figures_to_copy("a_run", [("my_run", METRICS)], ["RANDOM WEIGHTS: 100% of no use"])
    assert "| my\\_run | split 3 | 4 | 75.0% | 25.0 to 100.0 | - | 70.0% | 50.0% |  |" in markdown.lines
    assert "my\\_run & split 3 & 4 & 75.0\\% & 25.0 to 100.0 & - & 70.0\\% & 50.0\\% &  \\\\" in latex.lines
    assert "RANDOM WEIGHTS" in markdown.text and "% RANDOM WEIGHTS" in latex.text


def test_a_leaked_figure_says_in_its_row_that_it_is_none() -> None:
    leaks = replace(METRICS, leakage=replace(METRICS.leakage, seen=Accuracy(2, 1.0, None, 0.5)))
    for copy in figures_to_copy("runs", [("run", leaks)], []):
        (row,) = (line for line in copy.lines if "split 3" in line)
        assert "(75.0" in row and "no test accuracy: leaks; clean clips 75.0" in row


def test_the_data_set_is_cited_where_it_is_hmdb51() -> None:
    assert "@software{har_cache," in to_cite(False).text and "kuehne2011hmdb" not in to_cite(False).text
    assert "kuehne2011hmdb" in to_cite(True).text
