"""The gene-token encoder: its sentences are rank_encode's, and a cell's vector is its own affair."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from anndata import AnnData
from scipy import sparse
from torch import Tensor

import stplm
from stplm.models import Model, build_encoder
from stplm.nn.encoder import Surroundings
from stplm.nn.rank import RankConfig, RankEncoder
from stplm.nn.ranking import FIRST_GENE, MASK, length_batches, tokenise
from stplm.tokens.vocabulary import Vocabulary, known_ensembl_ids

GENES = sorted(known_ensembl_ids())[:40]
SMALL = RankConfig(layers=2, hidden=32, heads=4, feed_forward=64, max_length=64)
ROWS = torch.arange(40)


@pytest.fixture
def encoder() -> RankEncoder:
    torch.manual_seed(0)
    encoder = RankEncoder(GENES, SMALL)
    with torch.no_grad():
        encoder.gene_median.copy_(torch.rand(40).double() * 3 + 0.1)
        for name in ("gene_embedding", "bin_embedding", "special_embedding"):
            getattr(encoder, name).normal_()
    return encoder.eval()


def _counts(n: int = 20, rate: float = 0.7) -> Tensor:
    counts = torch.poisson(torch.full((n, 40), rate), generator=torch.Generator().manual_seed(1))
    counts[3] = 0
    return counts


@pytest.mark.parametrize(("cls", "eos", "max_length"), [(True, False, 2048), (False, False, 9), (True, True, 12)])
def test_sentences_are_those_of_rank_encode(cls: bool, eos: bool, max_length: int) -> None:
    random = np.random.default_rng(0)
    # Medians in simple proportions: ties between different counts.
    medians = random.choice([0.3, 0.6, 0.9, 1.8, 1.234, 2.468], 40)
    columns = random.permutation(40)[:30]
    counts = random.poisson(1.5, (60, 30)) * random.choice([1, 1, 30], (60, 30))
    counts[5] = 0
    table = AnnData(sparse.csr_matrix(counts.astype(np.int32)))
    table.var_names = [GENES[c] for c in columns]
    words = Vocabulary(
        "mine",
        {gene: FIRST_GENE + i for i, gene in enumerate(GENES)},
        {"<pad>": 0, "<mask>": 1, "<cls>": 2, "<eos>": 3},
    )
    expected = stplm.rank_encode(
        table,
        vocabulary=words,
        medians=dict(zip(GENES, medians, strict=True)),
        cls=cls,
        eos=eos,
        max_length=max_length,
    )
    tokens = tokenise(
        torch.tensor(counts, dtype=torch.float32),
        torch.tensor(columns),
        torch.tensor(medians[columns]),
        max_length=max_length,
        cls=cls,
        eos=eos,
    )
    ids, bins, mask = expected.to_padded()
    assert np.array_equal(tokens.ids.numpy(), ids)
    assert np.array_equal(tokens.bins.numpy(), bins)
    assert np.array_equal(tokens.mask.numpy(), mask)


@torch.inference_mode()
def test_a_cell_does_not_depend_on_its_batch(encoder: RankEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = _counts()
    counts[7:] *= torch.rand(13, 40, generator=torch.Generator().manual_seed(2)) < 0.4
    together = encoder.encode_own(counts, ROWS)
    assert torch.isfinite(together).all()
    alone = torch.cat([encoder.encode_own(cell[None], ROWS) for cell in counts])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(encoder.encode_own(counts[:, order], ROWS[order]), together, atol=1e-5, rtol=1e-4)
    monkeypatch.setattr("stplm.nn.rank._BUDGET", {"cpu": 30})
    torch.testing.assert_close(encoder.encode_own(counts, ROWS), together, atol=1e-5, rtol=1e-4)


@torch.inference_mode()
@pytest.mark.parametrize("pool", ["mean", "cls"])
def test_order_counts_and_genes_all_matter(pool: str) -> None:
    torch.manual_seed(0)
    encoder = RankEncoder(GENES, RankConfig(**{**SMALL.to_dict(), "pool": pool})).eval()
    counts = torch.zeros(4, 40)
    counts[0, :3] = torch.tensor([5.0, 3.0, 1.0])
    counts[1, :3] = torch.tensor([3.0, 5.0, 1.0])
    counts[2, :3] = torch.tensor([9.0, 3.0, 1.0])
    counts[3, 1:4] = torch.tensor([3.0, 1.0, 5.0])
    own = encoder.encode_own(counts, ROWS)
    assert torch.pdist(own).min() > 1e-3


@pytest.mark.parametrize("spread", ["panel", "wide"])
def test_padding_stays_under_a_tenth(spread: str) -> None:
    random = np.random.default_rng(0)
    lengths = random.poisson(57, 3000) if spread == "panel" else random.lognormal(4, 1, 3000).astype(np.int64)
    batches = list(length_batches(lengths, 8192))
    padded = sum(len(b) * lengths[b].max() for b in batches)
    assert padded <= 1.1 * lengths.sum()
    assert all(len(b) * lengths[b].max() <= 8192 for b in batches)
    assert np.array_equal(np.sort(np.concatenate(batches)), np.arange(3000))
    assert len(batches) < 100


@torch.inference_mode()
def test_no_cell_and_a_sentence_over_the_budget(encoder: RankEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    assert encoder.encode_own(torch.zeros(0, 40), ROWS).shape == (0, 32)
    assert list(encoder.batches(np.zeros(0, dtype=np.int64))) == []
    monkeypatch.setattr("stplm.nn.rank._BUDGET", {"cpu": 1})
    assert encoder.encode_own(_counts(4), ROWS).shape == (4, 32)


@torch.inference_mode()
def test_masked_genes_are_predicted_among_the_panel_only(encoder: RankEncoder) -> None:
    rows = torch.tensor([4, 9, 30, 31])
    tokens = encoder.tokenise(_counts()[:, rows] + 1, rows)
    tokens.ids[:, 2], tokens.bins[:, 2] = MASK, 0
    hidden = encoder.encode_tokens(tokens)
    assert hidden.shape == (20, 5, 32)
    logits = encoder.gene_logits(hidden[:, 2], rows)
    assert logits.shape == (20, 4)
    torch.testing.assert_close(logits[:, [2]], encoder.gene_logits(hidden[:, 2], rows[[2]]))


@torch.inference_mode()
def test_new_genes_leave_other_cells_as_they_were(encoder: RankEncoder) -> None:
    own, logits = encoder.encode_own(_counts(), ROWS), encoder.gene_logits(torch.ones(1, 32), ROWS)
    encoder.add_genes(["ENSG99999999991", GENES[3]])
    assert encoder.genes == [*GENES, "ENSG99999999991"]
    assert encoder.gene_median[40] == 1.0
    with_new = torch.cat([_counts(), torch.zeros(20, 1)], dim=1)
    torch.testing.assert_close(encoder.encode_own(with_new, torch.arange(41)), own)
    torch.testing.assert_close(encoder.gene_logits(torch.ones(1, 32), ROWS), logits)
    assert encoder.decode(own, torch.arange(41)).exp().sum(1).allclose(torch.ones(20))


def test_gradients_reach_the_genes_of_a_neighbour(encoder: RankEncoder) -> None:
    counts = torch.zeros(2, 40)
    counts[0, :10], counts[1, 20:30] = 2, 2
    own = encoder.encode_own(counts, ROWS)
    near = torch.tensor([[1]])
    around = Surroundings(torch.tensor([0]), near, torch.ones(1, 1), torch.ones(1, 1), torch.zeros(1, 2))
    encoder.in_tissue(own, encoder.shared(own), around).square().sum().backward()
    moved = encoder.gene_embedding.grad.abs().sum(1) > 0
    assert moved[:10].all()
    assert moved[20:30].all()
    assert not moved[10:20].any()


@pytest.mark.parametrize("preset", ["rank", "hybrid"])
def test_saved_and_loaded(preset: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    small = {"layers": 1, "hidden": 16, "heads": 2, "feed_forward": 16} | (
        {"own_dim": 16} if preset == "hybrid" else {}
    )
    encoder = build_encoder(preset, GENES, small).eval()
    encoder.gene_median.copy_(torch.rand(40).double() + 0.1)
    model = Model(encoder, "mine", preset=preset)
    loaded = stplm.load_model(model.save(tmp_path / "mine"))
    assert (loaded.preset, loaded.encoder.config, loaded.encoder.genes) == (preset, encoder.config, GENES)
    assert loaded.fingerprint() == model.fingerprint()
    with torch.inference_mode():
        assert torch.equal(loaded.encoder.encode_own(_counts(), ROWS), encoder.encode_own(_counts(), ROWS))


@pytest.mark.parametrize("wrong", [{"pool": "max"}, {"pool": "cls", "cls": False}, {"count_bins": 99}, {"heads": 5}])
def test_sizes_that_do_not_fit(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        RankEncoder(GENES, RankConfig(**{**SMALL.to_dict(), **wrong}))
