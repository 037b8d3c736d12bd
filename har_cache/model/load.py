"""The whole network of a run, frames to logits, from the run's own directory: no cache, no data set."""

from dataclasses import dataclass
from pathlib import Path

from torchvision.models import MNASNet

from ..cache.recipe import Recipe
from ..encoder.weights import Weights, load_encoder, load_state, new_model, tensors_sha256
from ..errors import RunError, WeightsError
from ..files import read_file, sha256
from . import run as runs
from .head import CNNBidirectionalRNN
from .run import Run


@dataclass(frozen=True)
class Facts:
    """What is to be known of a run's network beside its weights.

    `frames`: steps a clip that it was trained with; `views`, `precision`, `decoder`: those of the embeddings that
    stage two learnt from.
    """

    classes: tuple[str, ...]
    frames: int
    views: tuple[str, ...]
    precision: str
    decoder: str


def load_network(run: Run) -> CNNBidirectionalRNN:
    """Encoder and head of a run of either stage, float32 on the CPU, in eval mode.

    Raises HarCacheError where a file of the run is missing, damaged, or of an older version of har-cache.
    """
    return CNNBidirectionalRNN(load_run_encoder(run), run.load_head()).eval()


def load_run_encoder(run: Run) -> MNASNet:
    """The encoder of a run, in eval mode: its own where it was fine-tuned, else that of its cache, of which it keeps a
    copy. Raises HarCacheError as `load_network` does.
    """
    if run.config["stage"] == runs.FINETUNED:
        try:
            return load_state(new_model(), run.state("encoder")).eval()
        except (RuntimeError, ValueError) as error:
            raise RunError(f"{run.path / runs.MODEL}: does not hold an encoder; fine-tune again") from error
    file = run.path / runs.ENCODER
    data = read_file(file) if file.exists() else b""
    if sha256(data) != read_recipe(run).encoder_sha256:
        what = "damaged or replaced" if data else "not there"
        raise RunError(f"{file}: {what}; train again with --overwrite")
    try:
        return load_encoder(data)
    except WeightsError as error:
        raise WeightsError(f"{run.path}: {error}") from error


def run_weights(path: Path) -> Weights:
    """The encoder of the run in this directory, to extract a new cache with. Raises HarCacheError as `load_network`."""
    run = Run.open(path)
    recipe = read_recipe(run)
    tuned = run.config["stage"] == runs.FINETUNED
    state = load_run_encoder(run).state_dict()
    backbone = {name: tensor for name, tensor in state.items() if name.startswith("layers.")}
    how, digest = ("fine-tuned" if tuned else "of a run"), run.config["model_sha256"][:12]
    return Weights(
        name=f"{recipe.weights}, {how} ({digest})",
        backbone=backbone,
        projection=(state["classifier.weight"], state["classifier.bias"]),
        sha256=tensors_sha256(backbone),
        projection_name=f"{recipe.projection}, {how} ({digest})",
        projection_fit=recipe.projection_fit,
        trained_split=run.config["split"] if tuned else recipe.trained_split,
    )


def read_facts(run: Run) -> Facts:
    """What is to be known of the network that `load_network` gives."""
    recipe = read_recipe(run)
    frames = run.config["training"]["frames"]
    return Facts(tuple(run.config["classes"]), frames, recipe.views, recipe.precision, recipe.decoder)


def read_recipe(run: Run) -> Recipe:
    """The recipe of the cache that stage two learnt from. Raises RunError on a run that does not hold it."""
    if not isinstance(run.config.get("recipe"), dict):
        raise RunError(f"{run.path}: is a run of an older har-cache, without its encoder; train again with --overwrite")
    return Recipe.from_dict(run.config["recipe"])
