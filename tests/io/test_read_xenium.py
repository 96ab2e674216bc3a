"""Xenium bundles, as they come: whole, old, partial, with other ids and other files."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import h5py
import numpy as np
import pandas as pd
import pytest
import shapely
import tifffile
import zarr
from spatialdata import SpatialData
from spatialdata.transformations import get_transformation

import stplm
from stplm import keys


def base(element: Any) -> da.Array:
    return element["scale0"]["image"].data


def to_microns(element: Any, xy: list[float]) -> np.ndarray:
    matrix = get_transformation(element, "microns").to_affine_matrix(("x", "y"), ("x", "y"))
    return (matrix @ [*xy, 1.0])[:2]


def assert_values_lie_on_cells(section: SpatialData, least: float = 0.9) -> None:
    """Under most centroids the label image has the cell's own value."""
    table = stplm.cell_table(section)
    labels = base(section.labels[keys.CELL_LABELS]).compute()
    x, y = np.floor(table.obsm["spatial"] / 0.2125).astype(int).T
    own = labels[y.clip(0, labels.shape[0] - 1), x.clip(0, labels.shape[1] - 1)] == table.obs["cell_labels"]
    assert own.mean() > least


def rewrite_masks(bundle: Path, change: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]) -> None:
    """Write cells.zarr.zip anew with other arrays."""
    path = bundle / "cells.zarr.zip"
    with zarr.storage.ZipStore(path, mode="r") as store:
        group = zarr.open_group(store, mode="r")
        names = ["cell_id", "masks/0", "masks/1", "polygon_sets/0/cell_index", "polygon_sets/1/cell_index"]
        arrays = {name: group[name][...] for name in names}
    path.unlink()
    with zarr.storage.ZipStore(path, mode="w") as store:
        group = zarr.open_group(store, mode="w", zarr_format=2)
        for name, array in change(arrays).items():
            group.create_array(name, data=array, chunks=tuple(min(n, 500) for n in array.shape))


def set_version(bundle: Path, version: str) -> None:
    path = bundle / "experiment.xenium"
    path.write_text(json.dumps({**json.loads(path.read_text()), "analysis_sw_version": version}))


def to_csv_gz(bundle: Path, *stems: str) -> None:
    for stem in stems:
        path = bundle / f"{stem}.parquet"
        pd.read_parquet(path).to_csv(bundle / f"{stem}.csv.gz", index=False)
        path.unlink()


def test_the_demo_section(demo_path: Path) -> None:
    section = stplm.read_section(demo_path)
    table = stplm.cell_table(section)
    assert table is section.tables["table"]
    assert set(section.images) == {"morphology_focus"}
    assert set(section.labels) == {"cell_labels", "nucleus_labels"}
    assert not section.shapes
    assert not section.points
    for element in (*section.images.values(), *section.labels.values()):
        assert isinstance(base(element), da.Array)
        assert len(element.children) >= 3
        np.testing.assert_allclose(to_microns(element, [100, 200]), [21.25, 42.5])
    assert table.uns["spatialdata_attrs"]["region"] == "cell_labels"
    assert table.uns["spatialdata_attrs"]["instance_key"] == "cell_labels"
    assert table.uns["stplm"]["source"]["pixel_size"] == 0.2125
    assert table.uns["stplm"]["qc"]["n_known_genes"] == 313
    assert "cell_area" in table.obs
    assert_values_lie_on_cells(section)


def test_the_table_agrees_with_spatialdata_io(demo_path: Path) -> None:
    from spatialdata_io import xenium

    theirs = xenium(demo_path, transcripts=False, morphology_focus=False)["table"]
    ours = stplm.cell_table(stplm.read_section(demo_path))
    np.testing.assert_array_equal(ours.X.toarray(), theirs.X.toarray())
    np.testing.assert_array_equal(ours.obs_names, theirs.obs_names)
    np.testing.assert_array_equal(ours.obs["cell_labels"], theirs.obs["cell_labels"])
    np.testing.assert_allclose(ours.obsm["spatial"], theirs.obsm["spatial"])


def test_pyramid_levels_show_the_same_tissue(demo_path: Path) -> None:
    section = stplm.read_section(demo_path)
    labels = section.labels["cell_labels"]
    full = base(labels).compute()
    coarse = labels["scale2"]["image"].data.compute()
    assert np.isin(coarse, full).all()
    np.testing.assert_array_equal(coarse, full[2::4, 2::4][: coarse.shape[0], : coarse.shape[1]])
    image = section.images["morphology_focus"]
    assert image["scale2"]["image"].data.mean().compute() == pytest.approx(base(image).mean().compute(), rel=0.1)


