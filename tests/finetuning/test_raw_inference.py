"""Class probabilities from raw frames: the same as from a cache."""

import copy
import itertools
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from har_cache.cache.reader import FeatureCache
from har_cache.data.splits import TEST
from har_cache.encoder.weights import load_encoder
from har_cache.extraction.extract import extract
from har_cache.finetuning.raw_batches import RawClips
from har_cache.finetuning.raw_inference import probabilities_of_all, raw_probabilities
from har_cache.model.head import Head
from har_cache.model.network import CNNBidirectionalRNN
from har_cache.settings.extraction import ExtractSettings
from har_cache.settings.training import HeadSettings
from har_cache.training.batches import PLACES, Sequences
from har_cache.training.inference import probabilities
from har_cache.workers.prefetch import FramePrefetcher

from ..helpers.moves import JUDGING, cuda_in_name
from ..helpers.progress import Lines

VIEWS = ("center", "flip", "full")


@dataclass(frozen=True)
class Extracted:
    """A data set, its cache of all views, and a network of the cache's encoder and an untrained head."""

    data: Path
    cache: FeatureCache
    network: CNNBidirectionalRNN


@pytest.fixture(scope="module")
def extracted(sample_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Extracted:
    folder = tmp_path_factory.mktemp("all views") / "cache"
    extract(ExtractSettings(data=sample_data, cache=folder, weights="random", precision="fp32", views=VIEWS, workers=1))
    torch.manual_seed(0)
    head = Head(2, HeadSettings(hidden=16, width=16))
    encoder = load_encoder((folder / "encoder.safetensors").read_bytes())
    return Extracted(sample_data, FeatureCache(folder), CNNBidirectionalRNN(encoder, head).eval())


def test_raw_predictions_are_those_of_the_cache(extracted: Extracted) -> None:
    cache, network = extracted.cache, extracted.network
    clips = np.flatnonzero(cache.subsets[:, 0] == TEST)
    every = Sequences.from_cache(cache)

    def expected(views: tuple[str, ...]) -> np.ndarray:
        rows = [VIEWS.index(name) for name in views]
        return probabilities(network.head, replace(every, embeddings=every.embeddings[rows]), clips, 8)

    alone = [expected((name,)) for name in VIEWS]
    assert min(np.abs(a - b).max() for a, b in itertools.combinations(alone, 2)) > 1e-3  # the views differ
    with FramePrefetcher(8 * len(PLACES), 1, 2) as prefetcher:
        raw = RawClips(cache, cache.labels, cache.files(extracted.data), prefetcher, "cpu")
        for views in (VIEWS[:1], VIEWS[:2], VIEWS, ("center", "full")):
            found = raw_probabilities(network, raw, clips, 8, views)
            assert list(found) == clips.tolist() and not raw.failures
            np.testing.assert_allclose(np.stack(list(found.values())), expected(views), atol=2e-4)


def test_a_clip_that_fails_has_no_probabilities_and_is_told_once(extracted: Extracted, tmp_path: Path) -> None:
    cache, told = extracted.cache, Lines()
    data = shutil.copytree(extracted.data, tmp_path / "data")
    (bad,) = data.glob(f"**/{cache.clip_keys[1].partition('/')[2]}")
    bad.write_bytes(b"no video")
    with FramePrefetcher(4 * len(PLACES), 1, 2) as prefetcher:
        raw = RawClips(cache, cache.labels, cache.files(data), prefetcher, "cpu", told)
        found = raw_probabilities(extracted.network, raw, np.arange(3), 4, VIEWS)
        alone = raw_probabilities(extracted.network, raw, np.arange(2, 3), 4, VIEWS)
    assert list(found) == [0, 2] and list(raw.failures) == [cache.clip_keys[1]] and len(told.said) == 1
    np.testing.assert_array_equal(found[2], alone[2])


def test_several_networks_see_what_each_alone_sees(extracted: Extracted) -> None:
    cache, other = extracted.cache, copy.deepcopy(extracted.network)
    with torch.no_grad():
        other.head.classifier.bias += torch.tensor([1.0, -1.0])
    clips, asked = np.array([3, 1]), [(extracted.network, 8), (other, 8), (other, 5)]
    with FramePrefetcher(13 * len(PLACES), 1, 2) as prefetcher:
        raw = RawClips(
            cache, cache.labels, cache.files(extracted.data), prefetcher, "cpu", failures={cache.clip_keys[0]: "?"}
        )
        alone = [raw_probabilities(network, raw, clips, frames, VIEWS) for network, frames in asked]
        found = probabilities_of_all(asked, raw, np.array([3, 0, 1]), VIEWS)
    assert list(found) == [3, 1] and found[3].shape == (3, 2)  # what failed before is not tried again
    for i in clips:
        np.testing.assert_allclose(found[i], [of_one[i] for of_one in alone], atol=1e-5)
        assert not np.allclose(found[i][0], found[i][1]) and not np.allclose(found[i][1], found[i][2], atol=1e-4)


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_on_cuda_all_is_computed_in_fp32_and_what_was_moved_there_can_learn(
    extracted: Extracted, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    """Parameters that moved in inference mode could not."""
    cache, network = extracted.cache, copy.deepcopy(extracted.network)
    clips = np.arange(2)
    plain = probabilities(network.head, Sequences.from_cache(cache), clips, 8)
    with cuda_in_name(monkeypatch) as cuda, FramePrefetcher(8 * len(PLACES), 1, 2) as prefetcher:
        sequences = Sequences.from_cache(cache, device)
        np.testing.assert_array_equal(probabilities(network.head, sequences, clips, 8), plain)
        assert cuda.products == {JUDGING} and device in cuda.places
        raw = RawClips(cache, cache.labels, cache.files(extracted.data), prefetcher, device)
        found = raw_probabilities(network, raw, clips, 8, VIEWS)
        assert cuda.products == {JUDGING}
        np.testing.assert_allclose(np.stack(list(found.values())), plain, atol=2e-4)
        frames = torch.rand(1, 2, 3, 224, 224, device=device)
        network.train()(frames, torch.ones(1, 2, dtype=torch.bool, device=device)).sum().backward()
    assert all(p.grad is not None and not p.is_inference() for p in network.parameters())
