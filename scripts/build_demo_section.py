"""Build ``resources/demo_section`` from the breast crop: ``python scripts/build_demo_section.py ../shared/data``.

Reads ``xenium_breast_crop`` (transcripts, DAPI; never its labels) and ``xenium_panels`` (gene ids). Deterministic.
``--overlay FILE.png`` also draws the outlines over DAPI, to be looked at.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import tifffile
from demo_segmentation import Segmentation, segment
from scipy.sparse import csr_matrix

from stplm.io.bundle import FILES, PIXEL_SIZE, write_bundle
from stplm.io.bundle_tables import UNASSIGNED_CELL
from stplm.io.cell_ids import encode_cell_ids

ORIGIN = np.array([1062.5, 212.5])
"""µm; where the crop's image begins in the whole section (pixel 5000, 1000). The crop's notes round it down to
1062, 212; DAPI under nuclear transcripts is brightest with the half micrometre (all six sixths of the crop agree)."""
EDGE = 15.0
"""µm; cells whose centroid is this near the crop's border are cut, and flagged ``near_crop_edge``."""
NOT_IN_PANEL_LISTS = {
    "FBLIM1": "ENSG00000162458",
    "KRT16": "ENSG00000186832",
    "POLR2J3": "ENSG00000285437",
    "REXO4": "ENSG00000148300",
}
"""Add-on genes of this section that are in no panel list: ids by the HGNC symbol."""
EXPERIMENT = {
    "run_name": "STPLM demo section",
    "region_name": "Breast tumour crop",
    "preservation_method": "FFPE",
    "panel_name": "Xenium Human Breast Gene Expression Panel with 33 add-on genes",
    "panel_organism": "Human",
    "panel_tissue_type": "Breast",
    "panel_num_targets_predesigned": 280,
    "panel_num_targets_custom": 33,
}


def ensembl_ids(panels: Path, genes: list[str]) -> list[str]:
    """Ensembl ids of gene symbols from 10x's panel lists, the breast panel first."""
    known: dict[str, str] = {}
    for file in [panels / "hBreast.csv", *sorted(panels.glob("h*.csv"))]:
        table = pd.read_csv(file)
        for symbol, ensembl in zip(table.iloc[:, 0], table.iloc[:, 1], strict=True):
            known.setdefault(symbol, ensembl)
    known |= NOT_IN_PANEL_LISTS
    return [known[gene] for gene in genes]


def read_transcripts(crop: Path) -> tuple[pd.DataFrame, np.ndarray]:
    """Transcripts with ``row``, ``nuclear`` and pixel ``x``, ``y``; and the native ids (n,), ascending."""
    table = pd.read_parquet(crop / "transcripts.parquet").sort_values("transcript_id", ignore_index=True)
    native = np.sort(table.loc[table["cell_id"] > 0, "cell_id"].unique())
    row = np.where(table["cell_id"] > 0, np.searchsorted(native, table["cell_id"]), -1)
    table["row"], table["nuclear"] = row, table["overlaps_nucleus"] == 1
    for axis, start in zip("xy", ORIGIN, strict=True):
        table[f"{axis}_location"] -= start
        table[axis] = table[f"{axis}_location"] / PIXEL_SIZE
    return table, native


def count_matrix(table: pd.DataFrame, cells: int, genes: list[str]) -> csr_matrix:
    """Transcripts per cell and gene, (cells, genes) int32."""
    inside = table[table["row"] >= 0]
    column = pd.Categorical(inside["feature_name"], categories=genes).codes
    ones = np.ones(len(inside), dtype=np.int32)
    counts = csr_matrix((ones, (inside["row"], column)), shape=(cells, len(genes)), dtype=np.int32)
    counts.sum_duplicates()
    return counts


