"""Tables of a Xenium bundle: the count matrix, cells, outlines and transcripts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from stplm.io.bundle_zarr import MASK_CHUNK, SUMMARY_COLUMNS, Raster

if TYPE_CHECKING:
    import pandas as pd
    from scipy.sparse import csr_matrix

    from stplm.io.bundle_outlines import Outlines

UNASSIGNED_CELL = "UNASSIGNED"
COUNT_COLUMNS = {
    "transcript_counts": "Gene Expression",
    "control_probe_counts": "Negative Control Probe",
    "genomic_control_counts": "Genomic Control",
    "control_codeword_counts": "Negative Control Codeword",
    "unassigned_codeword_counts": "Unassigned Codeword",
    "deprecated_codeword_counts": "Deprecated Codeword",
}
_PARQUET = {"compression": "zstd", "compression_level": 3}
_RINGS = 50_000
_MEASURED = ("cell_id", "x_centroid", "y_centroid", "cell_area", "nucleus_area", "nucleus_count", "z_level")


def write_matrix(path: Path, counts: csr_matrix, features: pd.DataFrame, barcodes: npt.NDArray[np.str_]) -> None:
    """Write ``cell_feature_matrix.h5``: 10x's feature-barcode layout, version 2 (cells are its columns)."""
    import h5py

    counts.sort_indices()
    genome = np.where(features["feature_type"] == "Gene Expression", "GRCh38", "")
    with h5py.File(path, "w") as file:
        file.attrs["filetype"] = "matrix"
        file.attrs["version"] = 2
        file.attrs["chemistry_description"] = "Xenium"
        group = file.create_group("matrix")
        options = {"compression": "gzip", "compression_opts": 6, "shuffle": True}
        group.create_dataset("barcodes", data=barcodes.astype("S"), **options)
        group.create_dataset("data", data=counts.data.astype(np.int32), **options)
        group.create_dataset("indices", data=counts.indices.astype(np.int64), **options)
        group.create_dataset("indptr", data=counts.indptr.astype(np.int64), **options)
        group.create_dataset("shape", data=np.array(counts.shape[::-1], dtype=np.int32))
        stored = group.create_group("features")
        for name in ("id", "name", "feature_type"):
            stored.create_dataset(name, data=features[name].to_numpy(dtype=str).astype("S"))
        stored.create_dataset("genome", data=genome.astype("S"))
        stored.create_dataset("_all_tag_keys", data=np.array([b"genome"]))


