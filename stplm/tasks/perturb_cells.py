"""The cells that a perturbation is of: a table in memory, or one whose counts stay in a file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stplm.errors import SectionError
from stplm.tasks.cells import Cells, matched_genes, near_cells, prepare_cells

if TYPE_CHECKING:
    from anndata import AnnData
    from scipy.sparse import csr_matrix
    from spatialdata import SpatialData

    from stplm.io.table_file import TableFile
    from stplm.nn.encoder import Encoder


@dataclass(frozen=True)
class Studied:
    """A section. ``table``: its cells and genes; without counts where these stay in ``file``, which is open."""

    table: AnnData
    file: TableFile | None = None

    def counts(self) -> csr_matrix:
        """(n_cells, n_genes) float32; of a file, what reads them (:class:`stplm.tasks.cells_file.FileRows`)."""
        from stplm.io.cell_table import counts_matrix
        from stplm.tasks.cells_file import FileRows

        if self.file is None:
            return counts_matrix(self.table)
        rows: Any = FileRows(self.file.counts)
        return rows

    def cells(self, encoder: Encoder, *, near: bool) -> Cells:
        """For an encoder. Not ``near``: nobody will ask for neighbours, which of a large file are not looked for.

        Raises GeneError when the model knows no gene, SectionError when there is no cell.
        """
        from stplm.tasks.cells_file import FileRows

        if self.file is None:
            return prepare_cells(self.table, encoder.genes, encoder.config)
        columns, rows = matched_genes(self.table, encoder.genes)
        counts: Any = FileRows(self.file.counts, columns)
        xy = self.file.xy
        if xy is None or not near:
            return Cells(counts, rows, xy, None, None, None)
        return Cells(counts, rows, xy, *near_cells(xy, encoder.config))


@contextmanager
def studied(given: AnnData | SpatialData | str | Path) -> Iterator[Studied]:
    """What was given to :func:`stplm.perturb`; a file is open while the body runs. Raises SectionError where it is not
    an ``.h5ad`` of ours."""
    from stplm.io.groups import as_table
    from stplm.io.table_file import TableFile

    if not isinstance(given, str | Path):
        yield Studied(as_table(given))
        return
    with TableFile(given) as file:
        yield Studied(file.without_counts(), file)


def chosen_cells(table: AnnData, cells: Any, most: int | None = None, seed: int = 0) -> NDArray[np.int64]:
    """Positions of the cells meant by a mask, positions, ids or None (all), ascending; at most ``most``, at random.
    Raises SectionError."""
    if most is not None and most < 1:
        raise SectionError("No cell would be left.", found=f"max_cells={most}", expected="1 or more, or None for all")
    found = _meant(table, cells)
    if most is None or len(found) <= most:
        return found
    return np.sort(np.random.default_rng(seed).choice(found, most, replace=False))


def _meant(table: AnnData, cells: Any) -> NDArray[np.int64]:
    n = table.n_obs
    if cells is None:
        return np.arange(n)
    given = np.asarray(cells)
    if given.dtype == bool and len(given) == n:
        found = np.flatnonzero(given)
    elif given.dtype.kind in "iu":
        found = np.unique(given).astype(np.int64)
        if len(found) and (found[0] < 0 or found[-1] >= n):
            raise SectionError("There is no such cell.", found=f"position {found[-1]}", expected=f"0 to {n - 1}")
    elif given.dtype.kind in "OUS" and len(given):
        places = table.obs_names.get_indexer([str(c) for c in given])
        if (places < 0).any():
            raise SectionError("A cell is not in this section.", found=str(given[int(np.argmin(places))]))
        found = np.unique(places).astype(np.int64)
    elif len(given) == 0:
        found = np.zeros(0, dtype=np.int64)
    else:
        raise SectionError("These do not say which cells.", found=str(given.dtype), expected=f"a mask of {n}, or ids")
    if not len(found):
        raise SectionError("No cell was chosen.", mend="Select cells, or a class that has some.")
    return found
