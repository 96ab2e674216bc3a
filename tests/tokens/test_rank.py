"""Rank value encoding against a plain loop over cells, written here from the published rule."""

from __future__ import annotations

import dataclasses

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import stplm
from stplm.errors import Cancelled, GeneError, SectionError
from stplm.tokens.encoded import RankTokens, count_bins
from stplm.tokens.panels import panel
from stplm.tokens.vocabulary import Vocabulary, load_vocabulary

GENES = np.array(panel("hBreast313")["ensembl_id"])
RNG = np.random.default_rng(0)
ODD_MEDIANS = dict(zip(GENES, RNG.lognormal(3, 1, len(GENES)), strict=True))
"""No two genes of a cell tie with these."""


def table(n_cells: int = 300, *, dense_in: float = 0.25, seed: int = 0) -> ad.AnnData:
    rng = np.random.default_rng(seed)
    counts = rng.poisson(3, (n_cells, len(GENES))) * (rng.random((n_cells, len(GENES))) < dense_in)
    return of(counts)


def of(counts: np.ndarray, genes: np.ndarray | None = None) -> ad.AnnData:
    genes = GENES[: counts.shape[1]] if genes is None else genes
    return ad.AnnData(sparse.csr_matrix(counts, dtype=np.int32), var=pd.DataFrame(index=genes))


def published_rule(
    counts: np.ndarray, words: Vocabulary, medians: dict[str, float], length: int, cls: bool, eos: bool
) -> list[int]:
    """One cell: scale to 10,000, divide by the medians, sort the non-zero genes descending, cut, frame."""
    tokens = np.array([words.ids[g] for g in GENES])
    values = counts / counts.sum() * 10_000 / np.array([medians[g] for g in GENES])
    expressed = np.flatnonzero(counts)
    ranked = tokens[expressed[np.argsort(-values[expressed])]].tolist()
    ranked = ranked[: length - cls - eos]
    return [words.special["<cls>"]] * cls + ranked + [words.special["<eos>"]] * eos


def assert_equal(one: RankTokens, two: RankTokens) -> None:
    for name in ("ids", "bins", "offsets", "cells"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))


@pytest.mark.parametrize(
    ("mode", "length", "cls", "eos"),
    [
        ("geneformer", 2048, False, False),
        ("geneformer-v2", 4096, True, True),
        ("reference", 2048, True, False),
        ("stplm", 2048, True, False),
    ],
)
@pytest.mark.parametrize("max_length", [None, 40])
def test_order_is_the_published_one_where_nothing_ties(mode, length, cls, eos, max_length) -> None:
    cells = table()
    encoded = stplm.rank_encode(cells, medians=ODD_MEDIANS, mode=mode, max_length=max_length)
    words = load_vocabulary("stplm" if mode == "stplm" else "reference")
    counts = cells.X.toarray()
    assert len(encoded) == cells.n_obs
    for i in range(cells.n_obs):
        expected = published_rule(counts[i], words, ODD_MEDIANS, max_length or length, cls, eos)
        assert encoded.row(i).tolist() == expected


def test_whole_transcriptome_cells_are_cut_to_the_models_length() -> None:
    genes = np.array(list(load_vocabulary("reference").ids))[:6000]
    cells = of(np.random.default_rng(1).integers(1, 50, (2, 6000)), genes)
    for mode, length in (("geneformer", 2048), ("geneformer-v2", 4096)):
        assert stplm.rank_encode(cells, mode=mode, medians="flat").lengths.tolist() == [length, length]
    last = stplm.rank_encode(cells, mode="geneformer-v2", medians="flat").row(0)[-1]
    assert last == load_vocabulary("reference").special["<eos>"]


def test_ties_go_to_the_higher_count_then_to_the_lower_token() -> None:
    counts = np.array([[2, 1, 4, 1, 0, 6]])
    medians = dict(zip(GENES[:6], [2.0, 1.0, 4.0, 1.0, 1.0, 3.0], strict=True))
    encoded = stplm.rank_encode(of(counts), medians=medians, cls=False)
    tokens = load_vocabulary().encode(GENES[:6])
    assert encoded.row(0).tolist() == tokens[[5, 2, 0, 1, 3]].tolist()
    assert encoded.bins.tolist() == count_bins(np.array([6, 4, 2, 1, 1])).tolist()


def test_order_of_the_columns_does_not_matter() -> None:
    cells = table()
    shuffled = cells[:, np.random.default_rng(3).permutation(cells.n_vars)].copy()
    assert_equal(stplm.rank_encode(cells), stplm.rank_encode(shuffled))


@pytest.mark.parametrize("medians", ["breast", "lung", "flat", ODD_MEDIANS])
@pytest.mark.parametrize("factor", [3, 7, 1001])
def test_a_factor_on_all_counts_of_a_cell_changes_no_rank(medians, factor) -> None:
    cells = table()
    scaled = of(cells.X.toarray() * np.where(np.arange(cells.n_obs) % 2, factor, 1)[:, None])
    np.testing.assert_array_equal(
        stplm.rank_encode(cells, medians=medians).ids, stplm.rank_encode(scaled, medians=medians).ids
    )


def test_a_factor_on_all_medians_changes_no_rank() -> None:
    scaled = {gene: value * 0.1 for gene, value in ODD_MEDIANS.items()}
    assert_equal(stplm.rank_encode(table(), medians=ODD_MEDIANS), stplm.rank_encode(table(), medians=scaled))