def write_parquet(frame: pd.DataFrame, path: Path) -> None:
    """Write a table as Parquet (zstd), without the index."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)
    pq.write_table(table, path, row_group_size=1 << 20, **_PARQUET)


def cells_frame(
    cells: pd.DataFrame,
    counts: csr_matrix,
    features: pd.DataFrame,
    cell_labels: Raster | None,
    nucleus_labels: Raster | None,
    owners: npt.NDArray[np.int64],
    pixel_size: float,
    method: str,
) -> tuple[pd.DataFrame, npt.NDArray[np.float64]]:
    """``cells.parquet`` as a table, and ``cell_summary`` of ``cells.zarr.zip`` as (n, 8)."""
    import pandas as pd

    n = len(cells)
    frame = pd.DataFrame({name: cells[name].to_numpy() for name in ("cell_id", "x_centroid", "y_centroid")})
    kinds = features["feature_type"].to_numpy()
    for column, kind in COUNT_COLUMNS.items():
        frame[column] = np.asarray(counts[:, np.flatnonzero(kinds == kind)].sum(axis=1)).ravel().astype(np.int64)
    frame["total_counts"] = np.asarray(counts.sum(axis=1)).ravel().astype(np.int64)
    if "cell_area" in cells:
        frame["cell_area"] = cells["cell_area"].to_numpy(dtype=np.float64)
    else:
        frame["cell_area"] = _measure(cell_labels, n, pixel_size)[0] if cell_labels is not None else np.nan
    nucleus_xy = np.full((n, 2), np.nan)
    if "nucleus_area" in cells:
        frame["nucleus_area"] = cells["nucleus_area"].to_numpy(dtype=np.float64)
        nucleus_xy = cells[["x_centroid", "y_centroid"]].to_numpy(dtype=np.float64)
    elif nucleus_labels is not None:
        area, x, y = _measure(nucleus_labels, len(owners), pixel_size)
        total = np.bincount(owners, area, minlength=n)
        frame["nucleus_area"] = np.where(total > 0, total, np.nan)
        with np.errstate(invalid="ignore", divide="ignore"):
            nucleus_xy = np.column_stack([np.bincount(owners, area * v, minlength=n) / total for v in (x, y)])
    else:
        frame["nucleus_area"] = np.nan
    if "nucleus_count" in cells:
        frame["nucleus_count"] = cells["nucleus_count"].to_numpy(dtype=np.int64)
    else:
        frame["nucleus_count"] = np.bincount(owners, minlength=n).astype(np.int64)
    frame["segmentation_method"] = method
    for name in cells.columns:
        if name not in _MEASURED:
            frame[name] = cells[name].to_numpy()
    z_level = cells["z_level"].to_numpy(dtype=np.float64) if "z_level" in cells else np.zeros(n)
    columns = dict(
        zip(
            SUMMARY_COLUMNS,
            (
                frame["x_centroid"],
                frame["y_centroid"],
                frame["cell_area"],
                nucleus_xy[:, 0],
                nucleus_xy[:, 1],
                frame["nucleus_area"],
                z_level,
                frame["nucleus_count"],
            ),
            strict=True,
        )
    )
    return frame, np.column_stack([np.asarray(v, dtype=np.float64) for v in columns.values()])


def write_outlines(
    path: Path, outlines: Outlines, cell_ids: npt.NDArray[np.str_], owners: npt.NDArray[np.int64]
) -> None:
    """``cell_boundaries.parquet`` or ``nucleus_boundaries.parquet``: one row a vertex, rings one after another.

    A row group holds 50,000 rings: ids as text of all vertices of a million cells would take gigabytes.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {"cell_id": pa.string(), "vertex_x": pa.float32(), "vertex_y": pa.float32(), "label_id": pa.int32()}
    with pq.ParquetWriter(path, pa.schema(kinds), **_PARQUET) as writer:
        for start in range(0, len(outlines.labels), _RINGS):
            offsets = outlines.offsets[start : start + _RINGS + 1]
            labels, xy = outlines.labels[start : start + _RINGS], outlines.xy[offsets[0] : offsets[-1]]
            ring = np.repeat(np.arange(len(labels)), np.diff(offsets))
            names = pa.array(cell_ids[owners[labels - 1]]).take(pa.array(ring))
            columns = [names, xy[:, 0], xy[:, 1], labels[ring].astype(np.int32)]
            writer.write_table(pa.table(dict(zip(kinds, columns, strict=True))))


def transcripts_frame(transcripts: pd.DataFrame, features: pd.DataFrame) -> pd.DataFrame:
    """``transcripts.parquet``: columns and types as the instrument writes them, as far as they are known."""
    import pandas as pd

    genes = set(features.loc[features["feature_type"] == "Gene Expression", "name"])
    numbers = transcripts.get("transcript_id", pd.Series(np.arange(len(transcripts)), index=transcripts.index))
    frame = pd.DataFrame({"transcript_id": numbers.to_numpy(dtype=np.uint64)})
    frame["cell_id"] = transcripts["cell_id"].to_numpy()
    frame["overlaps_nucleus"] = transcripts["overlaps_nucleus"].to_numpy(dtype=np.uint8)
    frame["feature_name"] = transcripts["feature_name"].to_numpy()
    for name in ("x_location", "y_location", "z_location", "qv"):
        frame[name] = transcripts[name].to_numpy(dtype=np.float32)
    frame["is_gene"] = transcripts["feature_name"].isin(genes).to_numpy()
    return frame


def _measure(
    labels: Raster, count: int, pixel_size: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Area (µm²) and centroid x, y (µm) of objects 1..count, strip by strip."""
    area, x, y = (np.zeros(count + 1) for _ in range(3))
    for top in range(0, labels.shape[0], MASK_CHUNK):
        strip = np.asarray(labels[top : top + MASK_CHUNK, :])
        rows, columns = np.nonzero(strip)
        values = strip[rows, columns]
        area += np.bincount(values, minlength=count + 1)
        x += np.bincount(values, columns + 0.5, minlength=count + 1)
        y += np.bincount(values, rows + top + 0.5, minlength=count + 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return area[1:] * pixel_size**2, (x / area)[1:] * pixel_size, (y / area)[1:] * pixel_size
