"""What exports and plots call each cell, and in which colour: one place, so that all of them agree."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from stplm import keys
from stplm.errors import ExportError
from stplm.palette import UNASSIGNED_COLOUR, class_colours

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

_HEX = re.compile(r"#[0-9A-Fa-f]{6}")


def as_table(section_or_table: Any) -> AnnData:
    """The cell table of a section, or the AnnData itself."""
    from anndata import AnnData

    if isinstance(section_or_table, AnnData):
        return section_or_table
    from stplm.io.cell_table import cell_table

    return cell_table(section_or_table)


def cell_ids(table: AnnData) -> list[str]:
    """The instrument's id of every cell, as strings, in the order of the table."""
    source = table.obs.get(keys.CELL_ID, table.obs_names)
    return [str(cell) for cell in source]


def cell_groups(
    table: AnnData, column: str = keys.CLASS, colours: Mapping[str, str] | None = None
) -> tuple[pd.Series, dict[str, str]]:
    """Every cell's group, and a colour for every group that can occur.

    Parameters
    ----------
    table
        The cell table.
    column
        Column of ``obs``: categorical, text, whole numbers or booleans.
    colours
        ``{group: "#RRGGBB"}`` to use before the colours in ``uns["<column>_colors"]`` and the palette's.

    Returns
    -------
    groups
        Series of str by cell id, in the order of the table; "Unassigned" where a cell has none.
    colours
        ``{group: "#RRGGBB"}`` in the order of the categories, "Unassigned" last.

    Raises
    ------
    ExportError
        No such column, it holds measurements instead of groups, or a colour is malformed.
    """
    import pandas as pd

    values = groups_column(table, column)
    names = [str(name) for name in values.cat.categories]
    chosen = class_colours([name for name in names if name != keys.UNASSIGNED]) | {keys.UNASSIGNED: UNASSIGNED_COLOUR}
    stored = table.uns.get(f"{column}_colors")
    if stored is not None and len(stored) == len(names):
        chosen |= {n: str(c) for n, c in zip(names, stored, strict=True) if _HEX.fullmatch(str(c))}
    chosen |= {name: colour for name, colour in (colours or {}).items() if name in chosen}
    for name, colour in chosen.items():
        if not _HEX.fullmatch(colour):
            raise ExportError(f"The colour of {name!r} is malformed.", found=repr(colour), expected="#RRGGBB")
    text = values.astype(object).map(str, na_action="ignore").fillna(keys.UNASSIGNED)
    return pd.Series(text.to_numpy(dtype=object), index=pd.Index(cell_ids(table), name=keys.CELL_ID)), chosen


def groups_column(table: AnnData, column: str) -> pd.Series:
    """A column of ``obs`` as categorical (see :func:`cell_groups` for what it raises)."""
    import pandas as pd

    if column not in table.obs:
        if column == keys.CLASS:
            raise ExportError(
                "No cell has a class yet, so there is nothing to show or export by class.",
                where=f"obs[{column!r}]",
                mend="Run Classify first (stplm.predict), or choose another column.",
            )
        raise ExportError(
            f"The cell table has no column {column!r}.",
            found=", ".join(map(str, table.obs.columns)),
            mend="Choose one of the columns that are there.",
        )
    values: pd.Series = table.obs[column]
    if isinstance(values.dtype, pd.CategoricalDtype):
        return values
    if pd.api.types.is_float_dtype(values.dtype):
        raise ExportError(
            f"The column {column!r} holds measurements, not groups.",
            found=str(values.dtype),
            expected="a categorical, text or whole-number column",
            mend=f"Choose a column of classes, such as {keys.CLASS!r}.",
        )
    groups: pd.Series = values.astype("category")
    return groups
