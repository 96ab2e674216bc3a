"""SpatialData stores: our own, spatialdata-io's, and others'."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from readable import small_table
from spatialdata import SpatialData
from spatialdata.models import Labels2DModel, ShapesModel, TableModel
from spatialdata.transformations import Identity, get_transformation

import stplm
from stplm.errors import SectionError

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")


def scale_to_microns(element: object) -> float:
    return get_transformation(element, "microns").to_affine_matrix(("x", "y"), ("x", "y"))[0, 0]


def test_a_written_section_reads_back_equal(demo_path: Path, tmp_path: Path) -> None:
    section = stplm.read_section(demo_path, polygons=True)
    table = stplm.cell_table(section)
    table.obs["stplm_class"] = pd.Categorical(["Tumour"] * table.n_obs)
    section.write(tmp_path / "a.zarr")
    again = stplm.read_section(tmp_path / "a.zarr")
    other = stplm.cell_table(again)
    np.testing.assert_array_equal(other.X.toarray(), table.X.toarray())
    pd.testing.assert_frame_equal(other.obs, table.obs, check_dtype=False, check_categorical=False)
    np.testing.assert_array_equal(other.obsm["spatial"], table.obsm["spatial"])
    assert other.uns["stplm"]["qc"]["n_genes"] == 313
    assert other.uns["stplm"]["source"]["pixel_size"] == 0.2125
    assert set(again.labels) == {"cell_labels", "nucleus_labels"}
    assert "morphology_focus" in again.images
    assert not again.shapes
    assert "cell_boundaries" in stplm.read_section(tmp_path / "a.zarr", polygons=True).shapes
    assert scale_to_microns(again.labels["cell_labels"]) == pytest.approx(0.2125)
    light = stplm.read_section(tmp_path / "a.zarr", images=False, labels=False)
    assert not light.images
    assert not light.labels


def test_a_store_that_spatialdata_io_wrote(demo_path: Path, tmp_path: Path) -> None:
    from spatialdata_io import xenium

    xenium(demo_path, transcripts=False, nucleus_boundaries=False).write(tmp_path / "x.zarr")
    section = stplm.read_section(tmp_path / "x.zarr", polygons=True)
    ours = stplm.cell_table(stplm.read_section(demo_path, images=False))
    table = stplm.cell_table(section)
    np.testing.assert_array_equal(table.obs_names, ours.obs_names)
    np.testing.assert_array_equal(table.obs["cell_labels"], ours.obs["cell_labels"])
    np.testing.assert_array_equal(table.var["ensembl_id"], ours.var["ensembl_id"])
    assert scale_to_microns(section.shapes["cell_boundaries"]) == pytest.approx(1.0)
    assert scale_to_microns(section.images["morphology_focus"]) == pytest.approx(0.2125)
    without_shapes = stplm.read_section(tmp_path / "x.zarr")
    assert scale_to_microns(without_shapes.images["morphology_focus"]) == pytest.approx(0.2125)


def other_section() -> SpatialData:
    """A table of another name, tied to masks of another name, one unit a µm."""
    table = small_table()
    labels = np.zeros((80, 90), dtype=np.int32)
    x, y = np.floor(table.obsm["spatial"] - table.obsm["spatial"].min(axis=0)).astype(int).T
    table.obsm["spatial"] = np.stack([x + 0.5, y + 0.5], axis=1)
    values = np.arange(60) + 5
    labels[y, x] = values
    table.obs["instance"] = values
    table.obs["where"] = pd.Categorical(["my_cells"] * 60)
    table = TableModel.parse(table, region="my_cells", region_key="where", instance_key="instance")
    element = Labels2DModel.parse(labels, dims=("y", "x"), transformations={"global": Identity()})
    return SpatialData(labels={"my_cells": element}, tables={"counts": table})


def test_other_names(tmp_path: Path) -> None:
    other_section().write(tmp_path / "o.zarr")
    section = stplm.read_section(tmp_path / "o.zarr")
    table = stplm.cell_table(section)
    assert set(section.tables) == {"table"}
    assert table is section.tables["table"]
    assert list(table.obs["cell_labels"][:3]) == [5, 6, 7]
    assert table.uns["spatialdata_attrs"]["region"] == "cell_labels"
    assert scale_to_microns(section.labels["cell_labels"]) == 1.0


def test_a_section_in_memory_is_made_canonical_in_place() -> None:
    section = other_section()
    table = stplm.cell_table(section)
    assert section.tables["table"] is table
    assert stplm.cell_table(section) is table
    table.obsm["X_stplm"] = np.zeros((60, 2))
    assert "X_stplm" in section["table"].obsm


def test_shapes_only(tmp_path: Path) -> None:
    table = small_table()
    circles = ShapesModel.parse(
        table.obsm["spatial"], geometry=0, radius=4.0, index=table.obs_names, transformations={"global": Identity()}
    )
    table.obs["cell_id"] = table.obs_names
    table.obs["region"] = pd.Categorical(["cell_boundaries"] * 60)
    table = TableModel.parse(table, region="cell_boundaries", region_key="region", instance_key="cell_id")
    SpatialData(shapes={"cell_boundaries": circles}, tables={"table": table}).write(tmp_path / "s.zarr")
    section = stplm.read_section(tmp_path / "s.zarr")
    assert "cell_boundaries" in section.shapes
    assert stplm.cell_table(section).uns["spatialdata_attrs"]["region"] == "cell_boundaries"


def test_several_tables(tmp_path: Path) -> None:
    section = SpatialData(tables={"a": small_table(), "b": small_table()})
    section.write(tmp_path / "t.zarr")
    with pytest.raises(SectionError, match="several tables") as error:
        stplm.read_section(tmp_path / "t.zarr")
    assert "a, b" in str(error.value.found)
    with pytest.raises(SectionError, match="no cell table"):
        stplm.cell_table(SpatialData())


def test_bad_counts_in_a_store(tmp_path: Path) -> None:
    table = small_table()
    table.X = table.X.log1p()
    SpatialData(tables={"table": table}).write(tmp_path / "t.zarr")
    with pytest.raises(SectionError, match="log-normalised") as error:
        stplm.read_section(tmp_path / "t.zarr")
    assert str(tmp_path / "t.zarr") in str(error.value)


def test_damaged_stores(tmp_path: Path) -> None:
    other_section().write(tmp_path / "o.zarr")
    for chunk in sorted((tmp_path / "o.zarr" / "tables" / "counts" / "X" / "data" / "c").iterdir()):
        chunk.write_bytes(b"nonsense")
    with pytest.raises(SectionError, match=r"o\.zarr"):
        stplm.read_section(tmp_path / "o.zarr")
    (tmp_path / "e.zarr").mkdir()
    with pytest.raises(SectionError, match="not a Zarr store"):
        stplm.read_section(tmp_path / "e.zarr")
