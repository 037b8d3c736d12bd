import torch

from har_cache.model.ensemble import HeadEnsemble

from .test_head import make_head, padded


def test_an_ensemble_says_the_mean_of_what_its_heads_say() -> None:
    heads = [make_head(), make_head("lstm"), make_head("conv")]
    x, mask = padded([9, 4], 9)
    with torch.no_grad():
        each = torch.stack([head(x, mask).softmax(1) for head in heads])
        torch.testing.assert_close(HeadEnsemble(heads).eval()(x, mask).softmax(1), each.mean(0))
        torch.testing.assert_close(HeadEnsemble(heads[:1]).eval()(x, mask).softmax(1), each[0])


def test_its_temperature_divides_the_logits_of_each_head_and_is_kept_with_the_weights() -> None:
    head = make_head()
    x, mask = padded([9, 4], 9)
    warm = HeadEnsemble([head], 2.0).eval()
    with torch.no_grad():
        torch.testing.assert_close(warm(x, mask).softmax(1), (head(x, mask) / 2).softmax(1))
    other = HeadEnsemble([make_head()])
    other.load_state_dict(warm.state_dict())
    assert float(other.temperature) == 2.0
