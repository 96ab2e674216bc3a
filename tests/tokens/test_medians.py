"""Gene medians against the plain definition."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from stplm.errors import Cancelled, GeneError, SectionError
from stplm.tokens.medians import (
    MEDIAN_TABLES,
    choose_medians,
    compute_medians,
    load_medians,
    medians_of,
    write_medians,
)
from stplm.tokens.panels import panel

GENES = panel("hBreast")["ensembl_id"].tolist()[:60]


def table(seed: int, n_cells: int = 500) -> ad.AnnData:
    rng = np.random.default_rng(seed)
    counts = rng.poisson(rng.gamma(0.5, 2.0, len(GENES)), (n_cells, len(GENES)))
    return ad.AnnData(sparse.csr_matrix(counts, dtype=np.float32), var=pd.DataFrame(index=GENES))


def plain_medians(tables: list[ad.AnnData], min_counts: int = 10) -> pd.Series:
    counts = np.vstack([t.X.toarray() for t in tables]).astype(float)
    counts = counts[counts.sum(axis=1) >= min_counts]
    shares = counts / counts.sum(axis=1, keepdims=True) * 10_000
    seen = (counts > 0).any(axis=0)
    figures = [np.median(shares[counts[:, g] > 0, g]) for g in np.flatnonzero(seen)]
    return pd.Series(figures, index=np.array(GENES)[seen]).sort_index()


def test_medians_are_of_nonzero_values_after_size_normalisation() -> None:
    tables = [table(0), table(1)]
    computed = compute_medians(tables)
    expected = plain_medians(tables)
    assert computed.index.tolist() == expected.index.tolist()
    np.testing.assert_allclose(computed["median"], expected, rtol=0.005)
    nonzero = np.vstack([t.X.toarray() for t in tables])
    nonzero = nonzero[nonzero.sum(axis=1) >= 10]
    assert computed["n_cells"].sum() == (nonzero > 0).sum()


def test_two_values_far_apart_have_the_plain_median() -> None:
    counts = np.array([[1, 99], [60, 40]])
    two = ad.AnnData(sparse.csr_matrix(counts, dtype=np.int32), var=pd.DataFrame(index=GENES[:2]))
    computed = compute_medians([two])["median"]
    np.testing.assert_allclose(computed[GENES[:2]], [(100 + 6000) / 2, (9900 + 4000) / 2], rtol=0.002)


def test_order_storage_and_grouping_of_sections_do_not_matter() -> None:
    one, two = table(0), table(1)
    dense = ad.AnnData(two.X.toarray(), var=two.var)
    joined = ad.concat([one, two], index_unique="-")
    expected = compute_medians([one, two])
    for tables in ([two, one], [dense, one], [joined], iter([one[:, ::-1].copy(), two])):
        pd.testing.assert_frame_equal(compute_medians(tables), expected)


def test_the_scale_is_the_target_sum_and_cancels_in_ratios() -> None:
    small, large = compute_medians([table(0)], target_sum=1.0), compute_medians([table(0)], target_sum=1e6)
    np.testing.assert_allclose(large["median"] / small["median"], 1e6)


def test_faint_cells_and_genes_never_seen_are_left_out() -> None:
    counts = np.array([[20, 0, 0], [30, 10, 0], [0, 9, 0]])
    cells = ad.AnnData(counts, var=pd.DataFrame(index=GENES[:3]))
    computed = compute_medians([cells])
    assert sorted(computed.index) == sorted(GENES[:2])
    assert computed.loc[GENES[1], "n_cells"] == 1
    assert computed.loc[GENES[1], "median"] == pytest.approx(2500, rel=0.003)


def test_what_was_written_reads_back(tmp_path) -> None:
    medians = compute_medians([table(0)])
    write_medians(medians, tmp_path / "own.csv")
    read = load_medians(tmp_path / "own.csv")
    np.testing.assert_allclose(read, medians["median"], atol=1e-4)
    assert [p.name for p in tmp_path.iterdir()] == ["own.csv"]


@pytest.mark.parametrize("name", MEDIAN_TABLES)
def test_shipped_tables_are_whole(name: str) -> None:
    medians = load_medians(name)
    assert len(medians) > 300
    assert (medians > 0).all()
    assert medians.index.is_unique


def test_figures_by_gene_are_taken_as_they_are() -> None:
    assert load_medians({GENES[0]: 2}).to_dict() == {GENES[0]: 2.0}


def test_the_default_table_goes_by_the_panel() -> None:
    assert choose_medians(panel("hBreast313")["ensembl_id"])[0] == "breast"
    assert choose_medians(panel("hIO")["ensembl_id"])[0] in ("colon", "lung")
    name, medians = choose_medians(panel("hPrime5K")["ensembl_id"])
    assert (name, len(medians)) == ("flat", 0)


def test_genes_without_a_figure_get_the_middle_one() -> None:
    medians = pd.Series({"a": 1.0, "b": 3.0, "c": 10.0})
    np.testing.assert_array_equal(medians_of(np.array(["c", "x", "a", "b"]), medians), [10, 3, 1, 3])
    np.testing.assert_array_equal(medians_of(np.array(["x"]), medians), [1])


def test_bad_tables_are_named(tmp_path) -> None:
    with pytest.raises(GeneError, match="no median table 'liver'"):
        load_medians("liver")
    path = tmp_path / "m.csv"
    path.write_text("gene,value\nA,1\n")
    with pytest.raises(GeneError, match=r"(?s)lacks columns.*gene, value"):
        load_medians(path)
    path.write_text(f"ensembl_id,median\n{GENES[0]},0\n")
    with pytest.raises(GeneError, match=f"(?s)above 0.*0 for {GENES[0]}"):
        load_medians(path)


def test_bad_counts_are_refused() -> None:
    cells = table(0)
    cells.X.data[3] = 0.5
    with pytest.raises(SectionError, match="not hold counts"):
        compute_medians([cells])
    empty = table(0)
    empty.X = sparse.csr_matrix(empty.shape, dtype=np.float32)
    with pytest.raises(GeneError, match="No gene was counted"):
        compute_medians([empty])


def test_it_can_be_cancelled() -> None:
    def stop(done: int, total: int) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        compute_medians([table(0)], progress=stop)
