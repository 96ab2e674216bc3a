"""LoRA: only its targets change, and merged weights give what the adapters gave."""

from __future__ import annotations

import copy

import pytest
import torch

pytest.importorskip("peft")

from stplm.models import build_encoder
from stplm.nn.encoder import Encoder
from stplm.nn.lora import add_lora, lora_targets, merge_lora

GENES = [f"g{i}" for i in range(12)]
SIZES = {
    "tissue": {"hidden": 16, "own_dim": 8, "own_blocks": 1, "tissue_dim": 8, "tissue_hidden": 8, "heads": 2},
    "rank": {"layers": 2, "hidden": 16, "heads": 2, "feed_forward": 16, "max_length": 16},
}


def make(preset: str) -> Encoder:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_encoder(preset, GENES, SIZES[preset]).eval()


@pytest.mark.parametrize("preset", ["tissue", "rank"])
def test_merged_is_the_same_and_nothing_but_the_targets_changed(preset: str) -> None:
    encoder = make(preset)
    before, names = copy.deepcopy(encoder.state_dict()), lora_targets(encoder)
    counts = torch.poisson(torch.full((6, 12), 3.0), generator=torch.Generator().manual_seed(1))
    rows = torch.arange(12)
    at_first = encoder.encode_own(counts, rows)
    with torch.random.fork_rng(devices=[]):
        assert add_lora(encoder, rank=2, alpha=4) == names
        torch.testing.assert_close(encoder.encode_own(counts, rows), at_first)
        for name, parameter in encoder.named_parameters():
            assert parameter.requires_grad is ("lora_" in name)
            if "lora_B" in name:
                torch.nn.init.normal_(parameter)
    adapted = encoder.encode_own(counts, rows)
    merge_lora(encoder)
    merged = encoder.encode_own(counts, rows)
    assert (merged - adapted).abs().max() < 1e-5
    assert (merged - at_first).abs().max() > 1e-3
    after = encoder.state_dict()
    assert list(after) == list(before)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {f"{name}.weight" for name in names}


def test_attention_is_among_the_targets() -> None:
    assert "tissue_blocks.0.attention.query" in lora_targets(make("tissue"))
    body = [n for n in lora_targets(make("rank")) if n.startswith("body.")]
    assert {n.rsplit(".", 1)[1] for n in body} == {"query", "key", "value"}
    assert len(body) == 6
