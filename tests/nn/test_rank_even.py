"""Tokens one after another, no padding between, give what the encoder gives of all at once, padded."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from stplm.models import build_encoder
from stplm.nn.rank import RankStage
from stplm.nn.rank_even import EvenPasses
from stplm.nn.ranking import Tokens

SIZES = {"layers": 2, "hidden": 32, "heads": 4, "feed_forward": 48, "max_length": 400}


def _encoder(**sizes: object) -> RankStage:
    torch.manual_seed(0)
    encoder = build_encoder("rank", [f"g{i}" for i in range(400)], SIZES | sizes).eval()
    assert isinstance(encoder, RankStage)
    return encoder


def _tokens(encoder: RankStage, lengths: list[int]) -> Tokens:
    random = torch.Generator().manual_seed(1)
    counts = torch.zeros(len(lengths), 400)
    for row, length in enumerate(lengths):
        counts[row, torch.randperm(400, generator=random)[:length]] = torch.randint(
            1, 30, (length,), generator=random
        ).float()
    return encoder.tokenise(counts, torch.arange(400))


def _apart(found: Tensor, expected: Tensor, tokens: Tokens) -> float:
    return float((found - expected)[tokens.mask].abs().max())


@pytest.mark.parametrize("sizes", [{}, {"cls": False}, {"pool": "cls", "eos": True}, {"activation": "relu"}])
def test_hidden_states_are_the_encoders(sizes: dict[str, object]) -> None:
    encoder = _encoder(**sizes)
    tokens = _tokens(encoder, [5, 40, 5, 300, 1, 0, 39, 257])
    assert EvenPasses.fits(encoder)
    with torch.inference_mode():
        expected = encoder.encode_tokens(tokens)
        assert _apart(EvenPasses(encoder, torch.float32)(tokens), expected, tokens) < 2e-5
        half = EvenPasses(encoder, torch.bfloat16)(tokens)
        assert half.dtype == torch.float32
        assert 1e-6 < _apart(half, expected, tokens) < 0.2
        own = encoder.pool(half, tokens), encoder.pool(expected, tokens)
        assert torch.cosine_similarity(*own, dim=1)[tokens.genes.any(1)].min() > 0.999


def test_a_batch_without_a_token() -> None:
    encoder = _encoder(cls=False)
    tokens = _tokens(encoder, [0, 0])
    assert EvenPasses(encoder, torch.float32)(tokens).shape == (2, tokens.ids.shape[1], 32)
    nothing = Tokens(*(part[:, :0] for part in (tokens.ids, tokens.bins, tokens.mask)))
    assert EvenPasses(encoder, torch.float32)(nothing).shape == (2, 0, 32)


def test_it_does_not_take_what_it_does_not_know() -> None:
    encoder = _encoder()
    assert not EvenPasses.fits(encoder.train())
    layer = encoder.eval().body.encoder.layer[0].attention.self
    layer.query = torch.nn.Sequential(layer.query)
    assert not EvenPasses.fits(encoder)
