"""What a fine-tuning keeps: its weights, blended with those that it started from, where a gain is shown by clips that
neither learnt from; else the start.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from ..errors import HarCacheError
from ..model.config import BestEpoch, Candidate, Choice
from ..model.network import CNNBidirectionalRNN
from ..progress import Progress
from ..statistics.calibration import fit_temperature, losses, mean_loss, tempered
from ..statistics.jackknife import mean_by_film
from .blend import blend_weights
from .raw_batches import RawClips
from .raw_inference import probabilities_of_all

GAINED = "the gain exceeds its standard error"
NOT_SHOWN = "the gain does not exceed its standard error"
ONE_FILM = "clips of one film cannot tell a gain from chance"

_ONE_ERROR = 0.8413447460685429  # of a normal distribution that lies below its mean and one standard error


@dataclass(frozen=True)
class Ends:
    """A network before and after its fine-tuning, of `epochs`, and the frames a clip of each."""

    start: CNNBidirectionalRNN
    tuned: CNNBidirectionalRNN
    start_frames: int
    frames: int
    epochs: int


def choose(
    ends: Ends,
    share: float,
    raw: RawClips,
    clips: np.ndarray,
    views: Sequence[str],
    films: Sequence[str],
    progress: Progress,
) -> tuple[CNNBidirectionalRNN, BestEpoch, Choice]:
    """The network that is kept, start or blend, its figures, and why; of all `raw` clips `films` are those. `share`: of
    the tuned weights in the blend; `clips`: indices of those that judge, from raw frames, in all ways that a test
    averages.

    The start competes with the frames that it learnt with. Where it is kept, its figures are of those that the run is
    used with. Raises HarCacheError where no clip can be decoded.
    """
    blend = copy.deepcopy(ends.tuned)
    blend.load_state_dict(blend_weights(ends.start.state_dict(), ends.tuned.state_dict(), share))
    judged = [(ends.start, ends.start_frames), (blend, ends.frames)]
    judged += [(ends.tuned, ends.frames)] if share < 1 else []
    blends = [0.0, share, 1.0][: len(judged)]
    judged += [(ends.start, ends.frames)] if ends.start_frames != ends.frames else []
    with progress.task("Judging start, blend and tuned weights", "clip", len(clips)):
        by_clip = probabilities_of_all(judged, raw, clips, views, progress)
    if not by_clip:
        key, reason = next(iter(raw.failures.items()))
        raise HarCacheError(f"none of {len(clips)} validation clips can be decoded any more; {key}: {reason}")
    found, labels = np.stack(list(by_clip.values()), axis=1), raw.labels.numpy()[list(by_clip)]
    choice = compare(blends, found[: len(blends)], labels, [films[i] for i in by_clip])
    if choice.kept:
        return blend, BestEpoch(ends.epochs, choice.candidates[1].loss, choice.candidates[1].accuracy), choice
    start, _ = _judge(0.0, found[-1] if ends.start_frames != ends.frames else found[0], labels)
    return ends.start, BestEpoch(0, start.loss, start.accuracy), choice


def compare(
    blends: Sequence[float], probabilities: Sequence[np.ndarray] | np.ndarray, labels: np.ndarray, films: Sequence[str]
) -> Choice:
    """The choice between the first candidate, the start, and the second. `blends`: the share of the tuned weights in
    each; `probabilities`: of each, float (clips, classes), one clip or more; `labels`: int (clips); `films`: of each.

    Each is judged at a temperature of its own, the best for it on these clips, so that being surer or less sure of the
    same predictions gains nothing. The gain is paired by clip, and its error is by film. That the temperatures would be
    others without a film is left out of it: at its best a temperature changes the loss to second order alone.

    The gain has to exceed its standard error, as Student's t widens it: by 1.01 for 50 films, 1.06 for 10, 1.2 for 4.
    So a blend that is as good as the start is kept one time in six, whether films are few or many: 14 to 18 of 100 by
    simulation, for 2 to 20 films of the sizes of HMDB51; by the error alone it would be 25 of 100 for 2 films.
    """
    judged = [_judge(blend, of_one, labels) for blend, of_one in zip(blends, probabilities, strict=True)]
    (start, loss), (blend, blend_loss), *_ = judged
    gain = mean_by_film(loss - blend_loss, films)
    needed = None if gain.error is None else float(stdtrit(gain.films - 1, _ONE_ERROR)) * gain.error
    gained = needed is not None and gain.value > needed
    return Choice(
        candidates=tuple(candidate for candidate, _ in judged),
        clips=len(labels),
        films=gain.films,
        gain=gain.value,
        error=gain.error,
        needed=needed,
        kept=blend.blend if gained else start.blend,
        reason=GAINED if gained else ONE_FILM if needed is None else NOT_SHOWN,
    )


def in_words(choice: Choice) -> str:
    """What was kept, and why."""
    names = [_name(candidate) for candidate in choice.candidates]
    kept = names[1] if choice.kept else names[0]
    error = "" if choice.error is None else f" (standard error {choice.error:.3f}; needed: {choice.needed:.3f})"
    each = ", ".join(
        f"{name} {candidate.scaled_loss:.3f} and {candidate.accuracy:.1%} right"
        for name, candidate in zip(names, choice.candidates, strict=True)
    )
    return (
        f"kept {kept}: {choice.reason}. Gain in loss, each at its best temperature, on {choice.clips} validation clips "
        f"of {choice.films} films: {choice.gain:+.3f}{error}; {each}"
    )


def _judge(blend: float, probabilities: np.ndarray, labels: np.ndarray) -> tuple[Candidate, np.ndarray]:
    """A candidate, and its scaled loss on each clip, float64 (clips)."""
    temperature = fit_temperature(probabilities, labels)
    scaled = losses(tempered(probabilities, temperature), labels)
    right = float((probabilities.argmax(1) == labels).mean())
    loss = mean_loss(probabilities, labels)
    return Candidate(blend, loss, float(scaled.mean()), right, temperature), scaled


def _name(candidate: Candidate) -> str:
    if candidate.blend in (0, 1):
        return "the tuned weights" if candidate.blend else "the start"
    return f"the blend ({candidate.blend:g} tuned)"