def test_polygons_and_transcripts_come_when_asked(demo_path: Path) -> None:
    section = stplm.read_section(demo_path, polygons=True, transcripts=True, images=False)
    assert not section.images
    table = stplm.cell_table(section)
    cells = section.shapes["cell_boundaries"]
    inside = shapely.contains_xy(cells.loc[table.obs_names].geometry.to_numpy(), table.obsm["spatial"])
    assert inside.mean() > 0.9
    assert "nucleus_boundaries" in section.shapes
    points = section.points["transcripts"]
    assert len(points) == len(pd.read_parquet(demo_path / "transcripts.parquet", columns=["qv"]))
    for element in (cells, points):
        np.testing.assert_allclose(to_microns(element, [10, 20]), [10, 20])


def test_csv_instead_of_parquet_changes_nothing(bundle: Path, demo_path: Path) -> None:
    pd.read_parquet(demo_path / "transcripts.parquet").iloc[:5000].to_parquet(bundle / "transcripts.parquet")
    before = stplm.read_section(bundle, polygons=True, transcripts=True)
    n_transcripts = len(before.points["transcripts"])
    to_csv_gz(bundle, "cells", "cell_boundaries", "nucleus_boundaries", "transcripts")
    after = stplm.read_section(bundle, polygons=True, transcripts=True)
    one, two = stplm.cell_table(before), stplm.cell_table(after)
    np.testing.assert_array_equal(one.obs_names, two.obs_names)
    np.testing.assert_allclose(one.obsm["spatial"], two.obsm["spatial"])
    assert list(one.obs.columns) == list(two.obs.columns)
    for name in ("cell_boundaries", "nucleus_boundaries"):
        assert after.shapes[name].geometry.area.sum() == pytest.approx(before.shapes[name].geometry.area.sum())
        assert list(after.shapes[name].index) == list(before.shapes[name].index)
    assert len(after.points["transcripts"]) == n_transcripts
    np.testing.assert_allclose(to_microns(after.points["transcripts"], [10, 20]), [10, 20])


@pytest.mark.parametrize(
    "name", ["experiment.xenium", "cells.parquet", "morphology_focus/morphology_focus_0000.ome.tif"]
)
def test_a_file_dropped_from_a_bundle_opens_it(bundle: Path, name: str) -> None:
    section = stplm.read_section(bundle / name, images=False)
    assert stplm.cell_table(section).n_obs == 1135
    assert "cell_labels" in section.labels


def test_folders_around_a_bundle(bundle: Path) -> None:
    assert stplm.cell_table(stplm.read_section(bundle.parent, images=False)).n_obs == 1135
    assert stplm.cell_table(stplm.read_section(bundle / "morphology_focus", images=False)).n_obs == 1135


def test_the_matrix_of_a_bundle_alone(bundle: Path) -> None:
    table = stplm.cell_table(stplm.read_section(bundle / "cell_feature_matrix.h5"))
    assert "spatial" not in table.obsm
    assert table.n_obs == 1135
    assert any("folder" in warning for warning in table.uns["stplm"]["qc"]["warnings"])


def test_integer_ids_of_the_first_version(bundle: Path) -> None:
    """XOA 1.0: integer ids, one morphology file, nothing that says which mask value is which cell."""
    table = pd.read_parquet(bundle / "cells.parquet")
    numbers = np.arange(1, len(table) + 1)
    with h5py.File(bundle / "cell_feature_matrix.h5", "a") as file:
        del file["matrix/barcodes"]
        file["matrix/barcodes"] = numbers.astype("S")
    table.assign(cell_id=numbers).to_parquet(bundle / "cells.parquet", index=False)
    to_csv_gz(bundle, "cells")
    rewrite_masks(bundle, lambda a: {"cell_id": numbers.astype(np.uint32), **{k: a[k] for k in ("masks/0", "masks/1")}})
    shutil.move(bundle / "morphology_focus" / "morphology_focus_0000.ome.tif", bundle / "morphology_mip.ome.tif")
    shutil.rmtree(bundle / "morphology_focus")
    set_version(bundle, "Xenium-1.0.1")
    section = stplm.read_section(bundle)
    cells = stplm.cell_table(section)
    assert list(cells.obs_names[:3]) == ["1", "2", "3"]
    assert cells.obs["cell_id"].map(type).eq(str).all()
    assert_values_lie_on_cells(section)
    assert base(section.images["morphology_focus"]).shape == (1, 1800, 2400)


