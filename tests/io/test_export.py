"""h5ad and SpatialData zarr read back equal; endings, overwriting and mistakes."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from exportable import make_section, make_table
from scipy import sparse

import stplm
from stplm import keys
from stplm.errors import ExportError
from stplm.io.export import export, read_explorer_groups, read_geojson, with_ending, write_h5ad, write_zarr


def _assert_same_table(got: ad.AnnData, want: ad.AnnData) -> None:
    assert (got.X != want.X).nnz == 0
    assert sparse.issparse(got.X)
    assert got.X.dtype == want.X.dtype
    pd.testing.assert_frame_equal(got.obs, want.obs, check_names=False)
    pd.testing.assert_frame_equal(got.var, want.var, check_names=False)
    assert list(got.obs[keys.CLASS].cat.categories) == list(want.obs[keys.CLASS].cat.categories)
    assert set(got.obsm) == set(want.obsm)
    for name in want.obsm:
        np.testing.assert_array_equal(got.obsm[name], want.obsm[name])
        assert got.obsm[name].dtype == want.obsm[name].dtype
    for name in (keys.UNS_SOURCE, keys.UNS_QC, keys.UNS_EMBEDDING, keys.UNS_PREDICTION):
        mine, theirs = got.uns[keys.UNS][name], want.uns[keys.UNS][name]
        assert set(mine) == set(theirs)
        for key, value in theirs.items():
            if isinstance(value, list):
                assert list(mine[key]) == value
            else:
                assert mine[key] == value


def test_h5ad_reads_back_equal(tmp_path: Path) -> None:
    section = make_section()
    path = export(section, tmp_path / "cells", "h5ad")
    assert path == tmp_path / "cells.h5ad"
    _assert_same_table(ad.read_h5ad(path), section[keys.TABLE])


def test_h5ad_of_what_cannot_be_stored_says_so(tmp_path: Path) -> None:
    table = make_table()
    table.uns["odd"] = {"thing": object()}
    with pytest.raises(ExportError, match="cannot"):
        write_h5ad(table, tmp_path / "cells.h5ad")
    assert list(tmp_path.iterdir()) == []


def test_zarr_reads_back_equal(tmp_path: Path) -> None:
    import spatialdata

    section = make_section()
    path = export(section, tmp_path / "section.zarr")
    assert section.path is None
    back = spatialdata.read_zarr(path)
    assert back.has_consolidated_metadata()
    _assert_same_table(back[keys.TABLE], section[keys.TABLE])
    np.testing.assert_array_equal(back[keys.CELL_LABELS].data.compute(), section[keys.CELL_LABELS].data.compute())
    for scale in ("scale0", "scale1"):
        mine, theirs = (s[keys.MORPHOLOGY][scale]["image"].data.compute() for s in (back, section))
        np.testing.assert_array_equal(mine, theirs)
    shapes, wanted = back[keys.CELL_BOUNDARIES], section[keys.CELL_BOUNDARIES]
    assert list(shapes.index) == list(wanted.index)
    assert shapes.geometry.geom_equals_exact(wanted.geometry, 1e-9).all()
    for name in (keys.CELL_LABELS, keys.MORPHOLOGY, keys.CELL_BOUNDARIES):
        for system in (keys.PIXELS, keys.MICRONS):
            got, want = (
                spatialdata.transformations.get_transformation(s[name], system).to_affine_matrix(("x", "y"), ("x", "y"))
                for s in (back, section)
            )
            np.testing.assert_allclose(got, want)


def test_zarr_read_lazily_is_not_written_over_itself(tmp_path: Path) -> None:
    import spatialdata

    write_zarr(make_section(3, image=False, shapes=False), tmp_path / "a.zarr")
    lazy = spatialdata.read_zarr(tmp_path / "a.zarr")
    with pytest.raises(ExportError, match="being read from"):
        export(lazy, tmp_path / "a.zarr", overwrite=True)
    with pytest.raises(ExportError, match="being read from"):
        export(lazy, tmp_path / "a.zarr" / "inside.zarr")
    lazy[keys.TABLE].obs["note"] = "changed"
    export(lazy, tmp_path / "b.zarr")
    export(lazy, tmp_path / "b.zarr", overwrite=True)
    back = spatialdata.read_zarr(tmp_path / "b.zarr")
    assert (back[keys.TABLE].obs["note"] == "changed").all()
    np.testing.assert_array_equal(back[keys.CELL_LABELS].data.compute(), lazy[keys.CELL_LABELS].data.compute())


def test_zarr_refuses_tables_and_strange_folders(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="whole section"):
        write_zarr(make_table(), tmp_path / "a.zarr")
    holiday = tmp_path / "photos.zarr"
    holiday.mkdir()
    (holiday / "beach.jpg").write_text("")
    with pytest.raises(ExportError, match="not a zarr store"):
        export(make_section(), holiday, overwrite=True)
    assert (holiday / "beach.jpg").exists()


def test_nothing_is_overwritten_by_default(tmp_path: Path) -> None:
    table = make_table()
    for name in ("a.h5ad", "a.csv", "a.geojson"):
        export(table, tmp_path / name)
        before = (tmp_path / name).read_bytes()
        with pytest.raises(ExportError, match="exists already"):
            export(table, tmp_path / name)
        assert (tmp_path / name).read_bytes() == before
        export(table, tmp_path / name, overwrite=True)


def test_before_prediction_says_what_to_do(tmp_path: Path) -> None:
    table = make_table(predicted=False)
    for what in ("explorer", "geojson"):
        with pytest.raises(ExportError, match="Classify"):
            export(table, tmp_path / "a", what)
    assert list(tmp_path.iterdir()) == []
    assert export(table, tmp_path / "a", "h5ad").exists()


def test_endings() -> None:
    assert with_ending("out/cells", "geojson") == Path("out/cells.geojson")
    assert with_ending("rep1.v2", "h5ad") == Path("rep1.v2.h5ad")
    assert with_ending("cells.json", "geojson") == Path("cells.json")
    with pytest.raises(ExportError, match=r"cells\.csv"):
        with_ending("cells.txt", "explorer")


def test_mistakes_are_named(tmp_path: Path) -> None:
    table = make_table()
    with pytest.raises(ExportError, match="which format"):
        export(table, tmp_path / "cells")
    with pytest.raises(ExportError, match="Unknown export format"):
        export(table, tmp_path / "cells", "seurat")  # type: ignore[arg-type]
    with pytest.raises(ExportError, match="no option 'units'"):
        export(table, tmp_path / "cells.csv", units="pixels")
    with pytest.raises(ExportError, match="does not exist"):
        export(table, tmp_path / "none" / "cells.csv")


def test_public_name() -> None:
    assert stplm.export is export


def test_demo_section_goes_out_and_comes_back(demo_path: Path, tmp_path: Path) -> None:
    section = stplm.read_section(demo_path)
    table = stplm.cell_table(section)
    table.obs[keys.CLASS] = pd.Categorical(["Tumour", "Stroma", None])[np.arange(table.n_obs) % 3]
    back = stplm.read_section(export(section, tmp_path / "demo.zarr"))
    for name in (keys.CELL_LABELS, keys.NUCLEUS_LABELS):
        mine, theirs = (s.labels[name]["scale0"]["image"].data.compute() for s in (back, section))
        np.testing.assert_array_equal(mine, theirs)
    for other in (stplm.cell_table(back), stplm.cell_table(stplm.read_section(export(table, tmp_path / "d.h5ad")))):
        assert (other.X != table.X).nnz == 0
        assert list(other.obs_names) == list(table.obs_names)
        np.testing.assert_array_equal(other.obsm[keys.SPATIAL], table.obsm[keys.SPATIAL])
        pd.testing.assert_series_equal(other.obs[keys.CLASS], table.obs[keys.CLASS])
    groups = read_explorer_groups(export(section, tmp_path / "demo.csv"))
    assert list(groups.index) == pd.read_parquet(demo_path / "cells.parquet")["cell_id"].tolist()
    cells, _ = read_geojson(export(section, tmp_path / "demo.geojson"))
    distance = np.hypot(*(cells.geometry.centroid.get_coordinates().to_numpy() - table.obsm[keys.SPATIAL]).T)
    assert np.median(distance) < 1.0
