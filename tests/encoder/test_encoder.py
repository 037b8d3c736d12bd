import pytest
import torch

from har_cache import system
from har_cache.encoder import convolutions, encoder
from har_cache.encoder.encoder import FAITHFUL, Encoder, centred_cosine, choose_precision
from har_cache.encoder.folded import fold
from har_cache.settings.names import PRECISIONS

from ..helpers.networks import calibrated_model, picture_crops, plain_embeddings
from ..helpers.rounding import emulated_cuda


@pytest.fixture(scope="module")
def folded():
    return fold(calibrated_model())


@pytest.fixture(scope="module")
def fp32(folded):
    return Encoder(folded)


def flags(monkeypatch, *names):
    monkeypatch.setattr(system, "cpu_flags", lambda: frozenset(names))


def test_the_reference_frames_are_far_apart():
    # else the tests below would not tell a good encoder from a bad one
    embeddings = plain_embeddings()
    cosines = torch.nn.functional.normalize(embeddings - embeddings.mean(0)) @ (embeddings - embeddings.mean(0)).T
    assert embeddings.var(0).mean() == pytest.approx(1, rel=0.05)
    assert cosines.fill_diagonal_(0).max() < 0.9 * embeddings.norm(dim=1).max()


def test_fp32_gives_what_torchvisions_own_network_gives(folded):
    (embeddings,) = Encoder(folded)(picture_crops())
    assert embeddings.dtype == torch.float32
    assert centred_cosine(plain_embeddings(), embeddings).min() >= 0.9999
    torch.testing.assert_close(embeddings, plain_embeddings(), rtol=0, atol=5e-4)


