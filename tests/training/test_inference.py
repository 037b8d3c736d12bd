"""Class probabilities: averaged over places and views."""

import numpy as np
import torch

from har_cache.training.batches import Sequences
from har_cache.training.inference import probabilities


class Tell(torch.nn.Module):
    """Logits that say which frames of which view were given."""

    def forward(self, embeddings: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        seen = (embeddings.float()[:, :, 1:3] * mask[:, :, None]).sum(1)
        return torch.stack([seen[:, 0] / 10, seen[:, 1], torch.zeros(len(mask))], 1)


def test_predictions_average_probabilities_over_places_and_views() -> None:
    lengths = [7, 30, 12]
    embeddings = torch.zeros(2, sum(lengths), 256, dtype=torch.float16)  # (clip, frame, view, 0, ...)
    embeddings[:, :, 0] = torch.arange(3).repeat_interleave(torch.tensor(lengths))
    embeddings[:, :, 1] = torch.cat([torch.arange(n) for n in lengths])
    embeddings[:, :, 2] = torch.arange(2)[:, None]
    sequences = Sequences(embeddings, torch.tensor([0, *np.cumsum(lengths)]), torch.arange(3))
    clips = np.array([2, 0])
    ways = [
        Tell()(*sequences.eval_batch(torch.from_numpy(clips), 5, place, view)[:2]).softmax(1)
        for place in (1 / 6, 1 / 2, 5 / 6)
        for view in (0, 1)
    ]
    found = probabilities(Tell(), sequences, clips, frames=5)
    assert found.dtype == np.float32 and found.shape == (2, 3)
    np.testing.assert_allclose(found, torch.stack(ways).mean(0).numpy(), rtol=1e-6)