def test_a_cell_gets_the_same_tokens_alone_and_in_company() -> None:
    cells = table()
    together = stplm.rank_encode(cells)
    for part in (np.array([17]), np.arange(100, 0, -3)):
        alone = stplm.rank_encode(cells[part].copy())
        np.testing.assert_array_equal(alone.ids, together.take(part).ids)


def test_blocks_and_repeats_change_nothing(monkeypatch) -> None:
    cells = table()
    whole = stplm.rank_encode(cells)
    assert_equal(whole, stplm.rank_encode(cells))
    monkeypatch.setattr("stplm.tokens.counts.count_blocks.__defaults__", (7,))
    assert_equal(whole, stplm.rank_encode(cells))


@pytest.mark.parametrize("storage", ["csr float32", "csc", "dense", "zeros stored", "backed"])
def test_storage_does_not_matter(storage, tmp_path) -> None:
    cells = table(50)
    other = cells.copy()
    if storage == "csr float32":
        other.X = cells.X.astype(np.float32)
    elif storage == "csc":
        other.X = cells.X.tocsc()
    elif storage == "dense":
        other.X = cells.X.toarray()
    elif storage == "zeros stored":
        other.X = cells.X.copy()
        other.X.data[:10] = 0
        cells.X = other.X.copy()
        cells.X.eliminate_zeros()
    else:
        cells.write_h5ad(tmp_path / "cells.h5ad")
        other = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    assert_equal(stplm.rank_encode(other), stplm.rank_encode(cells))


def test_cells_without_counts_have_a_row_of_special_tokens() -> None:
    counts = np.array([[0, 0, 0], [0, 3, 1], [0, 0, 0]])
    assert stplm.rank_encode(of(counts)).lengths.tolist() == [1, 3, 1]
    assert stplm.rank_encode(of(counts), cls=False).lengths.tolist() == [0, 2, 0]
    assert stplm.rank_encode(of(counts), cls=True, eos=True).lengths.tolist() == [2, 4, 2]


def test_faint_cells_are_left_out_on_request() -> None:
    cells = table(200, dense_in=0.01)
    total = np.asarray(cells.X.sum(axis=1)).ravel()
    kept = stplm.rank_encode(cells, min_counts=10)
    assert 0 < len(kept) < 200
    np.testing.assert_array_equal(kept.cells, np.flatnonzero(total >= 10))
    np.testing.assert_array_equal(kept.ids, stplm.rank_encode(cells).take(kept.cells).ids)
    assert len(stplm.rank_encode(cells, min_counts=10**6)) == 0


def test_unknown_genes_are_left_out() -> None:
    counts = np.array([[5, 9, 1]])
    with_stranger = stplm.rank_encode(of(counts, np.array([GENES[0], "custom_gene", GENES[2]])), medians="flat")
    without = stplm.rank_encode(of(counts[:, [0, 2]], GENES[[0, 2]]), medians="flat")
    np.testing.assert_array_equal(with_stranger.ids, without.ids)


def test_ids_are_as_small_as_the_vocabulary_allows() -> None:
    small = load_vocabulary()
    assert stplm.rank_encode(table(3)).ids.dtype == np.int16
    large = dataclasses.replace(small, ids={gene: 40_000 + i for i, gene in enumerate(GENES)})
    encoded = stplm.rank_encode(table(3), vocabulary=large)
    assert encoded.ids.dtype == np.int32
    assert encoded.ids.max() > 40_000


def test_no_cells() -> None:
    assert len(stplm.rank_encode(table(5)[:0].copy())) == 0


def test_progress_is_told_and_may_cancel() -> None:
    calls: list[tuple[int, int]] = []
    stplm.rank_encode(table(20), progress=lambda done, total: calls.append((done, total)))
    assert calls[0] == (0, 20)
    assert calls[-1] == (20, 20)

    def stop(done: int, total: int) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        stplm.rank_encode(table(20), progress=stop)


def test_bad_input_is_named() -> None:
    cells = table(5)
    with pytest.raises(GeneError, match="no mode 'bert'"):
        stplm.rank_encode(cells, mode="bert")
    with pytest.raises(ValueError, match="no room"):
        stplm.rank_encode(cells, max_length=1)
    with pytest.raises(GeneError, match="no median table"):
        stplm.rank_encode(cells, medians="liver")
    with pytest.raises(GeneError, match="there twice"):
        stplm.rank_encode(
            ad.AnnData(np.ones((1, 2)), var=pd.DataFrame({"ensembl_id": GENES[[0, 0]]}, index=["a", "b"]))
        )
    without_eos = dataclasses.replace(load_vocabulary(), special={"<pad>": 0, "<cls>": 2})
    with pytest.raises(GeneError, match="no <eos> token"):
        stplm.rank_encode(cells, vocabulary=without_eos, eos=True)
    normalised = table(5)
    normalised.X = normalised.X / 3.0
    with pytest.raises(SectionError, match="not hold counts"):
        stplm.rank_encode(normalised)


@pytest.mark.real
def test_a_real_section_by_symbol_is_that_section_by_id(shared_data) -> None:
    section = ad.read_h5ad(shared_data / "xenium_breast_17k" / "rep1_17136.h5ad")
    by_id = stplm.rank_encode(section)
    del section.var["ensembl_id"]
    assert_equal(by_id, stplm.rank_encode(section))
    assert by_id.lengths.max() <= 314
    assert by_id.nbytes < 2 * (section.X.data.nbytes + section.X.indices.nbytes)
