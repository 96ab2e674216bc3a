"""Write a Xenium-format bundle: the layout of Xenium Onboard Analysis 3, read by spatialdata-io and by ourselves.

For sections that are not the instrument's own: the demo section and simulated ones. What cannot be known is left out,
never invented. The same input gives the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from stplm.errors import ExportError
from stplm.io.bundle_image import write_morphology
from stplm.io.bundle_outlines import Outlines, trace_outlines
from stplm.io.bundle_tables import (
    cells_frame,
    transcripts_frame,
    write_matrix,
    write_outlines,
    write_parquet,
)
from stplm.io.bundle_zarr import Raster, write_cells_zarr
from stplm.io.cell_ids import decode_cell_ids
from stplm.io.staged import staged_folder

if TYPE_CHECKING:
    import pandas as pd
    from scipy.sparse import csr_matrix

LAYOUT_VERSION = "xenium-3.1.0.0"
"""Told to readers so that they take the right branch; ``written_by`` says who really wrote the bundle."""
PIXEL_SIZE = 0.2125
"""µm per pixel of the instrument's full-resolution morphology image."""
FILES = (
    "experiment.xenium",
    "gene_panel.json",
    "cell_feature_matrix.h5",
    "cells.parquet",
    "cells.zarr.zip",
    "cell_boundaries.parquet",
    "nucleus_boundaries.parquet",
    "transcripts.parquet",
    "morphology_focus",
)
_DESCRIPTORS = {
    "Gene Expression": "gene",
    "Negative Control Probe": "negative_control_probe",
    "Negative Control Codeword": "negative_control_codeword",
    "Unassigned Codeword": "unassigned_codeword",
    "Deprecated Codeword": "deprecated_codeword",
    "Genomic Control": "genomic_control_probe",
}


def write_bundle(
    path: str | Path,
    *,
    counts: csr_matrix,
    features: pd.DataFrame,
    cells: pd.DataFrame,
    cell_labels: Raster | None = None,
    nucleus_labels: Raster | None = None,
    nucleus_cell: npt.ArrayLike | None = None,
    image: npt.NDArray[np.uint16] | None = None,
    pixel_size: float = PIXEL_SIZE,
    transcripts: pd.DataFrame | None = None,
    cell_outlines: Outlines | None = None,
    nucleus_outlines: Outlines | None = None,
    experiment: Mapping[str, Any] | None = None,
    method: str = "Segmented by nucleus expansion of 15.0µm",
    overwrite: bool = False,
) -> Path:
    """Write a bundle folder; give its path. A bundle that fails half-way leaves nothing behind.

    Parameters
    ----------
    path
        The folder to make.
    counts
        (cells, features), CSR, integers.
    features
        One row a feature: ``id`` (Ensembl id), ``name`` (symbol), ``feature_type`` ("Gene Expression",
        "Negative Control Probe", ...).
    cells
        One row a cell, in the order of ``counts``: ``cell_id`` (see :mod:`stplm.io.cell_ids`), ``x_centroid``,
        ``y_centroid`` in µm. ``cell_area``, ``nucleus_area`` (µm²), ``nucleus_count`` and ``z_level`` (µm) are used
        where given, the first three measured on the label images otherwise; other columns follow at the end.
    cell_labels, nucleus_labels
        (y, x) rasters, 0 is background. Cell value ``i + 1`` is row ``i``; nucleus value ``p + 1`` belongs to row
        ``nucleus_cell[p]`` (by default ``p``). They may be larger than memory if their areas and outlines are given.
    image
        (channels, y, x) uint16: DAPI, or the four channels of the segmentation kit.
    pixel_size
        µm per pixel of image and labels. Pixel (0, 0) covers the µm square at the origin.
    transcripts
        ``feature_name``, ``x_location``, ``y_location``, ``z_location`` (µm), ``qv``, ``cell_id``
        ("UNASSIGNED" where outside cells), ``overlaps_nucleus``; ``transcript_id`` is numbered if absent.
    cell_outlines, nucleus_outlines
        Traced from the label images unless given.
    experiment
        Fields of ``experiment.xenium`` that are known: ``run_name``, ``region_name``, ``panel_name``,
        ``panel_tissue_type``, ``preservation_method``, ...
    method
        How the cells were segmented, for ``segmentation_method``.
    overwrite
        Replace a bundle that is there; a folder that holds anything but a bundle is never replaced.

    Raises
    ------
    ExportError
        The folder is not empty, or the parts do not fit together.
    SectionError
        A cell id is not in Xenium's format.
    """
    target = Path(path)
    _check(target, counts, features, cells, overwrite)
    ids = decode_cell_ids(cells["cell_id"].to_numpy())
    if cell_outlines is None and cell_labels is not None:
        cell_outlines = trace_outlines(np.asarray(cell_labels[:, :]), pixel_size)
    if nucleus_outlines is None and nucleus_labels is not None:
        nucleus_outlines = trace_outlines(np.asarray(nucleus_labels[:, :]), pixel_size)
    if nucleus_cell is None:
        nucleus_cell = np.arange(0 if nucleus_outlines is None else len(cells))
    owners = np.asarray(nucleus_cell, dtype=np.int64)
    frame, summary = cells_frame(cells, counts, features, cell_labels, nucleus_labels, owners, pixel_size, method)

    with staged_folder(target, overwrite=True) as staging:
        staging.mkdir()
        write_matrix(staging / "cell_feature_matrix.h5", counts, features, cells["cell_id"].to_numpy(dtype=str))
        write_parquet(frame, staging / "cells.parquet")
        write_cells_zarr(
            staging / "cells.zarr.zip",
            cell_id=ids,
            summary=summary,
            pixel_size=pixel_size,
            cell_labels=cell_labels,
            nucleus_labels=nucleus_labels,
            cell_outlines=cell_outlines,
            nucleus_outlines=nucleus_outlines,
            nucleus_cell=owners,
            method=method,
        )
        names = cells["cell_id"].to_numpy(dtype=str)
        if cell_outlines is not None:
            write_outlines(staging / "cell_boundaries.parquet", cell_outlines, names, np.arange(len(names)))
        if nucleus_outlines is not None:
            write_outlines(staging / "nucleus_boundaries.parquet", nucleus_outlines, names, owners)
        if transcripts is not None:
            write_parquet(transcripts_frame(transcripts, features), staging / "transcripts.parquet")
        if image is not None:
            write_morphology(staging / "morphology_focus", image, pixel_size)
        _write_json(staging / "gene_panel.json", _panel(features, experiment or {}))
        _write_json(staging / "experiment.xenium", _experiment(frame, features, pixel_size, experiment or {}))
    return target


