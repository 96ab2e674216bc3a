"""h5ad and loom, with genes and positions named as people name them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
from readable import GENES, small_counts, small_table
from scipy import sparse

import stplm
from stplm.errors import GeneError, SectionError


def read(table: ad.AnnData, path: Path) -> ad.AnnData:
    table.write_h5ad(path)
    return stplm.cell_table(stplm.read_section(path))


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "shape"),
    [("xenium_breast_34k/rep1_34451", (34_451, 313)), ("xenium_breast_crop/cells_1135", (1_135, 312))],
)
def test_real_sections(shared_data: Path, name: str, shape: tuple[int, int]) -> None:
    path = shared_data / f"{name}.h5ad"
    section = stplm.read_section(path)
    table = stplm.cell_table(section)
    raw = ad.read_h5ad(path)
    assert table.shape == shape
    assert table.X.sum() == raw.X.sum()
    assert table.uns["stplm"]["qc"]["n_known_genes"] == shape[1]
    np.testing.assert_allclose(table.obsm["spatial"], raw.obsm["spatial"])
    assert len(section.shapes["cell_circles"]) == shape[0]


@pytest.mark.real
def test_a_single_cell_reference_has_no_positions(shared_data: Path) -> None:
    table = stplm.cell_table(stplm.read_section(shared_data / "scrna_breast_wu" / "CID4465_1564.h5ad"))
    assert "spatial" not in table.obsm
    assert table.uns["stplm"]["qc"]["n_known_genes"] > 15_000
    known = table.var["ensembl_id"][table.var["ensembl_id"] != ""]
    assert known.is_unique
    assert table.var.loc["EPCAM", "ensembl_id"] == GENES["EPCAM"]


def test_symbols_become_ensembl_ids(tmp_path: Path) -> None:
    table = read(small_table(), tmp_path / "a.h5ad")
    assert list(table.var_names) == list(GENES)
    assert list(table.var["ensembl_id"]) == list(GENES.values())
    assert table.X.dtype == np.int32
    assert table.X.format == "csr"
    assert table.obsm["spatial"].dtype == np.float64


@pytest.mark.parametrize("column", ["gene_ids", "ensembl_id", "feature_id"])
def test_ids_in_a_column(tmp_path: Path, column: str) -> None:
    source = small_table()
    source.var[column] = [f"{i}.3" for i in GENES.values()]
    source.var_names = [f"probe {i}" for i in range(6)]
    table = read(source, tmp_path / "a.h5ad")
    assert list(table.var["ensembl_id"]) == list(GENES.values())


def test_ids_in_the_index(tmp_path: Path) -> None:
    source = small_table()
    source.var_names = list(GENES.values())
    assert list(read(source, tmp_path / "a.h5ad").var_names) == list(GENES)
    source.var["gene_name"] = [f"my{i}" for i in range(6)]
    table = read(source, tmp_path / "b.h5ad")
    assert list(table.var_names) == [f"my{i}" for i in range(6)]
    assert list(table.var["ensembl_id"]) == list(GENES.values())


def test_an_alias_does_not_take_another_genes_id(tmp_path: Path) -> None:
    source = small_table()
    source.var_names = ["ERBB2", "HER2", *list(GENES)[2:]]
    assert list(read(source, tmp_path / "a.h5ad").var["ensembl_id"][:2]) == [GENES["ERBB2"], ""]


def test_positions_in_columns(tmp_path: Path) -> None:
    source = small_table()
    xy = source.obsm.pop("spatial")
    source.obs["x_centroid"], source.obs["y_centroid"] = xy.T
    np.testing.assert_allclose(read(source, tmp_path / "a.h5ad").obsm["spatial"], xy)


def test_positions_under_scanpys_name(tmp_path: Path) -> None:
    source = small_table()
    xy = source.obsm["X_spatial"] = source.obsm.pop("spatial")
    np.testing.assert_allclose(read(source, tmp_path / "a.h5ad").obsm["spatial"], xy)


def test_missing_positions_are_told(tmp_path: Path) -> None:
    source = small_table()
    with_positions = read(source, tmp_path / "a.h5ad").uns["stplm"]["qc"]["warnings"]
    del source.obsm["spatial"]
    without = read(source, tmp_path / "b.h5ad").uns["stplm"]["qc"]["warnings"]
    assert not any("positions" in note for note in with_positions)
    assert any("no positions" in note for note in without)


@pytest.mark.parametrize("place", ["layers", "raw"])
def test_counts_beside_a_normalised_matrix(tmp_path: Path, place: str) -> None:
    source = small_table()
    if place == "layers":
        source.layers["counts"] = source.X.copy()
    else:
        source.raw = source.copy()
    source.X = source.X.log1p()
    table = read(source, tmp_path / "a.h5ad")
    np.testing.assert_array_equal(table.X.toarray(), small_counts())
    assert place in table.uns["stplm"]["source"]["counts_from"]


def test_controls_by_name(tmp_path: Path) -> None:
    source = small_table()
    source.var_names = [*list(GENES)[:4], "NegControlProbe_00042", "BLANK_0069"]
    table = read(source, tmp_path / "a.h5ad")
    assert list(table.var_names) == list(GENES)[:4]
    np.testing.assert_array_equal(table.obs["control_counts"], small_counts()[:, 4:].sum(1))


def test_what_else_is_in_the_file_comes_along(tmp_path: Path) -> None:
    source = small_table()
    source.obs["cell type"] = ["T", "B"] * 30
    source.obs["region"] = "core"
    source.obs["cell_labels"] = "tumour"
    source.obsm["X_pca"] = np.ones((60, 3))
    source.uns["colours"] = np.array(["red"])
    before = source.copy()
    table = read(source, tmp_path / "a.h5ad")
    assert list(table.obs["cell_type"][:2]) == ["T", "B"]
    assert set(table.obs["region_original"]) == {"core"}
    assert set(table.obs["cell_labels_original"]) == {"tumour"}
    assert "cell_labels" not in table.obs
    assert table.obsm["X_pca"].shape == (60, 3)
    assert "colours" in table.uns
    assert list(source.obs.columns) == list(before.obs.columns)


def test_an_exported_table_reads_back_equal(tmp_path: Path, demo_path: Path) -> None:
    table = stplm.cell_table(stplm.read_section(demo_path, images=False))
    table.obsm["X_stplm"] = np.ones((table.n_obs, 4), dtype=np.float32)
    again = read(table.copy(), tmp_path / "a.h5ad")
    np.testing.assert_array_equal(again.X.toarray(), table.X.toarray())
    np.testing.assert_array_equal(again.obs["cell_labels"], table.obs["cell_labels"])
    np.testing.assert_array_equal(again.obsm["X_stplm"], table.obsm["X_stplm"])
    assert again.uns["stplm"]["source"]["pixel_size"] == 0.2125
    assert again.uns["stplm"]["qc"]["n_genes"] == 313


# --- bad files ---


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda t: setattr(t, "X", t.X.log1p()), SectionError, "log-normalised"),
        (lambda t: setattr(t, "X", sparse.csr_matrix(t.X.toarray() - 3)), SectionError, "negative"),
        (lambda t: setattr(t, "obs_names", ["same"] * t.n_obs), SectionError, "not unique"),
        (lambda t: setattr(t, "var_names", [n.title() for n in t.var_names]), GeneError, "mouse"),
        (lambda t: setattr(t, "var_names", [f"ENSMUSG0000000000{i}" for i in range(6)]), GeneError, "mouse"),
        (lambda t: setattr(t, "var_names", [f"ENSXYZG0000000000{i}" for i in range(6)]), GeneError, "species"),
        (lambda t: t.obsm.__setitem__("spatial", t.obsm["spatial"] / 1000), SectionError, "not in µm"),
        (lambda t: t.obsm["spatial"].__setitem__((3, 0), np.nan), SectionError, "NaN"),
    ],
)
def test_bad_tables_say_why(
    tmp_path: Path, change: Callable[[ad.AnnData], None], error: type[Exception], words: str
) -> None:
    table = small_table()
    change(table)
    path = tmp_path / "bad.h5ad"
    table.write_h5ad(path)
    with pytest.raises(error, match=words) as caught:
        stplm.read_section(path)
    assert str(path) in str(caught.value)
    assert "Expected" in str(caught.value)
    with pytest.raises(error, match=words):
        stplm.cell_table(table)


@pytest.mark.filterwarnings("ignore:Observation names")
@pytest.mark.parametrize("share", [0.1, 0.7])
def test_truncated_h5ad(tmp_path: Path, share: float) -> None:
    path = tmp_path / "a.h5ad"
    small_table().write_h5ad(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(SectionError, match="truncated"):
        stplm.read_section(path)


def test_an_hdf5_file_that_is_no_h5ad(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5ad", "w") as file:
        file["image"] = np.zeros(3)
    with pytest.raises(SectionError, match="image"):
        stplm.read_section(tmp_path / "a.h5ad")


def test_an_h5ad_named_h5(tmp_path: Path) -> None:
    small_table().write_h5ad(tmp_path / "a.h5")
    assert stplm.cell_table(stplm.read_section(tmp_path / "a.h5")).n_obs == 60


# --- loom ---


def write_loom(path: Path, counts: np.ndarray, genes: dict[str, list[str]], **cells: np.ndarray) -> Path:
    with h5py.File(path, "w") as file:
        file.create_dataset("matrix", data=counts.T, chunks=(6, 32), compression="gzip")
        for name, values in genes.items():
            file[f"row_attrs/{name}"] = np.array(values, dtype="S")
        file.create_group("layers")
        file["col_attrs/CellID"] = np.array([f"c{i}" for i in range(len(counts))], dtype="S")
        for name, values in cells.items():
            file[f"col_attrs/{name}"] = values
    return path


def test_loom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from stplm.io import tables

    monkeypatch.setattr(tables, "_LOOM_BLOCK", 6 * 64)
    counts, xy = small_counts(200), small_table(200).obsm["spatial"]
    path = write_loom(
        tmp_path / "a.loom",
        counts,
        {"Gene": list(GENES), "Accession": list(GENES.values())},
        x_centroid=xy[:, 0],
        y_centroid=xy[:, 1],
        patient=np.array(["P1"] * 200, dtype="S"),
    )
    table = stplm.cell_table(stplm.read_section(path))
    np.testing.assert_array_equal(table.X.toarray(), counts)
    assert list(table.obs_names[:2]) == ["c0", "c1"]
    assert list(table.var["ensembl_id"]) == list(GENES.values())
    np.testing.assert_allclose(table.obsm["spatial"], xy)
    assert set(table.obs["patient"]) == {"P1"}


def test_loom_with_counts_in_a_layer(tmp_path: Path) -> None:
    counts = small_counts()
    path = write_loom(tmp_path / "a.loom", np.log1p(counts), {"Gene": list(GENES)})
    with pytest.raises(SectionError, match="log-normalised"):
        stplm.read_section(path)
    with h5py.File(path, "a") as file:
        file["layers/counts"] = counts.T
    np.testing.assert_array_equal(stplm.cell_table(stplm.read_section(path)).X.toarray(), counts)


def test_loom_without_gene_names(tmp_path: Path) -> None:
    path = write_loom(tmp_path / "a.loom", small_counts(), {"colour": ["red"] * 6})
    with pytest.raises(SectionError, match="colour"):
        stplm.read_section(path)
    assert pd.notna(path)
