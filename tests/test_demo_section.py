"""The demo section that ships: readable by others, true to its source, free of labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from stplm.io.cell_ids import decode_cell_ids

LABEL_WORDS = (b"Invasive_Tumor", b"DCIS", b"Macrophages_1", b"Myoepi", b"non-tumour", b"cell_type")


@pytest.fixture(scope="module")
def section(demo_path: Path) -> Any:
    from spatialdata_io import xenium

    return xenium(demo_path)


@pytest.fixture(scope="module")
def spots(demo_path: Path) -> pd.DataFrame:
    return pd.read_parquet(demo_path / "transcripts.parquet")


def _pixels(section: Any, name: str) -> np.ndarray:
    return np.asarray(section.labels[name]["scale0"].image)


def test_all_elements_are_read(section: Any) -> None:
    assert set(section.images) == {"morphology_focus"}
    assert set(section.labels) == {"cell_labels", "nucleus_labels"}
    assert set(section.shapes) == {"cell_boundaries", "nucleus_boundaries"}
    assert set(section.points) == {"transcripts"}
    assert section.tables["table"].shape == (1135, 313)
    assert section.tables["table"].var["gene_ids"].str.fullmatch(r"ENSG\d{11}").all()
    image = section.images["morphology_focus"]["scale0"].image
    assert image.shape == (1, 1800, 2400)
    assert image.coords["c"].to_numpy().tolist() == ["DAPI"]


def test_it_is_small_enough_to_ship(demo_path: Path) -> None:
    assert sum(f.stat().st_size for f in demo_path.rglob("*") if f.is_file()) < 20e6


def test_no_label_is_shipped(section: Any, demo_path: Path) -> None:
    for file in demo_path.glob("*.parquet"):
        assert not {"cell_type", "tumour", "class", "label", "cluster"} & set(pq.read_schema(file).names)
    assert not {"cell_type", "tumour"} & set(section.tables["table"].obs)
    for file in (f for f in demo_path.rglob("*") if f.is_file() and f.suffix != ".md"):
        content = file.read_bytes()
        assert not [word for word in LABEL_WORDS if word in content], file.name


def test_counts_are_the_transcripts_of_each_cell(section: Any, spots: pd.DataFrame) -> None:
    table = section.tables["table"]
    inside = spots[spots["cell_id"] != "UNASSIGNED"]
    counted = pd.crosstab(inside["cell_id"], inside["feature_name"])
    counted = counted.reindex(index=table.obs["cell_id"], columns=table.var_names, fill_value=0)
    assert (table.X.toarray() == counted.to_numpy()).all()


def test_ids_keep_the_native_number(section: Any) -> None:
    obs = section.tables["table"].obs
    assert (decode_cell_ids(obs["cell_id"].to_numpy(str))[:, 0] == obs["native_cell_id"]).all()


def test_every_cell_has_an_outline_that_holds_its_transcripts(section: Any, spots: pd.DataFrame) -> None:
    obs = section.tables["table"].obs
    labels = _pixels(section, "cell_labels")
    assert np.array_equal(np.unique(labels), np.arange(len(obs) + 1))
    row = spots["cell_id"].map(pd.Series(obs["cell_labels"].to_numpy(), index=obs["cell_id"]))
    x, y = (spots[f"{axis}_location"] / 0.2125 for axis in "xy")
    seen = row.notna() & (x >= 0) & (y >= 0)
    own = labels[y[seen].astype(int), x[seen].astype(int)] == row[seen]
    assert own.mean() > 0.95
    nuclear = seen & (spots["overlaps_nucleus"] == 1)
    assert (_pixels(section, "nucleus_labels")[y[nuclear].astype(int), x[nuclear].astype(int)] > 0).mean() > 0.97


def test_centroids_lie_in_their_cells(section: Any) -> None:
    table = section.tables["table"]
    column, row = (table.obsm["spatial"] / 0.2125).astype(int).T
    assert (_pixels(section, "cell_labels")[row, column] == table.obs["cell_labels"]).mean() > 0.97


def test_nuclei_lie_in_the_cell_they_are_said_to(section: Any) -> None:
    cells, nuclei = _pixels(section, "cell_labels"), _pixels(section, "nucleus_labels")
    obs = section.tables["table"].obs
    value = pd.Series(obs["cell_labels"].to_numpy(), index=obs["cell_id"])
    owner = value[section.shapes["nucleus_boundaries"]["cell_id"]].to_numpy()
    assert (cells[nuclei > 0] == owner[nuclei[nuclei > 0] - 1]).all()
    assert len(owner) == obs["nucleus_count"].sum() > 1000


def test_outlines_are_where_the_label_image_is(section: Any) -> None:
    for shapes, labels in (("cell_boundaries", "cell_labels"), ("nucleus_boundaries", "nucleus_labels")):
        polygons = section.shapes[shapes].geometry
        assert polygons.is_valid.all()
        size = np.bincount(_pixels(section, labels).ravel())[1:] * 0.2125**2
        assert np.median(np.abs(polygons.area / size - 1)) < 0.03
        inside = polygons.representative_point()
        hit = _pixels(section, labels)[(inside.y / 0.2125).astype(int), (inside.x / 0.2125).astype(int)]
        assert (hit == np.arange(1, len(polygons) + 1)).mean() > 0.98


@pytest.mark.real
def test_counts_equal_the_source(section: Any, shared_data: Path) -> None:
    import anndata as ad

    source = ad.read_h5ad(shared_data / "xenium_breast_crop" / "cells_1135.h5ad")
    table = section.tables["table"]
    order = pd.Index(table.obs["native_cell_id"]).get_indexer(source.obs["cell_id"].astype(int))
    mine = table.X[order][:, table.var_names.get_indexer(source.var_names)]
    assert (order >= 0).all()
    assert abs(mine - source.X).sum() == 0
    dapi = shared_data / "xenium_breast_crop" / "morphology_mip_small.tif"
    import tifffile

    assert (np.asarray(section.images["morphology_focus"]["scale0"].image)[0] == tifffile.imread(dapi)).all()
