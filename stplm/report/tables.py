"""Predictions as plain CSV: one row a cell, and one row a class."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stplm import keys
from stplm.io.groups import as_table, cell_groups, cell_ids
from stplm.io.staged import make_folder, staged_file

if TYPE_CHECKING:
    import pandas as pd

CELLS = "cells.csv"
CLASS_COUNTS = "class_counts.csv"


def write_tables(
    section_or_table: Any, folder: str | Path, *, colours: Mapping[str, str] | None = None
) -> tuple[Path, Path]:
    """Write ``cells.csv`` and ``class_counts.csv`` into a folder, which is made if it is not there.

    Returns
    -------
    The two files. See :func:`cell_rows` and :func:`class_rows` for their columns.

    Raises
    ------
    ExportError
        Nothing has been predicted yet, or the folder cannot be written.
    """
    table = as_table(section_or_table)
    frames = {CELLS: cell_rows(table), CLASS_COUNTS: class_rows(table, colours)}
    folder = make_folder(folder)
    for name, frame in frames.items():
        with staged_file(folder / name) as part:
            frame.to_csv(part, index=False, lineterminator="\n", float_format="%.6g", encoding="utf-8")
    return folder / CELLS, folder / CLASS_COUNTS


def cell_rows(table: Any) -> pd.DataFrame:
    """One row a cell: ``cell_id``, ``x_um``, ``y_um`` (where known), ``n_counts``, ``class``, ``confidence``,

    ``tumour_probability`` and ``unknown`` (how unlike every labelled class). Cells without a class are "Unassigned".
    """
    import pandas as pd

    groups, _ = cell_groups(table)
    columns: dict[str, Any] = {"cell_id": cell_ids(table)}
    if keys.SPATIAL in table.obsm:
        xy = np.asarray(table.obsm[keys.SPATIAL], dtype=np.float64)
        columns |= {"x_um": np.round(xy[:, 0], 3), "y_um": np.round(xy[:, 1], 3)}
    if keys.N_COUNTS in table.obs:
        columns["n_counts"] = table.obs[keys.N_COUNTS].to_numpy()
    columns["class"] = groups.to_numpy()
    for column, name in (
        (keys.CONFIDENCE, "confidence"),
        (keys.TUMOUR, "tumour_probability"),
        (keys.UNKNOWN, "unknown"),
    ):
        if column in table.obs:
            columns[name] = table.obs[column].to_numpy(dtype=np.float64)
    return pd.DataFrame(columns)


def class_rows(table: Any, colours: Mapping[str, str] | None = None) -> pd.DataFrame:
    """One row a class, in class order: ``class``, ``color``, ``cells``, ``percent``, ``mean_confidence``.

    "Unassigned" comes last, and only where there are such cells; it has no mean confidence.
    """
    import pandas as pd

    groups, palette = cell_groups(table, colours=colours)
    counts = groups.value_counts()
    rows = pd.DataFrame({"class": list(palette), "color": list(palette.values())})
    rows["cells"] = [int(counts.get(name, 0)) for name in palette]
    rows["percent"] = 100 * rows["cells"] / max(1, len(groups))
    if keys.CONFIDENCE in table.obs:
        confidence = pd.Series(table.obs[keys.CONFIDENCE].to_numpy(dtype=np.float64))
        means = confidence.groupby(groups.to_numpy()).mean()
        rows["mean_confidence"] = [np.nan if n == keys.UNASSIGNED else means.get(n, np.nan) for n in palette]
    return rows[(rows["cells"] > 0) | (rows["class"] != keys.UNASSIGNED)].reset_index(drop=True)
