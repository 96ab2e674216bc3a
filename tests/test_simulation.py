"""Simulated sections: readable, reproducible, and their truth is in the counts and in the tissue."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.spatial import cKDTree

from stplm.errors import ExportError, StplmError
from stplm.paths import resource
from stplm.simulation import TRUTH, simulate_section


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate_section(tmp_path_factory.mktemp("sim") / "outs", cells=900, transcripts=True, seed=3)


@pytest.fixture(scope="module")
def section(folder: Path) -> Any:
    from spatialdata_io import xenium

    return xenium(folder)


def test_it_reads_as_a_xenium_section(section: Any, folder: Path) -> None:
    table = section.tables["table"]
    truth = pd.read_parquet(folder / TRUTH)
    assert table.shape == (900, 313)
    assert truth["cell_id"].tolist() == table.obs["cell_id"].tolist()
    labels = np.asarray(section.labels["cell_labels"]["scale0"].image)
    column, row = (table.obsm["spatial"] / 0.2125).astype(int).T
    assert (labels[row, column] == table.obs["cell_labels"]).all()
    size = np.bincount(labels.ravel(), minlength=901)[1:] * 0.2125**2
    assert np.median(np.abs(size / table.obs["cell_area"] - 1)) < 0.05
    assert section.shapes["cell_boundaries"].is_valid.all()
    image = np.asarray(section.images["morphology_focus"]["scale0"].image)[0]
    nuclei = np.asarray(section.labels["nucleus_labels"]["scale0"].image)
    assert image[nuclei > 0].mean() > 3 * image[labels == 0].mean()
    spots = section.points["transcripts"].compute()
    assert len(spots) == table.obs["total_counts"].sum()
    own = pd.Series(table.obs["cell_labels"].to_numpy(), index=table.obs["cell_id"])[spots["cell_id"]].to_numpy()
    assert (labels[(spots["y"] / 0.2125).astype(int), (spots["x"] / 0.2125).astype(int)] == own).mean() > 0.98


def test_truth_is_in_the_counts(section: Any, folder: Path) -> None:
    rates = np.expm1(pd.read_csv(resource("profiles/breast.csv"), index_col="class"))
    rates = rates.div(rates.sum(axis=1), axis=0) * 0.98 + 0.02 * rates.mean(axis=0) / rates.mean(axis=0).sum()
    likelihood = section.tables["table"][:, rates.columns].X @ np.log(rates.to_numpy()).T
    truth = pd.read_parquet(folder / TRUTH)
    assert (rates.index.to_numpy()[likelihood.argmax(axis=1)] == truth["class"]).mean() > 0.9
    assert set(truth.loc[truth["tumour"], "class"]) == {"Tumour"}


def test_neighbours_share_a_region(section: Any, folder: Path) -> None:
    region = pd.read_parquet(folder / TRUTH)["region"].to_numpy()
    near = cKDTree(section.tables["table"].obsm["spatial"]).query(section.tables["table"].obsm["spatial"], k=5)[1]
    chance = (pd.Series(region).value_counts(normalize=True) ** 2).sum()
    assert (region[near[:, 1:]] == region[:, None]).mean() > chance + 0.25


def test_truth_stays_out_of_the_bundle(section: Any) -> None:
    assert not {"class", "tumour", "region_name"} & set(section.tables["table"].obs)


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    made = [
        simulate_section(tmp_path / name, cells=40, seed=seed, genes=50, controls=3)
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    ]
    files = sorted(p.relative_to(made[0]) for p in made[0].rglob("*") if p.is_file())
    first, second, third = ([(folder / f).read_bytes() for f in files] for folder in made)
    assert first == second
    assert first != third


@pytest.mark.parametrize(("cells", "genes"), [(1, 5), (2, 313), (37, 500)])
def test_any_size(tmp_path: Path, cells: int, genes: int) -> None:
    import h5py

    folder = simulate_section(tmp_path / "outs", cells=cells, genes=genes, image=False, controls=4, pixel_size=1.0)
    with h5py.File(folder / "cell_feature_matrix.h5") as file:
        assert file["matrix/shape"][:].tolist() == [genes + 4, cells]
        assert len(set(file["matrix/features/name"][:])) == genes + 4
    assert len(pd.read_parquet(folder / TRUTH)) == cells


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="cells and genes"):
        simulate_section(tmp_path / "outs", cells=0)
    with pytest.raises(StplmError, match="profiles/moss"):
        simulate_section(tmp_path / "outs", profiles="moss")


def test_a_shipped_panel_has_its_genes_and_the_measured_rates_of_those_that_are_known(tmp_path: Path) -> None:
    from stplm import cell_table, read_section

    path = simulate_section(tmp_path / "multi", cells=400, panel="hMulti", image=False, seed=5)
    table = cell_table(read_section(path, images=False, labels=False))
    assert table.n_vars == 377
    assert (table.var["ensembl_id"] != "").all()
    tumour = pd.read_parquet(path / TRUTH)["tumour"].to_numpy()
    epcam = np.asarray(table[:, "EPCAM"].X.todense()).ravel()
    assert epcam[tumour].mean() > 3 * epcam[~tumour].mean()
    with pytest.raises(ExportError, match="panel or a number of genes"):
        simulate_section(tmp_path / "both", cells=10, panel="hMulti", genes=50)
    with pytest.raises(StplmError, match="no panel"):
        simulate_section(tmp_path / "none", cells=10, panel="hNothing")