def test_seg_mask_value_of_versions_1_3(bundle: Path) -> None:
    set_version(bundle, "xenium-1.4.0.6")
    rewrite_masks(
        bundle,
        lambda a: {
            **{k: a[k] for k in ("cell_id", "masks/0", "masks/1")},
            "seg_mask_value": np.arange(1, len(a["cell_id"]) + 1, dtype=np.uint32),
        },
    )
    assert_values_lie_on_cells(stplm.read_section(bundle))


@pytest.mark.parametrize("version", ["development", "xenium-1.9.0.0", "xenium-9.0.0.1"])
def test_versions_that_spatialdata_io_refuses(bundle: Path, version: str) -> None:
    set_version(bundle, version)
    section = stplm.read_section(bundle)
    assert "cell_labels" in stplm.cell_table(section).obs
    assert_values_lie_on_cells(section)


def test_cells_in_another_order(bundle: Path, edit_cells: Callable[..., None]) -> None:
    before = stplm.cell_table(stplm.read_section(bundle, images=False))
    edit_cells(lambda frame: frame.sample(frac=1, random_state=0))
    after = stplm.cell_table(stplm.read_section(bundle, images=False))
    np.testing.assert_array_equal(before.obsm["spatial"], after.obsm["spatial"])
    np.testing.assert_array_equal(before.obs["cell_labels"], after.obs["cell_labels"])


def test_byte_ids(bundle: Path, edit_cells: Callable[..., None]) -> None:
    edit_cells(lambda frame: frame.assign(cell_id=frame["cell_id"].str.encode("utf-8")))
    assert stplm.cell_table(stplm.read_section(bundle, images=False)).obs_names[0].endswith("-1")


def test_without_images(bundle: Path) -> None:
    shutil.rmtree(bundle / "morphology_focus")
    section = stplm.read_section(bundle)
    assert not section.images
    assert "cell_labels" in section.labels
    assert any("no morphology" in w for w in stplm.cell_table(section).uns["stplm"]["qc"]["warnings"])


def test_without_masks_cells_are_outlines_and_without_those_circles(bundle: Path) -> None:
    (bundle / "cells.zarr.zip").unlink()
    section = stplm.read_section(bundle)
    table = stplm.cell_table(section)
    assert not section.labels
    assert table.uns["spatialdata_attrs"]["region"] == "cell_boundaries"
    assert set(table.obs["cell_id"]) == set(section.shapes["cell_boundaries"].index)
    assert "cell_labels" not in table.obs
    (bundle / "cell_boundaries.parquet").unlink()
    section = stplm.read_section(bundle)
    assert stplm.cell_table(section).uns["spatialdata_attrs"]["region"] == "cell_circles"
    circles = section.shapes["cell_circles"]
    np.testing.assert_allclose(np.pi * circles["radius"] ** 2, table.obs["cell_area"])
    np.testing.assert_allclose(to_microns(circles, [5, 6]), [5, 6])


def test_without_experiment_file(bundle: Path) -> None:
    (bundle / "experiment.xenium").unlink()
    section = stplm.read_section(bundle)
    table = stplm.cell_table(section)
    assert any("experiment.xenium" in w for w in table.uns["stplm"]["qc"]["warnings"])
    assert_values_lie_on_cells(section)


def test_a_folder_of_four_channels(bundle: Path) -> None:
    """Each file of the segmentation kit names all four in its metadata."""
    folder = bundle / "morphology_focus"
    dapi = tifffile.imread(folder / "morphology_focus_0000.ome.tif", is_ome=False)
    dapi = dapi.reshape(dapi.shape[-2:])
    shutil.rmtree(folder)
    folder.mkdir()
    for i in range(4):
        path = folder / f"morphology_focus_{i:04d}.ome.tif"
        options: dict[str, Any] = {"tile": (512, 512), "photometric": "minisblack"}
        with tifffile.TiffWriter(path, bigtiff=True) as tiff:
            tiff.write(dapi + i, subifds=2, metadata=None, description=_four_files(dapi.shape), **options)
            for step in (2, 4):
                tiff.write((dapi + i)[::step, ::step], subfiletype=1, metadata=None, **options)
    image = stplm.read_section(bundle).images["morphology_focus"]
    assert list(image["scale0"]["image"].coords["c"].values) == [
        "DAPI",
        "ATP1A1/CD45/E-Cadherin",
        "18S",
        "AlphaSMA/Vimentin",
    ]
    assert len(image.children) == 3
    corner = base(image)[:, 700, 900].compute().astype(int)
    np.testing.assert_array_equal(corner - corner[0], [0, 1, 2, 3])


