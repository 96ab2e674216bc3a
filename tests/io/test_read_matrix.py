"""The 10x matrix: what is read, what is dropped and counted, and what a broken file says."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from readable import GENES, small_counts, write_matrix

import stplm
from stplm.errors import GeneError, SectionError
from stplm.io import matrix as matrix_module
from stplm.io.matrix import read_matrix

NAMES, IDS = list(GENES), list(GENES.values())


@pytest.mark.real
def test_bone_marrow_reads_as_its_makers_wrote_it(shared_data: Path) -> None:
    path = shared_data / "xenium_bone_marrow" / "cell_feature_matrix.h5"
    table = stplm.cell_table(stplm.read_section(path))
    assert table.shape == (84_518, 477)
    assert table.uns["stplm"]["qc"]["control_features"] == {
        "Negative Control Codeword": 41,
        "Negative Control Probe": 20,
        "Unassigned Codeword": 3,
    }
    with h5py.File(path) as file:
        data, indices = file["matrix/data"][:], file["matrix/indices"][:]
        cells = np.repeat(np.arange(84_518), np.diff(file["matrix/indptr"][:]))
        is_gene = file["matrix/features/feature_type"][:] == b"Gene Expression"
        names = file["matrix/features/name"][:].astype(str)
        barcodes = file["matrix/barcodes"][:].astype(str)
    kept = is_gene[indices]
    np.testing.assert_array_equal(table.obs["n_counts"], np.bincount(cells[kept], data[kept], 84_518))
    np.testing.assert_array_equal(table.obs["control_counts"], np.bincount(cells[~kept], data[~kept], 84_518))
    assert table.X.sum() + sum(table.uns["stplm"]["qc"]["control_counts"].values()) == data.sum()
    np.testing.assert_array_equal(table.var_names, names[is_gene])
    np.testing.assert_array_equal(table.obs_names, barcodes)
    row, gene = 12_345, "CD79A"
    column = np.flatnonzero(names == gene)[0]
    assert table[row, gene].X.sum() == data[(cells == row) & (indices == column)].sum()
    assert table.uns["stplm"]["qc"]["n_empty"] == int((table.obs["n_counts"] == 0).sum()) > 0
    assert table.obs.loc[table.obs["n_counts"] == 0, "low_counts"].all()
    assert "spatial" not in table.obsm


def test_controls_are_dropped_by_type_and_counted(tmp_path: Path) -> None:
    counts = np.array([[5, 1, 0, 2, 7], [0, 0, 3, 4, 9]])
    types = [
        "Gene Expression",
        "Negative Control Probe",
        "Gene Expression",
        "Unassigned Codeword",
        "Protein Expression",
    ]
    path = write_matrix(
        tmp_path / "m.h5", counts, ["EPCAM", "NegControlProbe_1", "ERBB2", "U_1", "CD3"], [*"abcde"], types
    )
    table = stplm.cell_table(stplm.read_section(path))
    assert list(table.var_names) == ["EPCAM", "ERBB2"]
    np.testing.assert_array_equal(table.X.toarray(), [[5, 0], [0, 3]])
    assert list(table.obs["control_counts"]) == [3, 4]  # proteins are no noise
    qc = table.uns["stplm"]["qc"]
    assert qc["control_counts"] == {"Negative Control Probe": 1, "Protein Expression": 16, "Unassigned Codeword": 6}


def test_blocks_make_no_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = small_counts(200)
    counts[[0, 7, 199]] = 0
    path = write_matrix(tmp_path / "m.h5", counts, NAMES, IDS)
    monkeypatch.setattr(matrix_module, "_BLOCK", 17)
    seen: list[int] = []
    read = read_matrix(path, lambda done, total: seen.append(done))
    np.testing.assert_array_equal(read.counts.toarray(), counts)
    assert read.counts.dtype == np.int32
    assert len(seen) > 10
    assert seen == sorted(seen)


def test_cancel_goes_through(tmp_path: Path) -> None:
    path = write_matrix(tmp_path / "m.h5", small_counts(), NAMES, IDS)

    def cancel(done: int, total: int) -> None:
        raise stplm.errors.Cancelled

    with pytest.raises(stplm.errors.Cancelled):
        stplm.read_section(path, progress=cancel)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.999])
def test_truncated_hdf5(tmp_path: Path, share: float) -> None:
    path = write_matrix(tmp_path / "cell_feature_matrix.h5", small_counts(2000), NAMES, IDS)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(SectionError) as error:
        stplm.read_section(path)
    assert str(path) in str(error.value)
    assert "HDF5" in error.value.problem
    assert error.value.mend


@pytest.mark.parametrize("part", ["data", "indptr", "barcodes", "features/id"])
def test_a_missing_part_is_named(tmp_path: Path, part: str) -> None:
    path = write_matrix(tmp_path / "m.h5", small_counts(), NAMES, IDS)
    with h5py.File(path, "a") as file:
        del file[f"matrix/{part}"]
    with pytest.raises(SectionError, match=f"matrix/{part}"):
        stplm.read_section(path)


def test_parts_that_do_not_fit(tmp_path: Path) -> None:
    path = write_matrix(tmp_path / "m.h5", small_counts(), NAMES, IDS)
    with h5py.File(path, "a") as file:
        file["matrix/indices"][3] = 999
    with pytest.raises(SectionError, match="999"):
        stplm.read_section(path)
    with h5py.File(path, "a") as file:
        del file["matrix/barcodes"]
        file["matrix/barcodes"] = np.array(["one"], dtype="S")
    with pytest.raises(SectionError, match="do not fit"):
        stplm.read_section(path)


def test_another_hdf5_file_is_no_matrix(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["measurements"] = np.arange(3)
    with pytest.raises(SectionError, match="measurements"):
        stplm.read_section(tmp_path / "x.h5")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: np.log1p(x), "log-normalised"),
        (lambda x: x / x.sum(1, keepdims=True) * 1e4, "normalised"),
        (lambda x: x - 1.0, "negative"),
        (lambda x: np.where(x == 3, np.nan, x), "NaN"),
    ],
)
def test_values_that_are_no_counts(tmp_path: Path, change: object, words: str) -> None:
    path = write_matrix(tmp_path / "m.h5", change(small_counts().astype(float)), NAMES, IDS)  # type: ignore[operator]
    with pytest.raises(SectionError) as error:
        stplm.read_section(path)
    assert words in str(error.value)
    assert str(path) in str(error.value)
    assert "integer counts" in str(error.value) or "a count" in str(error.value)


def test_whole_numbers_stored_as_floats_are_counts(tmp_path: Path) -> None:
    path = write_matrix(tmp_path / "m.h5", small_counts().astype(np.float64), NAMES, IDS)
    assert stplm.cell_table(stplm.read_section(path)).X.dtype == np.int32


def test_duplicate_cell_ids(tmp_path: Path) -> None:
    path = write_matrix(tmp_path / "m.h5", small_counts(3), NAMES, IDS, cells=["a", "b", "a"])
    with pytest.raises(SectionError, match=r"(?s)not unique.*e\.g\. a"):
        stplm.read_section(path)


def test_duplicate_genes(tmp_path: Path) -> None:
    ids = [*IDS[:5], IDS[0]]
    with pytest.raises(GeneError, match=IDS[0]):
        stplm.read_section(write_matrix(tmp_path / "m.h5", small_counts(), NAMES, ids))
    names = [*NAMES[:5], NAMES[0]]
    table = stplm.cell_table(stplm.read_section(write_matrix(tmp_path / "n.h5", small_counts(), names, IDS)))
    assert table.var_names.is_unique
    assert table.var_names[5] == f"{NAMES[0]}-1"
    assert list(table.var["ensembl_id"]) == IDS


def test_mouse_is_named(tmp_path: Path) -> None:
    mouse = [f"ENSMUSG0000004539{i}.2" for i in range(6)]
    path = write_matrix(tmp_path / "m.h5", small_counts(), [n.title() for n in NAMES], mouse)
    with pytest.raises(GeneError, match="mouse"):
        stplm.read_section(path)
    symbols = write_matrix(tmp_path / "n.h5", small_counts(), [n.title() for n in NAMES], [f"g{i}" for i in range(6)])
    with pytest.raises(GeneError, match="mouse"):
        stplm.read_section(symbols)


def test_mouse_genes_of_a_xenograft_are_not_taken_for_human(tmp_path: Path) -> None:
    ids = [*IDS[:5], "ENSMUSG00000045394"]
    table = stplm.cell_table(
        stplm.read_section(write_matrix(tmp_path / "m.h5", small_counts(), [*NAMES[:5], "Lum"], ids))
    )
    assert list(table.var["ensembl_id"]) == [*IDS[:5], ""]


def test_a_mouse_bundle_is_refused_with_the_file_that_names_its_genes(bundle: Path) -> None:
    path = bundle / "cell_feature_matrix.h5"
    with h5py.File(path, "r+") as file:
        features = file["matrix/features"]
        n = len(features["id"])
        features["id"][...] = np.array([f"ENSMUSG{i:08d}" for i in range(n)], dtype="S")
        features["name"][...] = np.array([f"Gm{i}" for i in range(n)], dtype="S")
    with pytest.raises(GeneError, match="mouse") as caught:
        stplm.read_section(bundle)
    assert caught.value.where == str(path)


def test_unknown_genes_are_an_error_and_few_known_ones_a_warning(tmp_path: Path) -> None:
    nonsense = [f"XQ{i}Z" for i in range(6)]
    with pytest.raises(GeneError, match="XQ0Z"):
        stplm.read_section(write_matrix(tmp_path / "m.h5", small_counts(), nonsense, nonsense))
    mixed = ["EPCAM", *nonsense[1:]]
    qc = stplm.cell_table(stplm.read_section(write_matrix(tmp_path / "n.h5", small_counts(), mixed, mixed))).uns[
        "stplm"
    ]["qc"]
    assert qc["n_known_genes"] == 1
    assert any("1 of 6" in warning for warning in qc["warnings"])


def test_ids_win_over_symbols_and_versions_are_cut(tmp_path: Path) -> None:
    path = write_matrix(tmp_path / "m.h5", small_counts(), [f"mygene{i}" for i in range(6)], [f"{i}.7" for i in IDS])
    table = stplm.cell_table(stplm.read_section(path))
    assert list(table.var["ensembl_id"]) == IDS
    assert table.uns["stplm"]["qc"]["n_known_genes"] == 6


def test_a_panel_of_5001_genes(tmp_path: Path, shared_data: Path) -> None:
    import pandas as pd

    panel = pd.read_csv(shared_data / "xenium_panels" / "hPrime5K.csv")
    id_column = next(c for c in panel if panel[c].astype(str).str.startswith("ENSG").mean() > 0.9)
    ids = panel[id_column].astype(str).drop_duplicates().tolist()
    counts = (np.random.default_rng(0).random((40, len(ids))) < 0.05).astype(np.int32)
    table = stplm.cell_table(stplm.read_section(write_matrix(tmp_path / "m.h5", counts, ids, ids)))
    assert table.n_vars == len(ids) > 4_900
    assert table.uns["stplm"]["qc"]["n_known_genes"] == len(ids)
    assert not str(table.var_names[0]).startswith("ENSG")
