"""Which genes move cells the most, found by running ever more cells of ever fewer genes: a race.

Each round runs, of every gene still in it, half as many again of the cells that express it (the same random order of
cells for all genes, so that a cell's own vector is made once). A gene leaves when, by ``Z`` standard errors either way,
as many others as are wanted lie above it; one whose cells have all been run has no error. So genes are dropped for what
was run of them. A gene needs some hundred cells to be told from its next, however many there are: the more cells, the
smaller the share of all variants that is run. What was run of the winners is not run again (:class:`Known`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stplm.tasks.perturb_edits import edits_of
from stplm.tasks.perturb_run import Known

if TYPE_CHECKING:
    from stplm.tasks.perturb_run import Lab
    from stplm.tasks.perturb_sets import GeneSets

Z = 2.0
FIRST, MORE, MOST = 8, 1.5, 1024
"""Cells of a gene in the first round, how many times as many in each that follows, and at most."""
_PRIOR = 4
"""The spread over a gene's cells is taken together with the typical one, as if that had been seen in so many cells."""
_CELLS = 50_000
"""Of a larger choice of cells, so many are drawn from: more than any gene needs."""
_BLOCK = 1024
"""Cells at once: few variants of each, so many cells, or sentences of one length would be few."""


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
    found: list[list[float]] = field(init=False)
    """(n_sets,) the effects in those cells of each gene that were run."""

    def __post_init__(self) -> None:
        self.order = self.order[:_CELLS]
        self.found = [[] for _ in self.sets.names]
        self._rows: list[list[int]] = [[] for _ in self.sets.names]
        self._vectors: list[list[NDArray[np.float32]]] = [[] for _ in self.sets.names]
        self._width = self.lab.variants.encoder.config.own_width
        self._counts = self.lab.cells.counts[self.order]
        there = self._counts.tocsc()
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
            new = self._at[gene][len(self.found[gene]) : cells]
            wanted += [(int(cell), gene) for cell in new]
        wanted.sort()
        row = np.sort(genes)
        mine = self.sets.take(row)
        places = np.array([cell for cell, _ in wanted], dtype=np.int64)
        inside = np.searchsorted(row, np.array([gene for _, gene in wanted], dtype=np.int64))
        key = places * len(row) + inside
        touched = np.unique(places)
        for start in range(0, len(touched), _BLOCK):
            self._run_block(touched[start : start + _BLOCK], mine, row, key)

    def _run_block(
        self, part: NDArray[np.int64], mine: GeneSets, row: NDArray[np.int64], key: NDArray[np.int64]
    ) -> None:
        lab = self.lab
        counts = np.asarray(self._counts[part].toarray())
        base = self._bases(part, counts)
        edits = edits_of(counts, mine, lab.variants.rule)
        edits = edits.some(np.flatnonzero(np.isin(part[edits.cells] * len(row) + edits.sets, key)))
        values, vectors = np.empty(len(edits)), np.empty((len(edits), self._width), dtype=np.float32)
        for which, own, _ in lab.variants.parts(counts, edits):
            cells = edits.cells[which]
            vectors[which] = own
            values[which] = lab.measure(base[cells], own, self.order[part[cells]], None)[0][self.effect]
            self.step(len(which))
        rows = self.order[part[edits.cells]].tolist()
        for i, (gene, cell, value) in enumerate(zip(row[edits.sets].tolist(), rows, values.tolist(), strict=True)):
            self.found[gene].append(value)
            self._rows[gene].append(cell)
            self._vectors[gene].append(vectors[i])

    def _bases(self, part: NDArray[np.int64], counts: NDArray[np.float32]) -> NDArray[np.float32]:
        new = np.array([i for i, cell in enumerate(part.tolist()) if cell not in self._base], dtype=np.int64)
        if len(new):
            vectors = self.lab.variants.base(counts[new])
            self._base.update(zip(part[new].tolist(), vectors, strict=True))
        return np.stack([self._base[cell] for cell in part.tolist()])

    def means(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(n_sets,) mean of each gene's cells and its standard error, of those of all its cells; inf where none was
        run. Spread goes with the mean, so a gene of few cells is taken to spread as the typical gene does."""
        n = np.array([len(v) for v in self.found])
        mean, spread = np.zeros(len(n)), np.full(len(n), np.inf)
        sums = np.array([np.var(v) * len(v) if v else 0.0 for v in self.found])
        mean[n > 0] = [np.mean(v) for v in self.found if v]
        several = n >= 2
        share = np.sqrt(sums[several] / (n[several] - 1)) / np.maximum(np.abs(mean[several]), 1e-12)
        typical = float(np.median(share)) if len(share) else 1.0
        some = n > 0
        squares = (sums[some] + _PRIOR * (typical * mean[some]) ** 2) / (n[some] - 1 + _PRIOR)
        left = 1 - n[some] / np.maximum(self.cells[some], 1)
        spread[some] = np.sqrt(squares / n[some] * np.maximum(left, 0))
        return mean, spread

    def winners(self, entered: NDArray[np.int64], top: int, z: float = Z, most: int = MOST) -> NDArray[np.int64]:
        """Rows of the ``top`` genes of those ``entered``, the largest effect first. ``z``: standard errors either way
        that a gene must lie under others to leave; ``most``: cells of a gene that are run."""
        left, cells = entered, FIRST
        while len(left):
            self.run(left, cells)
            mean, error = self.means()
            size = np.abs(mean[left])
            low, high = size - z * error[left], size + z * error[left]
            if len(left) > top:
                stays = high >= np.partition(low, -top)[-top]
                for gene in left[~stays]:
                    self._vectors[gene].clear()
                left = left[stays]
            if len(left) <= top or cells >= min(most, self.cells[left].max()):
                break
            cells = min(int(cells * MORE), most)
        order = np.argsort(-np.abs(self.means()[0][left]), kind="stable")
        return left[order[:top]]

    def known(self, genes: NDArray[np.int64]) -> Known:
        """The own vectors of cells, and of their variants by these genes, that were made."""
        n_columns = self.lab.cells.counts.shape[1]
        cells = np.array(list(self._base), dtype=np.int64)
        base = np.stack(list(self._base.values())) if len(cells) else np.zeros((0, self._width), np.float32)
        by_cell = np.argsort(self.order[cells])
        keys = [np.array(self._rows[g], dtype=np.int64) * n_columns + self.sets.columns[g] for g in genes]
        vectors = [np.stack(self._vectors[g]) for g in genes if self._vectors[g]]
        joined = np.concatenate([np.zeros(0, dtype=np.int64), *keys])
        made = np.concatenate([np.zeros((0, self._width), np.float32), *vectors])
        by_key = np.argsort(joined)
        return Known(self.order[cells][by_cell], base[by_cell], joined[by_key], made[by_key], n_columns)
