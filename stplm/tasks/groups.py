"""A categorical column of the cell table as group codes, for what compares groups of cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stplm.errors import LabelError, StplmError

if TYPE_CHECKING:
    from anndata import AnnData

MOST = 200
"""Groups that a comparison takes: above that, the column is no grouping."""


class MissingPackage(StplmError):
    """An optional package is needed and not installed."""


def group_codes(table: AnnData, column: str, fewest: int = 2) -> tuple[list[str], NDArray[np.int64]]:
    """Names of the groups that have cells, and each cell's group (n_cells,), -1 for none.

    Raises LabelError when there is no such column, or fewer than ``fewest`` or more than 200 groups.
    """
    import pandas as pd

    if column not in table.obs:
        fitting = [str(c) for c in table.obs if isinstance(table.obs[c].dtype, pd.CategoricalDtype)]
        raise LabelError(
            f"The section has no column {column!r}.",
            expected=", ".join(fitting) or "a predicted class: classify the cells first",
        )
    found = pd.Categorical(table.obs[column])
    found = found.remove_unused_categories()
    if not fewest <= len(found.categories) <= MOST:
        raise LabelError(
            f"Column {column!r} does not divide the cells into groups that can be compared.",
            found=f"{len(found.categories)} different values",
            expected=f"{fewest} to {MOST}",
        )
    return [str(name) for name in found.categories], np.asarray(found.codes, np.int64)


def need(package: str) -> None:
    """Raise MissingPackage, with how to install it, where an optional package is absent."""
    from importlib.util import find_spec

    if find_spec(package) is None:
        raise MissingPackage(
            f"This needs {package}, which is not installed.",
            mend='Install it: python -m pip install "stplm-napari[analysis]"',
        )
