"""Neighbourhoods of cells, for rank value encoding: who is near, and what they express together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from stplm import keys
from stplm.errors import SectionError
from stplm.spatial.graph import NeighbourGraph, neighbour_graph
from stplm.tokens.counts import CountBlock

if TYPE_CHECKING:
    from anndata import AnnData

_ROWS_A_BLOCK = 8_192
"""Neighbourhoods hold several times the genes of a cell: smaller blocks than of cells."""


def graph_of(table: AnnData, graph: NeighbourGraph | None, k: int | None, radius: float | None) -> NeighbourGraph:
    """The given graph, checked, or one made of the table's positions. Raises SectionError, ValueError."""
    if graph is None:
        if keys.SPATIAL not in table.obsm:
            raise SectionError(
                "Neighbours need positions, and this table has none.",
                where=f'obsm["{keys.SPATIAL}"]',
                expected="x and y of each cell in µm",
            )
        return neighbour_graph(np.asarray(table.obsm[keys.SPATIAL]), k=k, radius=radius)
    if k is not None or radius is not None:
        raise ValueError("give a graph, or k and radius, not both")
    if graph.n_cells != table.n_obs:
        raise SectionError(
            "The neighbour graph is of another table.", found=f"{graph.n_cells} cells", expected=f"{table.n_obs} cells"
        )
    return graph


def pooled_blocks(counts: sparse.csr_matrix, graph: NeighbourGraph, enough: np.ndarray) -> Iterator[CountBlock]:
    """Summed raw counts of each cell's neighbours; ``enough`` (bool, by cell) says which neighbours count."""
    ones = enough[graph.indices].astype(np.int32)
    adjacency = sparse.csr_matrix((ones, graph.indices, graph.indptr), shape=(graph.n_cells, graph.n_cells))
    for start in range(0, graph.n_cells, _ROWS_A_BLOCK):
        stop = min(start + _ROWS_A_BLOCK, graph.n_cells)
        yield CountBlock(start, stop, (adjacency[start:stop] @ counts).tocsr())
