"""A Xenium bundle around its cells: what it says of itself, label images and transcripts, and whether the cells agree
with image and masks."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stplm import keys
from stplm.errors import SectionError
from stplm.io import masks
from stplm.io.frames import find_frame
from stplm.io.validate import check_frame, check_positions

if TYPE_CHECKING:
    from anndata import AnnData
    from spatialdata import SpatialData

EXPERIMENT = "experiment.xenium"
MATRIX = "cell_feature_matrix.h5"
MASKS = "cells.zarr.zip"
PIXEL_SIZE = 0.2125
"""µm per pixel of every Xenium instrument so far; used where experiment.xenium is missing."""
_KEPT = {
    "analysis_sw_version": "software",
    "run_name": "run",
    "region_name": "region",
    "panel_name": "panel",
    "panel_tissue_type": "tissue",
    "preservation_method": "preservation",
}


@dataclass
class Bundle:
    """What a bundle says of itself, and what to tell the user about it."""

    folder: Path
    pixel_size: float
    source: dict[str, Any]
    has_experiment: bool
    notes: list[str] = field(default_factory=list)


def is_bundle(folder: Path) -> bool:
    """Whether a folder is meant as a Xenium bundle: it has experiment.xenium, or a matrix and its cells."""
    if (folder / EXPERIMENT).is_file():
        return True
    return (folder / MATRIX).is_file() and find_frame(folder, "cells") is not None


def open_bundle(folder: Path) -> Bundle:
    """A bundle that has its matrix and its cells. Raises SectionError."""
    missing = []
    if not (folder / MATRIX).is_file():
        missing.append(MATRIX)
    if find_frame(folder, "cells") is None:
        missing.append("cells.parquet (or cells.csv.gz)")
    if missing:
        there = sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))
        other_forms = [n for n in ("cell_feature_matrix", "cell_feature_matrix.zarr.zip") if n in there]
        mend = "Copy the missing file from the instrument's output folder."
        if MATRIX in missing and other_forms:
            mend += f" {other_forms[0]} holds the same counts in another form, but {MATRIX} is the one read here."
        if missing[0] != MATRIX:
            mend += f" Or open {MATRIX} itself: counts without positions."
        raise SectionError(
            f"The Xenium bundle is incomplete: {' and '.join(missing)} missing.",
            where=folder,
            found=", ".join(there[:20]) or "an empty folder",
            expected=f"{EXPERIMENT}, {MATRIX} and cells.parquet (or cells.csv.gz)",
            mend=mend,
        )
    source: dict[str, Any] = {"path": str(folder), "kind": "xenium"}
    path = folder / EXPERIMENT
    if not path.is_file():
        note = f"{EXPERIMENT} is missing: the pixel size is taken to be {PIXEL_SIZE} µm."
        return Bundle(folder, PIXEL_SIZE, {**source, "pixel_size": PIXEL_SIZE}, False, [note])
    try:
        specs = json.loads(path.read_text(encoding="utf-8-sig"))
        pixel_size = float(specs.get("pixel_size", PIXEL_SIZE))
    except (ValueError, TypeError, AttributeError) as error:
        raise SectionError(
            f"{EXPERIMENT} cannot be read.",
            where=path,
            found=f"{path.stat().st_size:,} bytes; {error}",
            expected="a JSON object with pixel_size, as the instrument writes it",
            mend="Copy it again from the instrument's output folder.",
        ) from error
    if not 0.01 < pixel_size < 10:
        raise SectionError(
            "The pixel size is not in µm.", where=path, found=f"pixel_size {pixel_size}", expected="about 0.2125"
        )
    ranger = specs.get("xenium_ranger")
    about = {ours: str(specs[theirs]) for theirs, ours in _KEPT.items() if specs.get(theirs)}
    if isinstance(ranger, dict) and ranger.get("version"):
        about["software"] = str(ranger["version"])
    return Bundle(folder, pixel_size, {**source, "pixel_size": pixel_size, **about}, True)


def base_section(bundle: Bundle, *, labels: bool, transcripts: bool) -> SpatialData:
    """Label images and transcripts, by spatialdata-io where it can read the bundle."""
    from spatialdata import SpatialData

    folder = bundle.folder
    path = folder / MASKS
    points = find_frame(folder, keys.TRANSCRIPTS) if transcripts else None
    if transcripts and points is None:
        bundle.notes.append("The bundle has no transcripts file.")
    present: list[int] = []
    if path.is_file() and labels:
        present = masks.mask_count(masks.open_masks(path))
    elif labels:
        bundle.notes.append("The bundle has no cell masks (cells.zarr.zip): cells are drawn from their outlines.")
    theirs = points is not None and points.suffix == ".parquet"
    section = None
    if bundle.has_experiment and path.is_file() and (present or theirs):
        section = _by_spatialdata_io(folder, present, theirs)
    if section is None:
        section, theirs = SpatialData(), False
        if present:
            for name, pyramid in masks.pyramids(path, present).items():
                section.labels[name] = pyramid
    if points is not None and not theirs:
        from stplm.io.transcripts import read_transcripts

        section.points[keys.TRANSCRIPTS] = read_transcripts(points, bundle.pixel_size)
    return section


def _by_spatialdata_io(folder: Path, present: list[int], transcripts: bool) -> SpatialData | None:
    """What spatialdata-io reads of the bundle; None where it refuses, as for versions it does not know."""
    from spatialdata_io import xenium

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            section = xenium(
                folder,
                cells_boundaries=False,
                nucleus_boundaries=False,
                cells_labels=1 in present,
                nucleus_labels=0 in present,
                transcripts=transcripts,
                morphology_mip=False,
                morphology_focus=False,
                aligned_images=False,
                cells_table=False,
                labels_models_kwargs={"scale_factors": None, "chunks": (masks.CHUNK, masks.CHUNK)},
            )
    except (AssertionError, AttributeError, KeyError, OSError, TypeError, ValueError):
        return None
    for name, pyramid in masks.pyramids(folder / MASKS, present).items():
        del section.labels[name]
        section.labels[name] = pyramid
    return section


def check_bundle_positions(bundle: Bundle, section: SpatialData, table: AnnData) -> None:
    """Positions must lie on the image, or within the outlines: that tells pixels from µm, which distances cannot.

    Only a bundle of matrix and cells alone is judged by distances.
    """
    size = bundle.pixel_size
    path = find_frame(bundle.folder, "cells") or bundle.folder
    xy = np.asarray(table.obsm[keys.SPATIAL])
    for elements, name in (
        (section.labels, keys.CELL_LABELS),
        (section.labels, keys.NUCLEUS_LABELS),
        (section.images, keys.MORPHOLOGY),
    ):
        if name in elements:
            height, width = elements[name]["scale0"]["image"].shape[-2:]
            check_frame(xy, (0, 0), (width * size, height * size), path, "the image", size)
            return
    box = _outline_box(bundle.folder)
    if box is not None:
        check_frame(xy, *box, path, "the cell outlines", size)
    else:
        bundle.notes += check_positions(xy, path)[1]


def _outline_box(folder: Path) -> tuple[tuple[float, float], tuple[float, float]] | None:
    """Lower and upper corner of all cell outlines in µm, from the statistics that Parquet keeps; None without them."""
    path = folder / f"{keys.CELL_BOUNDARIES}.parquet"
    if not path.is_file():
        return None
    import pyarrow.lib
    import pyarrow.parquet as pq

    try:
        with path.open("rb") as file:
            meta = pq.read_metadata(file)
    except (pyarrow.lib.ArrowException, OSError):
        return None
    names = meta.schema.names
    lows, highs = [], []
    for axis in ("vertex_x", "vertex_y"):
        if axis not in names:
            return None
        found = [meta.row_group(i).column(names.index(axis)).statistics for i in range(meta.num_row_groups)]
        if not found or any(s is None or not s.has_min_max for s in found):
            return None
        lows.append(float(min(s.min for s in found)))
        highs.append(float(max(s.max for s in found)))
    return (lows[0], lows[1]), (highs[0], highs[1])


def give_label_values(bundle: Bundle, section: SpatialData, table: AnnData) -> None:
    """obs["cell_labels"]: the cell's value in the mask, where the bundle tells; checked against the mask itself."""
    path = bundle.folder / MASKS
    mask = section.labels[keys.CELL_LABELS]["scale0"]["image"].data
    ids, xy = table.obs_names.to_numpy(dtype=str), np.asarray(table.obsm[keys.SPATIAL])
    values = masks.label_values(masks.open_masks(path), ids, path)
    if values is None:
        values = masks.probed_values(mask, ids, xy, bundle.pixel_size)
        if values is None:
            bundle.notes.append("Which pixels of the mask belong to which cell is not known: outlines are used.")
            return
    elif (agreement := masks.mask_agreement(mask, values, xy, bundle.pixel_size)) < 0.3:
        raise SectionError(
            "Cell positions do not agree with the cell masks: they are not in µm, or of another run.",
            where=find_frame(bundle.folder, "cells"),
            found=f"{agreement:.0%} of the cells looked at lie on their own mask",
            expected="most of them",
            mend=f"Take all files from the same run, or remove {MASKS} to draw cells from their outlines.",
        )
    table.obs[keys.LABEL_VALUE] = values