def _check(target: Path, counts: csr_matrix, features: pd.DataFrame, cells: pd.DataFrame, overwrite: bool) -> None:
    if target.exists() and any(target.iterdir()) and not (overwrite and (target / "experiment.xenium").exists()):
        raise ExportError(
            "The folder for the bundle is not empty.",
            where=target,
            expected="a new folder" + (", or a bundle to replace" if overwrite else ""),
            mend="Choose another folder." if overwrite else "Choose another folder, or overwrite=True.",
        )
    if counts.shape != (len(cells), len(features)):
        raise ExportError(
            "The count matrix does not fit the cells and features.",
            where=target,
            found=f"{counts.shape[0]} x {counts.shape[1]}",
            expected=f"{len(cells)} cells x {len(features)} features",
        )
    if not np.issubdtype(counts.dtype, np.integer):
        raise ExportError("Counts are not integers.", where=target, found=str(counts.dtype), expected="int32")
    if cells["cell_id"].duplicated().any():
        twice = cells.loc[cells["cell_id"].duplicated(), "cell_id"].iloc[0]
        raise ExportError("A cell id occurs twice.", where=target, found=str(twice), expected="unique ids")


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _experiment(
    frame: pd.DataFrame, features: pd.DataFrame, pixel_size: float, known: Mapping[str, Any]
) -> dict[str, Any]:
    from stplm import __version__

    area = float(frame["cell_area"].sum())
    total = int(frame["transcript_counts"].sum())
    content: dict[str, Any] = {
        "major_version": 5,
        "minor_version": 0,
        "patch_version": 0,
        "run_name": "",
        "region_name": "",
        "preservation_method": "",
        "num_cells": len(frame),
        "transcripts_per_cell": float(frame["transcript_counts"].median()) if len(frame) else 0.0,
        "transcripts_per_100um": round(100 * total / area, 3) if area > 0 else 0.0,
        "panel_name": "",
        "panel_organism": "Human",
        "panel_tissue_type": "",
        "panel_num_targets_predesigned": int((features["feature_type"] == "Gene Expression").sum()),
        "panel_num_targets_custom": 0,
        "pixel_size": pixel_size,
        "analysis_sw_version": LAYOUT_VERSION,
        "written_by": f"stplm {__version__}",
        "images": {"morphology_focus_filepath": "morphology_focus/morphology_focus_0000.ome.tif"},
        "xenium_explorer_files": {"cells_zarr_filepath": "cells.zarr.zip"},
    }
    return content | dict(known)


def _panel(features: pd.DataFrame, known: Mapping[str, Any]) -> dict[str, Any]:
    targets = [
        {
            "type": {
                "descriptor": _DESCRIPTORS.get(kind, "unassigned_codeword"),
                "data": {"id": feature, "name": name} if kind == "Gene Expression" else {"name": name},
            },
            "codewords": [],
        }
        for feature, name, kind in zip(features["id"], features["name"], features["feature_type"], strict=True)
    ]
    identity = {"name": known.get("panel_name", ""), "num_gene_targets": known.get("panel_num_targets_predesigned", 0)}
    return {
        "metadata": {"schema_version": "2.0.0"},
        "payload": {
            "panel": {"identity": identity, "species": "Human", "tissue": known.get("panel_tissue_type", "")},
            "targets": targets,
        },
    }
