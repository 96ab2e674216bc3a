"""What the cell-token encoder needs of a table, as flat arrays: counts of the genes it knows, neighbours, positions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from stplm import keys
from stplm.errors import GeneError, SectionError
from stplm.io.cell_table import counts_matrix
from stplm.io.matrix import GENE, feature_types_by_name
from stplm.spatial.graph import neighbour_graph
from stplm.tokens.vocabulary import gene_ids, gene_places

if TYPE_CHECKING:
    from anndata import AnnData
    from torch import device

    from stplm.nn.encoder import EncoderConfig, Surroundings


@dataclass(frozen=True)
class Cells:
    """Cells as the encoder takes them.

    Attributes
    ----------
    counts
        float32 CSR (n_cells, m): the genes that the model knows.
    rows
        int64 (m,): the model's gene row of each column.
    xy
        float64 (n_cells, 2) in µm, or None for a section without positions.
    neighbours, weights
        int32 and float32 (n_cells, k): nearest cells and their weights, which add up to 1; both 0 where there is none.
        None without positions.
    distances
        float32 (n_cells, k) in µm; 0 where there is no neighbour.
    """

    counts: csr_matrix
    rows: NDArray[np.int64]
    xy: NDArray[np.float64] | None
    neighbours: NDArray[np.int32] | None
    weights: NDArray[np.float32] | None
    distances: NDArray[np.float32] | None

    def __len__(self) -> int:
        return int(self.counts.shape[0])

    def dense(self, cells: NDArray[Any] | slice) -> NDArray[np.float32]:
        """Counts of some cells, dense float32 (len(cells), m)."""
        return np.asarray(self.counts[cells].toarray())

    def scratch(self, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Room for something made of the cells, float32 of ``shape``; not set to anything."""
        return np.empty(shape, dtype=np.float32)


def table_genes(table: AnnData) -> NDArray[np.str_]:
    """Ensembl id of each gene of a table, "" where unknown; a gene's second column counts as unknown."""
    ids = gene_ids(table)
    _, first = np.unique(ids, return_index=True)
    once = np.zeros(len(ids), dtype=bool)
    once[first] = True
    return np.where(once, ids, "")


def table_columns(table: AnnData) -> NDArray[np.str_]:
    """What each column of a table is known by from section to section: the Ensembl id; the table's own name where there
    is none, as for a probe of the user's; "" for a control."""
    ids = table_genes(table)
    nameless = np.flatnonzero(ids == "")
    names = table.var_names.astype(str).to_numpy()[nameless]
    names = np.where(feature_types_by_name(names) == GENE, names, "")
    _, first = np.unique(names, return_index=True)
    found = ids.astype(object)
    found[nameless[first]] = names[first]
    return found.astype(str)


def prepare_cells(table: AnnData, genes: list[str], config: EncoderConfig) -> Cells:
    """Match a table's genes with the model's ``genes`` and find each cell's neighbours.

    Raises GeneError when no gene matches, SectionError when there is no cell or the counts are not integers.
    """
    columns, rows = matched_genes(table, genes)
    counts = counts_matrix(table)
    if len(columns) < counts.shape[1]:
        counts = counts[:, columns]
    if keys.SPATIAL not in table.obsm:
        return Cells(counts, rows, None, None, None, None)
    xy = np.asarray(table.obsm[keys.SPATIAL], dtype=np.float64)[:, :2]
    return Cells(counts, rows, xy, *near_cells(xy, config))


def matched_genes(table: AnnData, genes: list[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Columns of a table that a model of these ``genes`` knows, and the model's row of each, both int64 (m,).

    Raises GeneError when no gene matches, SectionError when there is no cell.
    """
    if table.n_obs == 0:
        raise SectionError("This section has no cell.", mend="Choose another section, or fewer filters.")
    rows = gene_places(table_columns(table), genes)
    known = np.flatnonzero(rows >= 0)
    if len(known) == 0:
        raise GeneError(
            "The model knows none of this section's genes.",
            found=", ".join(map(str, table.var_names[:5])),
            expected=f"some of the model's {len(genes)} genes",
            mend="Adapt the model to this section (stplm.adapt, or tick Adapt in the Embed dock).",
        )
    return known, rows[known]


def near_cells(
    xy: NDArray[np.float64], config: EncoderConfig
) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]]:
    """Neighbours, their weights by a Gaussian of the distance, distances in µm, each (n, k): as in :class:`Cells`."""
    graph = neighbour_graph(xy, k=config.neighbours, radius=config.neighbour_radius)
    degrees = np.diff(graph.indptr)
    column = np.arange(graph.n_edges) - np.repeat(graph.indptr[:-1], degrees)
    row = np.repeat(np.arange(len(xy)), degrees)
    neighbours = np.zeros((len(xy), config.neighbours), dtype=np.int32)
    weights, distances = np.zeros((2, len(xy), config.neighbours), dtype=np.float32)
    neighbours[row, column] = graph.indices
    distances[row, column] = graph.distances
    weights[row, column] = np.exp(-0.5 * (graph.distances / config.neighbour_scale) ** 2)
    total = weights.sum(1, keepdims=True)
    return neighbours, np.divide(weights, total, out=weights, where=total > 0), distances


def surroundings(cells: Cells, chosen: NDArray[np.int64], centre: NDArray[np.float64], on: device) -> Surroundings:
    """What the encoder needs to place the ``chosen`` cells (t,) among all ``cells``; ``centre`` of their tile in µm."""
    import torch

    from stplm.nn.encoder import Surroundings

    assert cells.xy is not None
    assert cells.neighbours is not None
    assert cells.weights is not None
    assert cells.distances is not None
    return Surroundings(
        torch.as_tensor(chosen, device=on),
        torch.as_tensor(cells.neighbours[chosen].astype(np.int64), device=on),
        torch.as_tensor(cells.weights[chosen], device=on),
        torch.as_tensor(cells.distances[chosen], device=on),
        torch.as_tensor(cells.xy[chosen] - centre, dtype=torch.float32, device=on),
    )


def patch_surroundings(cells: Cells, patch: NDArray[np.int64], place: NDArray[np.float64], on: device) -> Surroundings:
    """The same among the cells of a ``patch`` (t,) alone, renumbered: neighbours outside it are left out and the
    weights of the others again add up to 1. ``place`` (t, 2) in µm is the caller's, who may have turned it."""
    import torch

    from stplm.nn.encoder import Surroundings

    assert cells.neighbours is not None
    assert cells.weights is not None
    assert cells.distances is not None
    row = np.full(len(cells), -1, dtype=np.int64)
    row[patch] = np.arange(len(patch))
    neighbours = row[cells.neighbours[patch]]
    weights = np.where(neighbours >= 0, cells.weights[patch], np.float32(0))
    total = weights.sum(1, keepdims=True)
    weights = np.divide(weights, total, out=weights, where=total > 0)
    return Surroundings(
        torch.arange(len(patch), device=on),
        torch.as_tensor(np.maximum(neighbours, 0), device=on),
        torch.as_tensor(weights, device=on),
        torch.as_tensor(np.where(weights > 0, cells.distances[patch], 0), dtype=torch.float32, device=on),
        torch.as_tensor(place, dtype=torch.float32, device=on),
    )