def _four_files(shape: tuple[int, int]) -> str:
    names = ("DAPI", "ATP1A1/CD45/E-Cadherin", "18S", "AlphaSMA/Vimentin")
    channels = "".join(f'<Channel ID="Channel:{i}" Name="{n}" SamplesPerPixel="1"/>' for i, n in enumerate(names))
    files = "".join(
        f'<TiffData FirstC="{i}" IFD="0" PlaneCount="1"><UUID FileName="morphology_focus_{i:04d}.ome.tif">'
        f"urn:uuid:0000000{i}-0000-0000-0000-000000000000</UUID></TiffData>"
        for i in range(4)
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
        f'<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="{shape[1]}" '
        f'SizeY="{shape[0]}" SizeZ="1" SizeC="4" SizeT="1">{channels}{files}</Pixels></Image></OME>'
    )


def test_an_aligned_he_image(bundle: Path) -> None:
    rgb = np.random.default_rng(0).integers(0, 255, (300, 400, 3), dtype=np.uint8)
    tifffile.imwrite(bundle / "sample_he_image.ome.tif", rgb, photometric="rgb", tile=(128, 128))
    pd.DataFrame([[2, 0, 10], [0, 2, 20], [0, 0, 1]]).to_csv(
        bundle / "sample_he_imagealignment.csv", header=False, index=False
    )
    image = stplm.read_section(bundle, labels=False).images["he_image"]
    np.testing.assert_array_equal(base(image).compute(), np.moveaxis(rgb, -1, 0))
    np.testing.assert_allclose(to_microns(image, [100, 100]), [210 * 0.2125, 220 * 0.2125])


def test_empty_cells_are_kept_and_flagged(bundle: Path) -> None:
    with h5py.File(bundle / "cell_feature_matrix.h5", "a") as file:
        file["matrix/data"][: file["matrix/indptr"][1]] = 0
    table = stplm.cell_table(stplm.read_section(bundle, images=False))
    assert table.n_obs == 1135
    assert table.obs["n_counts"].iloc[0] == table.obs["n_genes"].iloc[0] == 0
    assert table.obs["low_counts"].iloc[0]
    assert table.uns["stplm"]["qc"]["n_empty"] == 1


