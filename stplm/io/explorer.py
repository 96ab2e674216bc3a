"""Cell groups for 10x's Xenium Explorer: a CSV with the header ``cell_id,group,color``."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from stplm import keys
from stplm.errors import ExportError
from stplm.io.groups import cell_groups
from stplm.io.staged import staged_file

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

HEADER = ("cell_id", "group", "color")


def write_explorer_groups(
    table: AnnData,
    path: str | Path,
    column: str = keys.CLASS,
    colours: Mapping[str, str] | None = None,
    *,
    overwrite: bool = True,
) -> Path:
    """Write every cell's group and colour as Xenium Explorer's "cell groups" CSV.

    Parameters
    ----------
    table
        The cell table; ids are the instrument's own, so that the file matches the bundle it came from.
    path
        The CSV file to write.
    column
        Column of ``obs`` with the groups. Cells without one are written as "Unassigned" in grey.
    colours
        ``{group: "#RRGGBB"}``, e.g. the user's class registry; groups not in it take the palette's colour.
    overwrite
        Whether an existing file may be replaced.

    Returns
    -------
    The file written.

    Raises
    ------
    ExportError
        The column is missing or not groups, a colour is not ``#RRGGBB``, or the file cannot be written.
    """
    groups, palette = cell_groups(table, column, colours)
    with staged_file(path, overwrite=overwrite) as part, part.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(HEADER)
        writer.writerows((cell, group, palette[group]) for cell, group in groups.items())
    return Path(path)


def read_explorer_groups(path: str | Path) -> pd.DataFrame:
    """Read a cell groups CSV: a frame indexed by ``cell_id`` (strings) with ``group`` and ``color`` (strings).

    The optional colour column is "" where the file has none.

    Raises
    ------
    ExportError
        The file is missing, is not a CSV, lacks ``cell_id`` or ``group``, or names a cell twice.
    """
    import pandas as pd

    path = Path(path)
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise ExportError("The cell groups file cannot be read.", where=path, found=str(error)) from error
    missing = [name for name in HEADER[:2] if name not in frame.columns]
    if missing:
        raise ExportError(
            "This is not a cell groups file of Xenium Explorer.",
            where=path,
            found="columns " + ", ".join(map(str, frame.columns)),
            expected=",".join(HEADER),
        )
    twice = frame.loc[frame["cell_id"].duplicated(), "cell_id"]
    if len(twice):
        raise ExportError("A cell is named twice.", where=path, found=f"{twice.iloc[0]} and {len(twice) - 1} more")
    if "color" not in frame.columns:
        frame["color"] = ""
    return frame.set_index("cell_id")[["group", "color"]]
