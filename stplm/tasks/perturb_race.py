"""Which genes move cells the most, found by running ever more cells of ever fewer genes: a race.

Each round runs, of every gene still in it, twice as many of the cells that express it as before (the same random order
of cells for all genes, so that what cells share is done once). A gene leaves when the mean that its cells leave
possible lies below those of as many others as are wanted, by ``Z`` standard errors each; a gene whose cells have all
been run is known. So a gene is dropped for what was run of it, never for an estimate alone once it has entered.

Estimates by gradient say who enters: those that could be among the best, given how far estimates were found to lie from
what was run of the best estimated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stplm.tasks.perturb_edits import edits_of

if TYPE_CHECKING:
    from stplm.tasks.perturb_run import Lab
    from stplm.tasks.perturb_sets import GeneSets

Z = 2.0
FIRST, MOST = 4, 64
"""Cells of a gene in the first round, and at most."""
_PRIOR = 4
"""The spread over a gene's cells is taken together with the typical one, as if that had been seen in so many cells."""
_CELLS = 50_000
"""Of a larger choice of cells, so many are drawn from: more than any gene needs."""


@dataclass
class Race:
    """The exact effects that were run of each gene.

    Parameters
    ----------
    order
        Cells, rows of the table, in random order.
    sets
        Single genes, not empty.
    effect
        What of :meth:`Lab.measure` the genes are compared by; its size counts.
    """

    lab: Lab
    order: NDArray[np.int64]
    sets: GeneSets
    effect: str
    step: Callable[[int], None] = lambda n: None
    values: list[list[float]] = field(init=False)

    def __post_init__(self) -> None:
        self.order = self.order[:_CELLS]
        self.values = [[] for _ in self.sets.names]
        there = self.lab.cells.counts[self.order].tocsc()
        there.sort_indices()
        kept = np.diff(there.indptr)[self.sets.columns]
        self.cells = kept.astype(np.int64)
        """(n_sets,) cells of ``order`` that express each gene."""
        self._at = [there.indices[there.indptr[c] : there.indptr[c + 1]] for c in self.sets.columns]
        self._base: dict[int, NDArray[np.float32]] = {}

    def run(self, genes: NDArray[np.int64], cells: int) -> None:
        """Run the first ``cells`` cells of each of the ``genes`` (rows of ``sets``), as far as they were not."""
        wanted: list[tuple[int, int]] = []
        for gene in genes.tolist():
            new = self._at[gene][len(self.values[gene]) : cells]
            wanted += [(int(cell), gene) for cell in new]
        wanted.sort()
        mine = self.sets.take(np.sort(genes))
        row = np.sort(genes)
        places = np.array([cell for cell, _ in wanted], dtype=np.int64)
        inside = np.searchsorted(row, np.array([gene for _, gene in wanted], dtype=np.int64))
        key = places * len(row) + inside
        touched = np.unique(places)
        for start in range(0, len(touched), self.lab.variants.block):
            part = touched[start : start + self.lab.variants.block]
            self._run_block(part, mine, row, key)

    def _run_block(
        self, part: NDArray[np.int64], mine: GeneSets, row: NDArray[np.int64], key: NDArray[np.int64]
    ) -> None:
        lab = self.lab
        counts = lab.cells.dense(self.order[part])
        base = self._bases(part, counts)
        edits = edits_of(counts, mine, lab.variants.rule)
        edits = edits.some(np.flatnonzero(np.isin(part[edits.cells] * len(row) + edits.sets, key)))
        found = np.empty(len(edits))
        for which, own, shift in lab.variants.parts(counts, edits):
            cells = edits.cells[which]
            measured = lab.measure(base[cells], own, self.order[part[cells]], None)[0]
            found[which] = measured[self.effect] if shift is None or self.effect != "shift" else shift
            self.step(len(which))
        for gene, value in zip(row[edits.sets].tolist(), found.tolist(), strict=True):
            self.values[gene].append(value)

    def _bases(self, part: NDArray[np.int64], counts: NDArray[np.float32]) -> NDArray[np.float32]:
        new = np.array([i for i, cell in enumerate(part.tolist()) if cell not in self._base], dtype=np.int64)
        if len(new):
            vectors = self.lab.variants.base(counts[new])
            self._base.update(zip(part[new].tolist(), vectors, strict=True))
        return np.stack([self._base[cell] for cell in part.tolist()])

    def means(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(n_sets,) mean of each gene's cells and its standard error, of those of all its cells; inf where none was
        run. Spread goes with the mean, so a gene of few cells is taken to spread as the typical gene does."""
        n = np.array([len(v) for v in self.values])
        mean, spread = np.zeros(len(n)), np.full(len(n), np.inf)
        sums = np.array([np.var(v) * len(v) if v else 0.0 for v in self.values])
        mean[n > 0] = [np.mean(v) for v in self.values if v]
        several = n >= 2
        share = np.sqrt(sums[several] / (n[several] - 1)) / np.maximum(np.abs(mean[several]), 1e-12)
        typical = float(np.median(share)) if len(share) else 1.0
        some = n > 0
        squares = (sums[some] + _PRIOR * (typical * mean[some]) ** 2) / (n[some] - 1 + _PRIOR)
        left = 1 - n[some] / np.maximum(self.cells[some], 1)
        spread[some] = np.sqrt(squares / n[some] * np.maximum(left, 0))
        return mean, spread

    def winners(self, entered: NDArray[np.int64], top: int) -> NDArray[np.int64]:
        """Rows of the ``top`` genes of those ``entered``, the largest effect first."""
        left, cells = entered, FIRST
        while True:
            self.run(left, cells)
            mean, error = self.means()
            size = np.abs(mean[left])
            low, high = size - Z * error[left], size + Z * error[left]
            if len(left) > top:
                bar = np.partition(low, -top)[-top]
                left = left[high >= bar]
            if len(left) <= top or cells >= MOST:
                break
            cells *= 2
        order = np.argsort(-np.abs(self.means()[0][left]), kind="stable")
        return left[order[:top]]
