"""The canonical table, and telling µm from other units."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from readable import GENES, small_counts, small_table
from scipy import sparse

import stplm
from stplm import keys
from stplm.errors import SectionError
from stplm.io.cell_table import counts_matrix, table_of
from stplm.io.validate import check_positions


def test_a_canonical_table_is_returned_itself_and_others_are_copied() -> None:
    source = small_table()
    table = stplm.cell_table(source)
    assert table is not source
    assert source.X.dtype == np.float32
    assert keys.UNS not in source.uns
    assert not np.may_share_memory(table.X.data, source.X.data)
    assert stplm.cell_table(table) is table


def test_what_the_contract_promises() -> None:
    table = stplm.cell_table(small_table())
    counts = small_counts()
    assert sparse.isspmatrix_csr(table.X) or table.X.format == "csr"
    assert table.X.dtype == np.int32
    np.testing.assert_array_equal(table.obs[keys.N_COUNTS], counts.sum(1))
    np.testing.assert_array_equal(table.obs[keys.N_GENES], (counts > 0).sum(1))
    np.testing.assert_array_equal(table.obs[keys.LOW_COUNTS], counts.sum(1) < 10)
    assert list(table.obs[keys.CELL_ID]) == list(table.obs_names)
    assert table.uns[keys.UNS]["qc"]["median_counts"] == np.median(counts.sum(1))
    assert table.uns[keys.UNS]["qc"]["n_low"] == int((counts.sum(1) < 10).sum())


def test_dense_and_csc_and_unsorted_input() -> None:
    counts = small_counts()
    for matrix in (counts, counts.astype(float), sparse.csc_matrix(counts), sparse.coo_matrix(counts).tocsr()):
        table = small_table()
        table.X = matrix
        result = stplm.cell_table(table).X
        np.testing.assert_array_equal(result.toarray(), counts)
        assert result.has_canonical_format


def test_cell_id_column_becomes_the_index() -> None:
    table = small_table()
    table.obs["cell_id"] = np.arange(60) + 100
    result = stplm.cell_table(table)
    assert result.obs_names[0] == "100"
    assert result.obs["original_index"].iloc[0] == "c0"
    table.obs["cell_id"] = 7
    assert stplm.cell_table(table).obs_names[0] == "c0"


def test_counts_matrix_is_a_float_copy() -> None:
    table = stplm.cell_table(small_table())
    counts = counts_matrix(table)
    assert counts.dtype == np.float32
    counts.data[:] = 0
    assert table.X.sum() == small_counts().sum()
    with pytest.raises(SectionError, match="integer"):
        counts_matrix(ad.AnnData(X=sparse.csr_matrix(np.full((3, 3), 0.5))))


def test_table_of_refuses_what_is_no_section() -> None:
    with pytest.raises(SectionError, match="not a section"):
        table_of("outs/")  # type: ignore[arg-type]


def test_an_integer_table_without_known_genes() -> None:
    table = small_table()
    table.var_names = [f"Q{i}X" for i in range(len(GENES))]
    with pytest.raises(stplm.errors.GeneError, match="None of the genes"):
        stplm.cell_table(table)


# --- units ---


def positions(shared_data: Path, name: str) -> np.ndarray:
    if name == "marrow":
        frame = pd.read_parquet(shared_data / "xenium_bone_marrow" / "cell_metadata.parquet")
        return np.array(frame["geometry"].tolist(), dtype=float)
    return np.asarray(ad.read_h5ad(shared_data / name).obsm["spatial"], dtype=float)


REAL = [
    "marrow",
    "xenium_breast_34k/rep1_34451.h5ad",
    "xenium_breast_17k/rep1_17136.h5ad",
    "xenium_breast_crop/cells_1135.h5ad",
]


@pytest.mark.real
@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("share", [1.0, 0.3, 0.1, 0.03, 0.01])
def test_real_positions_pass_however_sparse(shared_data: Path, name: str, share: float) -> None:
    xy = positions(shared_data, name)
    for seed in range(3):
        keep = np.random.default_rng(seed).random(len(xy)) < share
        check_positions(xy[keep], "")


@pytest.mark.real
@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("factor", [1e-3, 1e3], ids=["mm", "nm"])
def test_other_units_are_refused(shared_data: Path, name: str, factor: float) -> None:
    with pytest.raises(SectionError, match="not in µm"):
        check_positions(positions(shared_data, name) * factor, "")


@pytest.mark.real
@pytest.mark.parametrize("name", ["marrow", *REAL[2:]])
def test_pixels_of_dense_tissue_are_refused(shared_data: Path, name: str) -> None:
    with pytest.raises(SectionError, match="pixels"):
        check_positions(positions(shared_data, name) / 0.2125, "")


def test_a_declared_unit_is_believed() -> None:
    table = small_table(spacing=0.01)
    with pytest.raises(SectionError, match="spatial_unit"):
        stplm.cell_table(table)
    table.uns["spatial_unit"] = "um"
    assert keys.SPATIAL in stplm.cell_table(table).obsm


def test_few_cells_are_not_judged_by_their_distances() -> None:
    xy, notes = check_positions(np.random.default_rng(0).random((20, 2)) * 5000, "")
    assert xy.shape == (20, 2)
    assert notes == []