@pytest.mark.parametrize("first", [1, 2, 17])
def test_a_frame_does_not_depend_on_the_batch_that_it_is_in(folded, fp32, first):
    crops = picture_crops()
    (whole,) = fp32(crops)
    fresh = Encoder(folded)
    fresh(crops[:first])  # weights are packed for the first shape that comes
    for n in range(1, 18):
        torch.testing.assert_close(fresh(crops[:n])[0], whole[:n], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(fresh(crops[30 : 30 + n])[0], whole[30 : 30 + n], rtol=1e-5, atol=1e-5)


def test_the_same_frames_give_the_same_bits(folded):
    assert torch.equal(Encoder(folded)(picture_crops()[:19]), Encoder(folded)(picture_crops()[:19]))


def test_frames_in_either_memory_format_and_left_as_they_were(fp32):
    crops = picture_crops()[:5]
    plain = crops.contiguous(memory_format=torch.contiguous_format)
    before = plain.clone()
    torch.testing.assert_close(fp32(plain), fp32(crops), rtol=1e-5, atol=1e-5)
    assert torch.equal(plain, before)


def test_the_flip_view_is_the_embedding_of_the_flipped_frame(folded, fp32):
    crops = picture_crops()[:9]
    center, flip = Encoder(folded, views=("center", "flip"))(crops)
    torch.testing.assert_close(center, fp32(crops)[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(flip, fp32(crops.flip(-1))[0], rtol=1e-5, atol=1e-5)
    assert (center - flip).abs().max() > 0.1


@pytest.mark.parametrize("views", [("center", "full"), ("center", "flip", "full")])
def test_the_full_view_is_the_embedding_of_the_whole_frame(folded, fp32, views):
    crops, whole = picture_crops()[:9], picture_crops()[20:29]
    embeddings = Encoder(folded, views=views)(crops, whole)
    assert len(embeddings) == len(views)
    seen = {"center": crops, "flip": crops.flip(-1), "full": whole}
    for name, found in zip(views, embeddings, strict=True):
        torch.testing.assert_close(found, fp32(seen[name])[0], rtol=1e-5, atol=1e-5)


def test_the_projection_is_applied_to_the_pooled_features(folded, fp32):
    features = fp32.features(picture_crops()[:6])
    assert features.shape == (6, 1280)
    expected = features @ torch.from_numpy(folded.weight).T + torch.from_numpy(folded.bias)
    torch.testing.assert_close(fp32(picture_crops()[:6])[0], expected, rtol=1e-4, atol=1e-4)


def test_no_frames_give_no_embeddings(folded):
    assert Encoder(folded, views=("center", "flip"))(picture_crops()[:0]).shape == (2, 0, 256)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_precision_runs_on_every_cpu(folded, monkeypatch, precision, packed):
    if not packed:
        monkeypatch.setattr(convolutions, "can_pack", lambda dtype: False)
    (embeddings,) = Encoder(folded, precision)(picture_crops()[:5])
    assert embeddings.dtype == torch.float32
    assert embeddings.isfinite().all()
    assert centred_cosine(plain_embeddings()[:5], embeddings).min() > 0.8


def test_mixed_precision_is_close_where_low_precision_is_not(folded):
    low, mixed = (Encoder(folded, name)(picture_crops())[0] for name in ("bf16", "bf16-mixed"))
    assert centred_cosine(plain_embeddings(), mixed).min() >= 0.98
    assert centred_cosine(plain_embeddings(), low).min() < 0.98


def test_centred_cosine_takes_off_the_mean_that_hides_errors():
    reference = torch.tensor([[100.0, 1.0], [100.0, -1.0]])
    wrong = torch.tensor([[100.0, -1.0], [101.0, -1.0]])
    assert torch.cosine_similarity(reference, wrong).min() > 0.99
    torch.testing.assert_close(centred_cosine(reference, wrong), torch.tensor([-1.0, 0.5**0.5]))
    torch.testing.assert_close(centred_cosine(reference, reference), torch.ones(2))


class Rounding:
    """Stands for the encoder: each precision as wrong as it is told to be."""

    errors: dict[str, float]
    asked: list[str]

    def __init__(self, folded, precision, views=("center",), device="cpu"):
        self.precision = precision
        self.asked.append(precision)

    def __call__(self, crops):
        generator = torch.Generator().manual_seed(0)
        reference = torch.randn(1, 20, 256, generator=generator)
        return reference + self.errors.get(self.precision, 0) * torch.randn(1, 20, 256, generator=generator)


@pytest.fixture
def rounding(monkeypatch):
    Rounding.errors, Rounding.asked = {}, []
    monkeypatch.setattr(encoder, "Encoder", Rounding)
    return Rounding


@pytest.mark.parametrize(
    ("device", "hardware", "favoured"),
    [
        ("cpu", [], ["fp32"]),
        ("cpu", ["avx512f", "avx2"], ["fp32"]),
        ("cpu", ["avx512_bf16"], ["bf16-mixed", "fp32"]),
        ("cpu", ["amx_bf16"], ["bf16-mixed", "fp32"]),
        ("cpu", ["avx512_bf16", "avx512_fp16"], ["fp16-mixed", "fp32"]),
        ("cpu", ["amx_fp16"], ["fp16-mixed", "fp32"]),
        ("cuda", [], ["fp16-mixed", "fp32"]),
        ("cuda:1", ["avx512_bf16"], ["fp16-mixed", "fp32"]),
        ("meta", ["avx512_fp16"], ["fp32"]),
    ],
)
def test_auto_takes_the_first_faithful_precision_that_the_hardware_favours(
    rounding, monkeypatch, device, hardware, favoured
):
    flags(monkeypatch, *hardware)
    for chosen in favoured:  # each in turn is the first that is good enough
        with emulated_cuda():
            precision, cosine = choose_precision(None, torch.empty(20), device)
        assert precision == chosen
        assert FAITHFUL <= cosine <= 1
        rounding.errors[chosen] = 0.5


def test_auto_on_plain_hardware_is_fp32(folded, monkeypatch):
    flags(monkeypatch, "avx2")
    assert choose_precision(folded, picture_crops()[:4], "cpu") == ("fp32", 1.0)


def test_auto_refuses_a_precision_that_is_unfaithful_to_these_frames(folded, monkeypatch):
    monkeypatch.setattr(encoder, "favoured", lambda device: iter(["bf16", "bf16-mixed", "fp32"]))
    _, bf16 = choose_precision(folded, picture_crops(), "cpu", "bf16")
    precision, cosine = choose_precision(folded, picture_crops(), "cpu")
    assert bf16 < FAITHFUL
    assert precision in ("bf16-mixed", "fp32")
    assert cosine >= FAITHFUL


def test_auto_decides_the_same_every_time(folded, monkeypatch):
    flags(monkeypatch, "avx512_bf16")
    assert len({choose_precision(folded, picture_crops()[:24], "cpu") for _ in range(2)}) == 1


@pytest.mark.parametrize("asked", PRECISIONS)
def test_an_explicit_precision_is_kept_however_unfaithful_and_its_figure_told(rounding, monkeypatch, asked):
    flags(monkeypatch)
    rounding.errors = dict.fromkeys(PRECISIONS[1:], 0.5)
    precision, cosine = choose_precision(None, torch.empty(20), "cpu", asked)
    assert precision == asked
    assert cosine == 1 if asked == "fp32" else 0.5 < cosine < FAITHFUL


def test_frames_that_are_all_the_same_prove_nothing_so_auto_is_fp32(folded, monkeypatch):
    flags(monkeypatch, "avx512_bf16")
    assert choose_precision(folded, torch.zeros(4, 3, 224, 224), "cpu") == ("fp32", 1.0)