def test_a_cell_without_a_mask_gets_a_value_of_its_own(bundle: Path) -> None:
    def lose_last(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        mask = arrays["masks/1"].copy()
        mask[mask == mask.max()] = 0
        return {**arrays, "masks/1": mask, "polygon_sets/1/cell_index": arrays["polygon_sets/1/cell_index"][:-1]}

    rewrite_masks(bundle, lose_last)
    section = stplm.read_section(bundle, images=False)
    values = stplm.cell_table(section).obs["cell_labels"]
    assert values.is_unique
    assert values.iloc[-1] > base(section.labels["cell_labels"]).max().compute()


def test_images_stay_lazy(bundle: Path) -> None:
    """Reading touches the header and a corner: pixels that are not there are missed only when looked at."""
    section = stplm.read_section(bundle)
    assert all(
        isinstance(node["image"].data, da.Array) for node in section.images["morphology_focus"].children.values()
    )
    assert max(base(section.images["morphology_focus"]).chunks[-1]) <= 1024


# --- bundles that cannot be read ---


def truncate(path: Path, share: float = 0.6) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


@pytest.mark.parametrize(
    "name",
    [
        "cell_feature_matrix.h5",
        "cells.parquet",
        "cells.zarr.zip",
        "morphology_focus/morphology_focus_0000.ome.tif",
        "experiment.xenium",
    ],
)
def test_truncated_files_are_named(bundle: Path, name: str) -> None:
    truncate(bundle / name)
    with pytest.raises(stplm.errors.SectionError) as error:
        stplm.read_section(bundle)
    assert error.value.where == str(bundle / name)
    assert error.value.found
    assert error.value.expected
    assert error.value.mend


def test_an_experiment_file_that_an_editor_saved(bundle: Path) -> None:
    path = bundle / "experiment.xenium"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert stplm.cell_table(stplm.read_section(bundle)).uns["stplm"]["source"]["pixel_size"] == 0.2125


def test_truncated_outlines_and_csv_are_named(bundle: Path) -> None:
    truncate(bundle / "cell_boundaries.parquet")
    with pytest.raises(stplm.errors.SectionError, match=r"cell_boundaries\.parquet"):
        stplm.read_section(bundle, polygons=True)
    to_csv_gz(bundle, "cells")
    truncate(bundle / "cells.csv.gz")
    with pytest.raises(stplm.errors.SectionError, match=r"cells\.csv\.gz"):
        stplm.read_section(bundle)
    (bundle / "cells.csv.gz").write_bytes(gzip.compress(b""))
    with pytest.raises(stplm.errors.SectionError, match=r"cells\.csv\.gz"):
        stplm.read_section(bundle)


def test_no_such_path(tmp_path: Path) -> None:
    with pytest.raises(stplm.errors.SectionError, match="no such file") as error:
        stplm.read_section(tmp_path / "nowhere" / "outs")
    assert str(tmp_path) in str(error.value.found)


def test_a_folder_that_is_no_bundle(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").touch()
    with pytest.raises(stplm.errors.SectionError) as error:
        stplm.read_section(tmp_path)
    assert "holiday.jpg" in str(error.value.found)
    for name in ("experiment.xenium", "cell_feature_matrix.h5", "cells.parquet"):
        assert name in str(error.value.found)


def test_a_file_that_is_no_section(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(stplm.errors.SectionError, match=r"notes\.txt"):
        stplm.read_section(tmp_path / "notes.txt")


@pytest.mark.parametrize("name", ["cell_feature_matrix.h5", "cells.parquet"])
def test_missing_files_are_named(bundle: Path, name: str) -> None:
    (bundle / name).unlink()
    with pytest.raises(stplm.errors.SectionError) as error:
        stplm.read_section(bundle)
    assert name in error.value.problem
    assert "experiment.xenium" in str(error.value.found)


def test_a_missing_column_is_named(bundle: Path, edit_cells: Callable[..., None]) -> None:
    edit_cells(lambda frame: frame.drop(columns="x_centroid"))
    with pytest.raises(stplm.errors.SectionError, match="x_centroid"):
        stplm.read_section(bundle)


def test_cells_that_do_not_match_the_matrix(bundle: Path, edit_cells: Callable[..., None]) -> None:
    edit_cells(lambda frame: frame.iloc[:-5])
    with pytest.raises(stplm.errors.SectionError) as error:
        stplm.read_section(bundle)
    assert "5 cells of the matrix not here" in str(error.value.found)


def test_duplicate_ids_in_the_cells_file(bundle: Path, edit_cells: Callable[..., None]) -> None:
    edit_cells(lambda frame: frame.assign(cell_id=frame["cell_id"].where(frame.index != 4, frame["cell_id"].iloc[0])))
    with pytest.raises(stplm.errors.SectionError, match="not unique") as error:
        stplm.read_section(bundle)
    assert error.value.where == str(bundle / "cells.parquet")


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x / 0.2125,
        lambda x: x / 1000,
        lambda x: x * 1000,
        lambda x: (x - x.min()) / (x.max() - x.min()),
    ],
    ids=["pixels", "mm", "nm", "0 to 1"],
)
@pytest.mark.parametrize("parts", ["all", "no masks", "matrix and cells"])
def test_positions_that_are_not_microns(
    bundle: Path, edit_cells: Callable[..., None], change: Callable[[pd.Series], pd.Series], parts: str
) -> None:
    if parts != "all":
        (bundle / "cells.zarr.zip").unlink()
    if parts == "matrix and cells":
        shutil.rmtree(bundle / "morphology_focus")
        (bundle / "cell_boundaries.parquet").unlink()
    edit_cells(lambda f: f.assign(x_centroid=change(f["x_centroid"]), y_centroid=change(f["y_centroid"])))
    with pytest.raises(stplm.errors.SectionError, match="µm") as error:
        stplm.read_section(bundle)
    assert error.value.where == str(bundle / "cells.parquet")


def test_positions_that_masks_contradict(bundle: Path, edit_cells: Callable[..., None]) -> None:
    edit_cells(lambda f: f.assign(x_centroid=f["x_centroid"] / 2, y_centroid=f["y_centroid"] / 2))
    with pytest.raises(stplm.errors.SectionError, match="do not agree with the cell masks"):
        stplm.read_section(bundle)


def test_a_missing_position(bundle: Path, edit_cells: Callable[..., None]) -> None:
    edit_cells(lambda f: f.assign(x_centroid=f["x_centroid"].where(f.index != 3)))
    with pytest.raises(stplm.errors.SectionError, match="NaN"):
        stplm.read_section(bundle)


def test_masks_of_another_section(bundle: Path) -> None:
    rewrite_masks(bundle, lambda a: {**a, "cell_id": a["cell_id"] + np.uint32(1_000_000)})
    with pytest.raises(stplm.errors.SectionError, match="masks are not those"):
        stplm.read_section(bundle)
