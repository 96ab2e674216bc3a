"""Where perturbed cells would lie on the map of all cells: an arrow a cell, and their mean over a grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stplm import keys
from stplm.errors import ModelError, StplmError
from stplm.tasks.perturb_result import FEW_CELLS

if TYPE_CHECKING:
    from anndata import AnnData
    from spatialdata import SpatialData

    from stplm.tasks.perturb_result import Perturbation

Places = NDArray[np.float32]


@dataclass(frozen=True)
class Arrows:
    """``start``, ``end`` float32 (n, 2) on the map; ``cells`` int64 (n,): position in the table, or, of a mean field,
    how many cells an arrow is the mean of."""

    start: Places
    end: Places
    cells: NDArray[np.int64]

    def field(self, squares: int = 24, fewest: int = FEW_CELLS) -> Arrows:
        """The mean arrow of each square of a grid, ``squares`` along the longer side of where arrows start; those of
        fewer than ``fewest`` cells are left out. It starts at the mean of its cells."""
        if not len(self.cells):
            return self
        low = self.start.min(0)
        side = float((self.start.max(0) - low).max()) / squares or 1.0
        column, row = np.minimum(((self.start - low) / side).astype(np.int64), squares - 1).T
        _, square, number = np.unique(row * squares + column, return_inverse=True, return_counts=True)
        enough = number >= fewest

        def mean(places: Places) -> Places:
            sums = [np.bincount(square, weights=places[:, i].astype(np.float64)) for i in range(2)]
            return (np.stack(sums, axis=1) / number[:, None])[enough].astype(np.float32)

        return Arrows(mean(self.start), mean(self.end), number[enough].astype(np.int64))


def map_arrows(table: AnnData | SpatialData, found: Perturbation, name: str) -> Arrows:
    """Arrows on the map, from where cells lie to where they would if they were as one set of genes leaves them.

    Parameters
    ----------
    table
        The section's cell table that was perturbed, embedded with the same model (:func:`stplm.embed`) and mapped
        (:func:`stplm.umap`).
    found
        What :func:`stplm.perturb` gave, with vectors (``keep_vectors``).
    name
        Of the set of genes.

    Returns
    -------
    Arrows of the cells whose vectors were kept. Both of a cell's vectors, as it is and as it would be, are put among
    the map's sample as any other cell is; the arrow is the difference, drawn from the cell's own place. So a cell that
    does not change has none, whatever the map did with it. As with all on such a map, directions mean more than
    lengths.

    Raises
    ------
    StplmError
        There is no such set, or no vectors were kept.
    ModelError
        The table is embedded with another model.
    SectionError
        There is no map of these vectors.
    """
    from stplm.io.groups import as_table
    from stplm.tasks.umap import place_on_map

    table = as_table(table)
    cells, after = found.kept_vectors(name)
    made = table.uns.get(keys.UNS, {}).get(keys.UNS_EMBEDDING, {})
    if made.get("sha256") != found.info["run"]["model"]:
        raise ModelError(
            "The cells are embedded with another model than was perturbed.",
            found=str(made.get("model", "none")),
            expected=str(found.info.get("model_name", "")),
            mend="Embed with that model and draw the map again.",
        )
    if len(cells) and int(cells.max()) >= table.n_obs:
        raise StplmError("The perturbation is of another section.", found=f"a cell {cells.max()} of {table.n_obs}")
    before = np.asarray(table.obsm[keys.X_STPLM])[cells]
    moved = place_on_map(table, after) - place_on_map(table, before)
    start = np.asarray(table.obsm[keys.UMAP], dtype=np.float32)[cells]
    return Arrows(start, start + moved, cells)