def agreement(table: pd.DataFrame, found: Segmentation) -> dict[str, float]:
    """How far the rebuilt outlines agree with the instrument's own assignment of transcripts."""
    height, width = found.cells.shape
    seen = table[(table["x"] >= 0) & (table["y"] >= 0) & (table["x"] < width) & (table["y"] < height)]
    at = seen["y"].astype(int), seen["x"].astype(int)
    assigned = (seen["row"] >= 0).to_numpy()
    own = found.cells[at].astype(int) - 1 == seen["row"].to_numpy()
    nucleus = np.concatenate([[-1], found.nucleus_cell])[found.nuclei[at]]
    nuclear = assigned & seen["nuclear"].to_numpy()
    per_cell = pd.Series(own[assigned]).groupby(seen["row"].to_numpy()[assigned]).mean()
    return {
        "assigned transcripts inside their own cell": own[assigned].mean(),
        "the same, median over cells": per_cell.median(),
        "the same, 5th percentile over cells": per_cell.quantile(0.05),
        "nuclear transcripts inside their own nucleus": (nucleus == seen["row"].to_numpy())[nuclear].mean(),
        "other assigned transcripts inside any nucleus": (nucleus >= 0)[assigned & ~nuclear].mean(),
        "unassigned transcripts outside all cells": (found.cells[at] == 0)[~assigned].mean(),
        "cells without a nucleus in the crop": int(table["row"].max()) + 1 - len(found.nucleus_cell),
    }


def draw(path: Path, dapi: np.ndarray, found: Segmentation) -> None:
    """DAPI with cells in blue and nuclei in yellow."""
    from skimage.io import imsave
    from skimage.segmentation import mark_boundaries

    grey = np.clip(dapi / 1500, 0, 1) ** 0.6
    picture = mark_boundaries(np.dstack([grey] * 3), found.cells, color=(0.2, 0.5, 1), mode="inner")
    picture = mark_boundaries(picture, found.nuclei, color=(1, 0.9, 0), mode="inner")
    imsave(path, (picture * 255).astype(np.uint8), check_contrast=False)


def build(shared: Path, target: Path, overlay: Path | None = None) -> dict[str, float]:
    """Build the bundle; give the agreement of its outlines."""
    crop = shared / "xenium_breast_crop"
    table, native = read_transcripts(crop)
    dapi = tifffile.imread(crop / "morphology_mip_small.tif")
    genes = sorted(table["feature_name"].unique())
    features = pd.DataFrame(
        {"id": ensembl_ids(shared / "xenium_panels", genes), "name": genes, "feature_type": "Gene Expression"}
    )
    found = segment(dapi, table, len(native), PIXEL_SIZE)
    ids = encode_cell_ids(native)
    cells = pd.DataFrame({"cell_id": ids, "native_cell_id": native})
    pixels = np.bincount(found.cells.ravel(), minlength=len(ids) + 1)[1:]
    rows, columns = np.indices(found.cells.shape)
    for name, place in (("x", columns), ("y", rows)):
        total = np.bincount(found.cells.ravel(), place.ravel() + 0.5, minlength=len(ids) + 1)[1:]
        cells[f"{name}_centroid"] = total / pixels * PIXEL_SIZE
    width, height = dapi.shape[1] * PIXEL_SIZE, dapi.shape[0] * PIXEL_SIZE
    border = np.minimum.reduce(
        [cells["x_centroid"], cells["y_centroid"], width - cells["x_centroid"], height - cells["y_centroid"]]
    )
    cells["near_crop_edge"] = border < EDGE
    table["cell_id"] = np.where(table["row"] >= 0, ids[table["row"]], UNASSIGNED_CELL)
    # Built beside the section and moved in, so that its README.md stays.
    built = write_bundle(
        target.with_name(f"{target.name}_new"),
        counts=count_matrix(table, len(ids), genes),
        features=features,
        cells=cells,
        cell_labels=found.cells,
        nucleus_labels=found.nuclei,
        nucleus_cell=found.nucleus_cell,
        image=dapi[None],
        transcripts=table,
        experiment=EXPERIMENT,
        overwrite=True,
    )
    target.mkdir(exist_ok=True)
    for name in FILES:
        if (target / name).is_dir():
            shutil.rmtree(target / name)
        (built / name).replace(target / name)
    built.rmdir()
    if overlay is not None:
        draw(overlay, dapi, found)
    return {name: round(float(value), 4) for name, value in agreement(table, found).items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shared", type=Path, help="folder with xenium_breast_crop and xenium_panels")
    parser.add_argument("--target", type=Path, default=Path(__file__).parents[1] / "resources" / "demo_section")
    parser.add_argument("--overlay", type=Path, help="PNG of the outlines over DAPI")
    options = parser.parse_args()
    print(json.dumps(build(options.shared, options.target, options.overlay), indent=2))


if __name__ == "__main__":
    main()
