"""A cell table read and written piece by piece is the same table that AnnData reads."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from readable import small_table

from stplm import keys
from stplm.errors import ExportError, SectionError
from stplm.io.cell_table import cell_table, is_canonical
from stplm.io.export import write_h5ad
from stplm.io.table_builder import built_table
from stplm.io.table_file import TableFile, edited_copy, is_table_file


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    return write_h5ad(cell_table(small_table()), tmp_path / "cells.h5ad")


def test_a_stretch_of_cells_is_read(stored: Path) -> None:
    whole = ad.read_h5ad(stored)
    with TableFile(stored) as table:
        assert (table.n_obs, table.n_vars) == whole.shape
        np.testing.assert_array_equal(table.counts[3:7].toarray(), whole.X[3:7].toarray())
        assert table.counts[5:5].shape == (0, whole.n_vars)
        assert list(table.var_names) == list(whole.var_names)
        np.testing.assert_array_equal(table.xy, whole.obsm[keys.SPATIAL])
        assert [str(i) for _, ids in table.cell_ids() for i in ids] == list(whole.obs_names)
        assert list(table.column(keys.N_COUNTS)) == list(whole.obs[keys.N_COUNTS])
        assert table.notes[keys.UNS_QC]["n_cells"] == whole.n_obs


def test_results_go_into_a_copy(stored: Path, tmp_path: Path) -> None:
    before, n = stored.read_bytes(), ad.read_h5ad(stored).n_obs
    classes = pd.Categorical(["a", None] * (n // 2) + ["a"] * (n % 2))
    vectors = np.arange(3 * n, dtype=np.float32).reshape(n, 3)
    for _ in range(2):  # what is there is replaced
        with edited_copy(stored, tmp_path / "out.h5ad") as edit:
            edit.column("kind", classes)
            edit.column("score", np.arange(n, dtype=np.float32))
            edit.rows("X_mine", 3, iter([vectors[:4], vectors[4:]]))
            edit.note("mine", {"model": "m", "n": 3})
    with edited_copy(tmp_path / "out.h5ad", tmp_path / "out.h5ad") as edit:
        edit.drop_column("score")
        edit.column("kind", classes)
    out = ad.read_h5ad(tmp_path / "out.h5ad")
    assert stored.read_bytes() == before
    assert list(out.obs["kind"].isna()) == list(classes.isna())
    assert list(out.obs.columns).count("kind") == 1
    assert "score" not in out.obs
    np.testing.assert_array_equal(out.obsm["X_mine"], vectors)
    assert out.uns[keys.UNS]["mine"]["n"] == 3
    assert is_canonical(out)


def test_a_failed_edit_leaves_what_was_there(stored: Path) -> None:
    before = stored.read_bytes()
    with pytest.raises(TypeError), edited_copy(stored, stored) as edit:
        edit.rows("X_half", 2, [np.zeros((3, 2), dtype=np.float32), None])
    assert stored.read_bytes() == before
    assert len(list(stored.parent.iterdir())) == 1


def test_a_table_built_in_stretches_is_canonical(tmp_path: Path) -> None:
    table = cell_table(small_table())
    xy, ids = table.obsm[keys.SPATIAL], table.obs_names.to_numpy(dtype=str)
    ensembl = table.var[keys.ENSEMBL_ID].to_numpy(dtype=str)
    path, n = tmp_path / "built.h5ad", table.n_obs
    with built_table(path, n, table.var_names.to_numpy(dtype=str), ensembl) as builder:
        for part in (slice(0, 5), slice(5, n)):
            builder.add(table.X[part], ids[part], xy[part], {"area": np.arange(n, dtype=np.float32)[part]})
        builder.categories("kind", np.zeros(n, dtype=np.int8), ["only"])
        builder.finish({"kind": "test"})
    built = ad.read_h5ad(path)
    assert is_canonical(built)
    assert is_table_file(path)
    assert (built.X != table.X).nnz == 0
    for column in (keys.CELL_ID, keys.N_COUNTS, keys.N_GENES, keys.LOW_COUNTS):
        assert list(built.obs[column]) == list(table.obs[column])
    assert list(built.obs["area"]) == list(range(n))
    for name in ("n_cells", "n_genes", "n_known_genes", "median_counts", "n_low", "n_empty"):
        assert built.uns[keys.UNS][keys.UNS_QC][name] == table.uns[keys.UNS][keys.UNS_QC][name]
    with pytest.raises(ExportError, match="exists"), built_table(path, n, ensembl, ensembl):
        pass


def test_other_files_say_so(tmp_path: Path) -> None:
    table = ad.AnnData(np.ones((3, 2), dtype=np.float32))
    table.write_h5ad(tmp_path / "other.h5ad")
    (tmp_path / "text.h5ad").write_text("no")
    for name in ("other.h5ad", "text.h5ad"):
        assert not is_table_file(tmp_path / name)
        with pytest.raises(SectionError):
            TableFile(tmp_path / name)
    assert not is_table_file(tmp_path)
