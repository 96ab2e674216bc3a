"""A small section with everything exports need: image, labels, outlines, and predictions of known values."""

from __future__ import annotations

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from stplm import keys

PIXEL = 0.25
"""µm a pixel."""
CLASSES = ("Tumour", 'T cell, "CD8"', "Стро́ма")
"""Names that trip careless writers: a comma, quotes, letters beyond ASCII."""


def make_table(n_side: int = 6, *, predicted: bool = True) -> AnnData:
    """``n_side²`` cells on a grid 12 µm apart; the last one is empty and therefore without a class."""
    rng = np.random.default_rng(0)
    n = n_side * n_side
    counts = rng.poisson(3.0, (n, 5)).astype(np.int32)
    counts[-1] = 0
    ids = [f"aaaa{i:04d}-1" for i in range(n)]
    obs = pd.DataFrame({keys.CELL_ID: ids}, index=ids)
    obs[keys.N_COUNTS] = counts.sum(axis=1).astype(np.int32)
    obs[keys.N_GENES] = (counts > 0).sum(axis=1).astype(np.int32)
    obs[keys.LOW_COUNTS] = obs[keys.N_COUNTS] < keys.MIN_COUNTS
    obs[keys.LABEL_VALUE] = np.arange(1, n + 1, dtype=np.int32)
    obs[keys.REGION] = pd.Categorical([keys.CELL_LABELS] * n)
    genes = ["ERBB2", "PTPRC", "EPCAM", "LUM", "CD8A"]
    var = pd.DataFrame({keys.ENSEMBL_ID: [f"ENSG0000000000{i}" for i in range(5)]}, index=genes)
    table = AnnData(X=sparse.csr_matrix(counts), obs=obs, var=var)
    grid = np.stack(np.meshgrid(np.arange(n_side), np.arange(n_side)), axis=-1).reshape(-1, 2)
    table.obsm[keys.SPATIAL] = 10.0 + 12.0 * grid
    table.uns[keys.UNS] = {
        keys.UNS_SOURCE: {"path": "/data/Breast rep 1", "kind": "xenium", "pixel_size": PIXEL},
        keys.UNS_QC: {
            "n_cells": n,
            "n_genes": 5,
            "n_known_genes": 5,
            "median_counts": float(np.median(obs[keys.N_COUNTS])),
            "n_low": int(obs[keys.LOW_COUNTS].sum()),
            "n_empty": 1,
            "control_features": {"Negative Control Probe": 20},
            "control_counts": {"Negative Control Probe": 7},
            "warnings": ["2 genes are <not> known"],
        },
    }
    table.uns["spatialdata_attrs"] = {
        "region": keys.CELL_LABELS,
        "region_key": keys.REGION,
        "instance_key": keys.LABEL_VALUE,
    }
    if predicted:
        predict(table)
    return table


def predict(table: AnnData) -> None:
    """Fake predictions in the shape that ``stplm.predict`` leaves."""
    n = table.n_obs
    code = np.arange(n) % len(CLASSES)
    code[-1] = -1
    table.obs[keys.CLASS] = pd.Categorical.from_codes(code, categories=list(CLASSES))
    confidence = np.linspace(0.4, 1.0, n).astype(np.float32)
    confidence[-1] = 0
    table.obs[keys.CONFIDENCE] = confidence
    tumour = np.where(code == 0, 0.9, 0.1).astype(np.float32)
    tumour[-1] = 0
    table.obs[keys.TUMOUR] = tumour
    proba = np.full((n, len(CLASSES)), 0.1, dtype=np.float32)
    proba[np.arange(n - 1), code[:-1]] = 0.8
    table.obsm[keys.PROBA] = proba
    table.obsm[keys.X_STPLM] = np.random.default_rng(1).normal(size=(n, 4)).astype(np.float32)
    table.uns[keys.UNS][keys.UNS_EMBEDDING] = {"model": "breast", "versions": {"stplm": "0.1.0"}, "seed": 0}
    table.uns[keys.UNS][keys.UNS_PREDICTION] = {
        "model": "few-shot",
        "classes": list(CLASSES),
        "tumour_classes": [CLASSES[0]],
        "n_labels": 12,
        "seeded": True,
        "versions": {"stplm": "0.1.0"},
        "seed": 0,
    }


def make_section(
    n_side: int = 6, *, labels: bool = True, shapes: bool = True, image: bool = True, predicted: bool = True
):
    """The table as a SpatialData: square cells 8 µm wide, coordinate systems as a read section has them."""
    import dask.array as da
    import geopandas as gpd
    import shapely
    from spatialdata import SpatialData
    from spatialdata.models import Image2DModel, Labels2DModel, ShapesModel, TableModel
    from spatialdata.transformations import Identity, Scale

    table = make_table(n_side, predicted=predicted)
    centres = table.obsm[keys.SPATIAL]
    size = int((centres.max() + 10) / PIXEL)
    to_microns = Scale([PIXEL, PIXEL], axes=("x", "y"))
    pixels = {keys.PIXELS: Identity(), keys.MICRONS: to_microns}
    raster = np.zeros((size, size), dtype=np.uint32)
    for value, (x, y) in enumerate(centres, start=1):
        rows, columns = (slice(int((c - 4) / PIXEL), int((c + 4) / PIXEL)) for c in (y, x))
        raster[rows, columns] = value
    elements: dict = {"tables": {}}
    if labels:
        elements["labels"] = {
            keys.CELL_LABELS: Labels2DModel.parse(
                da.from_array(raster, chunks=128), dims=("y", "x"), transformations=dict(pixels)
            )
        }
    if image:
        stain = np.random.default_rng(2).integers(0, 300, (1, size, size)) + 800 * (raster > 0)
        elements["images"] = {
            keys.MORPHOLOGY: Image2DModel.parse(
                da.from_array(stain.astype(np.uint16), chunks=(1, 128, 128)),
                dims=("c", "y", "x"),
                c_coords=["DAPI"],
                scale_factors=[2],
                transformations=dict(pixels),
            )
        }
    if shapes:
        boxes = shapely.box(*(centres - 4.0).T, *(centres + 4.0).T)
        frame = gpd.GeoDataFrame({"geometry": boxes}, index=pd.Index(table.obs_names, name=keys.CELL_ID))
        elements["shapes"] = {
            keys.CELL_BOUNDARIES: ShapesModel.parse(
                frame,
                transformations={
                    keys.PIXELS: Scale([1 / PIXEL, 1 / PIXEL], axes=("x", "y")),
                    keys.MICRONS: Identity(),
                },
            )
        }
    if not labels:
        del table.obs[keys.LABEL_VALUE]
        table.uns["spatialdata_attrs"]["instance_key"] = keys.CELL_ID
        table.uns["spatialdata_attrs"]["region"] = keys.CELL_BOUNDARIES
        table.obs[keys.REGION] = pd.Categorical([keys.CELL_BOUNDARIES] * table.n_obs)
    elements["tables"][keys.TABLE] = TableModel.parse(table)
    return SpatialData(**elements)
