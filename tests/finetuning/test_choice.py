from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from har_cache.finetuning.choice import GAINED, NOT_SHOWN, ONE_FILM, Ends, choose, compare, in_words
from har_cache.model.config import Candidate, Choice
from har_cache.progress import Progress
from har_cache.statistics.calibration import mean_loss, tempered
from har_cache.statistics.jackknife import mean_by_film

CLIPS, CLASSES = 60, 4
LABELS = np.arange(CLIPS) % CLASSES
FILMS = [str(i // 3) for i in range(CLIPS)]


def probabilities(evidence: float, seed: int = 0) -> np.ndarray:
    """Of a model that is right more often the more `evidence` it has, with noise of a seed."""
    logits = np.random.default_rng(seed).normal(size=(CLIPS, CLASSES)) + evidence * np.eye(CLASSES)[LABELS]
    return tempered(np.exp(logits) / np.exp(logits).sum(1, keepdims=True), 1.0)


def compared(*each: np.ndarray, films: list[str] = FILMS) -> Choice:
    return compare([0.0, 0.5, 1.0][: len(each)], each, LABELS, films)


@given(st.floats(0.3, 3.0), st.floats(0.3, 3.0))
def test_sharper_and_softer_are_neither_better_nor_worse(start: float, blend: float) -> None:
    """Temperatures of the fit stay within its bounds here."""
    before, after = probabilities(1.0), probabilities(1.2)
    plain, changed = compared(before, after), compared(tempered(before, start), tempered(after, blend))
    assert (changed.gain, changed.error) == pytest.approx((plain.gain, plain.error), abs=1e-6)
    assert changed.kept == plain.kept
    fooled = compared(before, tempered(before, blend))
    assert fooled.gain == pytest.approx(0, abs=1e-9)
    assert fooled.start.loss == pytest.approx(plain.start.loss)


def test_sharpening_the_same_predictions_is_not_kept_though_the_loss_falls() -> None:
    soft = tempered(probabilities(2.0), 2.0)
    found = compared(soft, tempered(soft, 0.55))
    assert found.blend.loss < found.start.loss - 0.05
    assert abs(found.gain) < 1e-6
    assert found.blend.temperature == pytest.approx(found.start.temperature / 0.55, rel=1e-6)


def test_a_gain_above_its_standard_error_is_kept() -> None:
    start, blend, tuned = (probabilities(evidence) for evidence in (1.0, 1.5, 1.2))
    found = compared(start, blend, tuned)
    assert (found.kept, found.reason, found.films, found.clips) == (0.5, GAINED, 20, CLIPS)
    assert [candidate.blend for candidate in found.candidates] == [0.0, 0.5, 1.0]
    assert found.gain == pytest.approx(found.start.scaled_loss - found.blend.scaled_loss)
    assert found.error is not None and 0 < found.error < found.gain
    assert found.start.accuracy == (start.argmax(1) == LABELS).mean()
    losses = [
        -np.log(tempered(p, c.temperature)[np.arange(CLIPS), LABELS])
        for p, c in zip((start, blend), found.candidates, strict=False)
    ]
    expected = mean_by_film(losses[0] - losses[1], FILMS)
    assert (found.gain, found.error) == pytest.approx((expected.value, expected.error))


def test_a_gain_that_noise_may_be_is_not_kept() -> None:
    """Of many pairs of models that know as much, one in six is kept by chance, as one standard error has it."""
    found = [compared(probabilities(1.0, 2 * i), probabilities(1.0, 2 * i + 1)) for i in range(200)]
    better = [choice for choice in found if choice.gain > 0]
    kept = [choice for choice in found if choice.kept]
    assert len(kept) < len(better)
    assert all(choice.reason == (GAINED if choice.kept else NOT_SHOWN) for choice in found)
    assert 0.1 < len(kept) / len(found) < 0.24


def test_the_gain_is_paired() -> None:
    """Noise that both share, far larger than the difference, hides nothing."""
    start = probabilities(1.0)
    logits = np.log(start) + 0.15 * np.eye(CLASSES)[LABELS]
    found = compared(start, np.exp(logits) / np.exp(logits).sum(1, keepdims=True))
    assert found.kept == 0.5 and found.error is not None
    assert found.error < 0.2 * mean_by_film(-np.log(start[np.arange(CLIPS), LABELS]), FILMS).error


def test_the_error_is_by_film() -> None:
    alone = compared(probabilities(1.0), probabilities(1.1, 1), films=[str(i) for i in range(CLIPS)])
    twins = compare(
        [0.0, 1.0],
        [np.tile(probabilities(1.0), (2, 1)), np.tile(probabilities(1.1, 1), (2, 1))],
        np.tile(LABELS, 2),
        [str(i % CLIPS) for i in range(2 * CLIPS)],
    )
    assert (twins.gain, twins.error) == pytest.approx((alone.gain, alone.error))


def test_with_one_film_the_start_is_kept_whatever_the_gain() -> None:
    found = compared(probabilities(0.0), probabilities(5.0), films=["a"] * CLIPS)
    assert (found.kept, found.reason, found.error, found.needed, found.films) == (0.0, ONE_FILM, None, None, 1)
    assert found.gain > 0.5


@pytest.mark.parametrize(("films", "wider"), [(2, 1.837), (4, 1.197), (10, 1.059), (60, 1.009)])
def test_the_fewer_films_the_more_a_gain_has_to_exceed_its_error(films: int, wider: float) -> None:
    found = compared(probabilities(1.0), probabilities(1.2, 1), films=[str(i % films) for i in range(CLIPS)])
    assert found.error is not None and found.needed == pytest.approx(wider * found.error, rel=1e-3)
    assert found.kept == (0.5 if found.gain > found.needed else 0.0)


@pytest.mark.parametrize("films", [2, 3, 5, 20])
def test_models_as_good_as_each_other_are_exchanged_one_time_in_six_however_few_films(films: int) -> None:
    """Each film has a difference of its own beside that of its clips."""
    rng, kept, clips = np.random.default_rng(films), 0, 8 * films
    labels = np.arange(clips) % CLASSES
    for _ in range(400):
        logits = rng.normal(size=(2, clips, CLASSES))
        evidence = 1.5 + np.repeat(rng.normal(size=(2, films)), 8, axis=1)
        logits[:, np.arange(clips), labels] += evidence
        pair = np.exp(logits) / np.exp(logits).sum(2, keepdims=True)
        kept += compare([0.0, 0.5], pair, labels, [str(i // 8) for i in range(clips)]).kept > 0
    assert 0.1 < kept / 400 < 0.23, kept / 400


def test_a_probability_of_zero_is_no_infinite_loss() -> None:
    sure = np.eye(CLASSES, dtype=np.float32)[(LABELS + (np.arange(CLIPS) == 0)) % CLASSES]
    found = compared(probabilities(1.0), sure)
    assert np.isfinite([found.gain, found.blend.loss, found.blend.scaled_loss, found.error]).all()


START, BLEND, TUNED = (Candidate(blend, 0.5, 0.4, 0.8, 0.7) for blend in (0.0, 0.5, 1.0))


@pytest.mark.parametrize(
    ("candidates", "error", "kept", "reason", "begins"),
    [
        ((START, BLEND, TUNED), 0.01, 0.5, GAINED, "kept the blend (0.5 tuned): the gain exceeds"),
        ((START, TUNED), 0.01, 1.0, GAINED, "kept the tuned weights: the gain exceeds"),
        ((START, BLEND, TUNED), 0.03, 0.0, NOT_SHOWN, "kept the start: the gain does not exceed"),
        ((START, BLEND, TUNED), None, 0.0, ONE_FILM, "kept the start: clips of one film"),
    ],
)
def test_in_words_it_says_what_was_kept_and_why(
    candidates: tuple[Candidate, ...], error: float | None, kept: float, reason: str, begins: str
) -> None:
    said = in_words(Choice(candidates, 54, 20, 0.0234, error, error, kept, reason))
    assert said.startswith(begins) and "54 validation clips of 20 films: +0.023" in said
    assert (f"(standard error {error}0; needed: {error}0)" in said) is (error is not None)
    assert said.count("0.400 and 80.0% right") == len(candidates)
    assert ("the blend (0.5 tuned) 0.400" in said) is (BLEND in candidates)


class Known(torch.nn.Module):
    """Stands for a network: its one weight says which it is."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(weight))


@pytest.mark.parametrize("start_frames", [8, 16])
@pytest.mark.parametrize(("share", "evidence"), [(0.5, 2.0), (0.5, 0.2), (1.0, 2.0), (1.0, 0.2)])
def test_the_start_competes_with_its_own_frames_and_is_told_with_those_of_the_run(
    monkeypatch: pytest.MonkeyPatch, start_frames: int, share: float, evidence: float
) -> None:
    clips = np.arange(40)
    found = {
        (0.0, 8): probabilities(1.0),
        (0.0, 16): probabilities(0.9),
        (share, 16): probabilities(evidence, 1),
        (1.0, 16): probabilities(0.8, 2) if share < 1 else probabilities(evidence, 1),
    }

    def judge(networks: Any, raw: Any, clips: Any, views: Any, progress: Any) -> dict[int, np.ndarray]:
        each = [found[float(network.weight.detach()), frames] for network, frames in networks]
        return {int(i): np.stack([of_one[i] for of_one in each]) for i in clips}

    monkeypatch.setattr("har_cache.finetuning.choice.probabilities_of_all", judge)
    ends: Any = Ends(Known(0.0), Known(1.0), start_frames, 16, epochs=7)
    raw: Any = SimpleNamespace(labels=torch.from_numpy(LABELS), failures={})
    network, best, choice = choose(ends, share, raw, clips, ("center",), FILMS, Progress())
    judged = [found[0.0, start_frames], found[share, 16], *([found[1.0, 16]] if share < 1 else [])]
    expected = compare([0.0, share, 1.0][: len(judged)], [each[clips] for each in judged], LABELS[clips], FILMS[:40])
    assert choice == expected and choice.kept == (share if evidence == 2.0 else 0.0)
    assert float(network.weight.detach()) == choice.kept
    kept = found[choice.kept, 16][clips]
    assert best.epoch == (7 if choice.kept else 0) and best.val_loss == pytest.approx(mean_loss(kept, LABELS[clips]))
    assert best.val_accuracy == (kept.argmax(1) == LABELS[clips]).mean()
