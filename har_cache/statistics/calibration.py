"""Whether probabilities are as high as accuracy is: a temperature for them, and their calibration error."""

from dataclasses import dataclass

import numpy as np

TEMPERATURES = 0.05, 20.0  # the least and the greatest; where all clips are right, the lower the better
BINS = 15
_LEAST = np.finfo(np.float32).tiny  # a probability of 0 would be infinitely wrong
_HALVINGS = 60


@dataclass(frozen=True)
class Bin:
    """The clips whose likeliest class has a probability of `low` to `high`: how many, the mean of it, and how many of
    them are right, as a share of 1.
    """

    low: float
    high: float
    clips: int
    confidence: float
    accuracy: float


def fit_temperature(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """The temperature by which to divide log-probabilities, (clips, classes), so that those of the true classes,
    `labels` (clips), are the likeliest: above 1 where the model is too sure, below 1 where it is not sure enough.

    Within TEMPERATURES, and 1 where there is no clip. Dividing changes no prediction. To be fitted on clips that the
    model was not trained on, and is not reported on.
    """
    if not len(labels):
        return 1.0
    logs = _logs(probabilities)
    true = logs[np.arange(len(labels)), labels]
    low, high = (np.log(1 / temperature) for temperature in reversed(TEMPERATURES))
    for _ in range(_HALVINGS):  # the loss is convex in 1 / temperature: its slope has one zero at most
        middle = (low + high) / 2
        powers = _softmax(logs * np.exp(middle))
        falls = float(((powers * logs).sum(1) - true).mean()) < 0
        low, high = (middle, high) if falls else (low, middle)
    return float(np.exp(-(low + high) / 2))


def tempered(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities, float64 (clips, classes), whose logarithms were divided by the temperature."""
    return _softmax(_logs(probabilities) / temperature)


def losses(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The negative log-probability, in nats, of the true class of each clip, float64 (clips); `labels`: the classes."""
    return -_logs(probabilities)[np.arange(len(labels)), labels]


def mean_loss(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """The mean of `losses`."""
    return float(losses(probabilities, labels).mean())


def calibration_error(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """The expected calibration error (Guo et al. 2017), a share of 1: how far the probability of the likeliest class
    is from the share of clips where it is right, on average over clips.

    In BINS equal intervals of that probability, each weighed by its clips. Few clips in a bin make it larger, however
    well calibrated the model is. Raises ValueError where there is no clip.
    """
    if not len(labels):
        raise ValueError("no clip to find a calibration error of")
    return confidence_error(probabilities.max(1), probabilities.argmax(1) == labels)


def confidence_error(confidence: np.ndarray, correct: np.ndarray) -> float:
    """As `calibration_error`, from the probability of the likeliest class of each clip, float (clips), and whether it
    is right, bool (clips); there is at least one.
    """
    surplus = confidence - correct
    return float(np.abs(np.bincount(_bins(confidence), weights=surplus, minlength=BINS)).sum() / len(correct))


def reliability(confidence: np.ndarray, correct: np.ndarray) -> tuple[Bin, ...]:
    """The bins of `confidence_error` that hold clips: what a reliability diagram shows."""
    place = _bins(confidence)
    return tuple(
        Bin(
            i / BINS, (i + 1) / BINS, int(inside.sum()), float(confidence[inside].mean()), float(correct[inside].mean())
        )
        for i in range(BINS)
        if (inside := place == i).any()
    )


def _bins(confidence: np.ndarray) -> np.ndarray:
    return np.minimum((confidence * BINS).astype(int), BINS - 1)


def _logs(probabilities: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(probabilities.astype(np.float64), _LEAST))


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)
