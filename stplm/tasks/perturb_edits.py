"""What a perturbation does to each cell: which gene, from which count to which, at which rank.

A *variant* is a cell with one set of genes edited. Only cells that express one of the set's genes have one; to
overexpress, every cell has. Variants are flat arrays, many to a block of cells.

Two rules say what an edit is, one for each kind of model.

- *Gene tokens* (:class:`RankRule`), after Geneformer (Theodoris et al., 2023): *delete* drops the token; *overexpress*
  puts it first; *inhibit* and *activate* move it by a quarter of the sentence, towards the end or the start. A token's
  count is then the one that its new place stands for: the model's count bins and the classifier see that count.
- *Cell tokens* (:class:`LevelRule`), where a gene's expression is a number: *delete* sets its count to 0; *overexpress*
  to the 95th percentile of its share of the counts among expressing cells, at the cell's own depth; *inhibit* and
  *activate* move it by a quarter of that distribution. Nothing is rounded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from stplm.errors import StplmError
from stplm.tasks.perturb_sets import GeneSets

MODES = ("delete", "overexpress", "inhibit", "activate")
HIGH = 0.95
"""Quantile of a gene's share among expressing cells that *overexpress* raises it to."""
STEP = 0.25
"""How far *inhibit* and *activate* move a gene: a quartile."""
_GRID = 201
_GRID_CELLS = 250_000
"""Quantiles are of at most so many cells."""


@dataclass(frozen=True)
class Edits:
    """Variants of a block of cells.

    ``cells``, ``sets`` int64 (v,): row in the block and set of genes of each variant, by cell and then by set. The
    edits of variant i are ``offsets[i]:offsets[i + 1]`` of ``columns`` int64 (e,), ``old`` and ``new`` float32 (e,)
    counts, and ``place`` int64 (e,): the rank that the gene gets in its cell's sentence (-1: none; the first is 0).
    """

    cells: NDArray[np.int64]
    sets: NDArray[np.int64]
    offsets: NDArray[np.int64]
    columns: NDArray[np.int64]
    old: NDArray[np.float32]
    new: NDArray[np.float32]
    place: NDArray[np.int64]

    @classmethod
    def none(cls, n: int) -> Edits:
        """A variant for each of ``n`` cells, in which nothing is edited."""
        places, counts = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32)
        zeros = np.zeros(n + 1, dtype=np.int64)
        return cls(np.arange(n), zeros[:n], zeros, places, counts, counts, places)

    def __len__(self) -> int:
        return len(self.cells)

    @property
    def owner(self) -> NDArray[np.int64]:
        """(e,) variant of each edit."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    def take(self, part: slice) -> Edits:
        """Some variants, one after the other; the rows of the block stay."""
        start, stop, _ = part.indices(len(self))
        inner = slice(self.offsets[start], self.offsets[stop])
        offsets = self.offsets[start : stop + 1] - self.offsets[start]
        edits = (getattr(self, name)[inner] for name in ("columns", "old", "new", "place"))
        return Edits(self.cells[start:stop], self.sets[start:stop], offsets, *edits)

    def some(self, which: NDArray[np.int64]) -> Edits:
        """The variants at these positions, in the order given; the rows of the block stay."""
        sizes = np.diff(self.offsets)[which]
        offsets = np.concatenate([[0], np.cumsum(sizes)])
        inner = np.repeat(self.offsets[which] - offsets[:-1], sizes) + np.arange(offsets[-1])
        edits = (getattr(self, name)[inner] for name in ("columns", "old", "new", "place"))
        return Edits(self.cells[which], self.sets[which], offsets, *edits)

    def change(self) -> NDArray[np.float64]:
        """(v,) molecules that a variant differs by from its cell, added and lost alike."""
        moved = np.abs(self.new.astype(np.float64) - self.old)
        return np.bincount(self.owner, weights=moved, minlength=len(self)).astype(np.float64)

    def apply(self, counts: sparse.csr_matrix, columns: NDArray[np.int64]) -> sparse.csr_matrix:
        """Counts (v, n_genes) of the variants from those of the block's cells (b, n_genes); ``columns`` (m,): where the
        model's columns are among the genes."""
        delta = sparse.csr_matrix(
            (self.new - self.old, columns[self.columns], self.offsets), shape=(len(self), counts.shape[1])
        )
        edited = sparse.csr_matrix(counts[self.cells] + delta)
        edited.eliminate_zeros()
        return edited


class Rule(Protocol):
    """What an edit does, for one kind of model."""

    @property
    def mode(self) -> str: ...

    def present(self, counts: NDArray[np.float32]) -> NDArray[np.bool_]:
        """(b, m): which genes a cell can lose."""

    def edit(
        self, counts: NDArray[np.float32], cells: NDArray[np.int64], columns: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """New counts and places (e,) of the genes ``columns`` (e,) of ``cells`` (e,), rows of ``counts`` (b, m)."""


def check_mode(mode: str) -> str:
    """``mode``, if it is one. Raises StplmError."""
    if mode not in MODES:
        raise StplmError(f"Genes cannot be {mode!r}.", found=f"mode={mode!r}", expected=", ".join(MODES))
    return mode


def edits_of(counts: NDArray[np.float32], sets: GeneSets, rule: Rule) -> Edits:
    """All variants of cells with ``counts`` (b, m). Memory: b × m, and some numbers a variant."""
    n, m = counts.shape
    if rule.mode == "overexpress":
        cells = np.repeat(np.arange(n), len(sets))
        which = np.tile(np.arange(len(sets)), n)
    else:
        member, start = sets.index(m)
        present = rule.present(counts)
        cell, column = np.nonzero(present)
        width = np.diff(start)[column]
        inside = np.arange(width.sum()) - np.repeat(np.cumsum(width) - width, width)
        pairs = np.repeat(cell, width) * len(sets) + member[np.repeat(start[column], width) + inside]
        pairs = np.unique(pairs)
        cells, which = np.divmod(pairs, max(len(sets), 1))
    sizes = sets.sizes[which]
    within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    columns = sets.columns[np.repeat(sets.offsets[which], sizes) + within]
    owner = np.repeat(np.arange(len(cells)), sizes)
    if rule.mode != "overexpress":
        there = present[cells[owner], columns]
        owner, columns = owner[there], columns[there]
    new, place = rule.edit(counts, cells[owner], columns)
    offsets = np.searchsorted(owner, np.arange(len(cells) + 1))
    return Edits(cells, which, offsets, columns, counts[cells[owner], columns], new, place)


@dataclass(frozen=True)
class LevelRule:
    """Expression edits. ``grid`` float32 (m, 201): quantiles of each gene's share of the counts among the cells that
    express it (0 for a gene that none does). Made by :meth:`of`."""

    mode: str
    grid: NDArray[np.float32]

    @classmethod
    def of(cls, mode: str, counts: sparse.csr_matrix) -> LevelRule:
        """From the counts (n, m) of a section; of a large one, from every second cell, third, and so on."""
        check_mode(mode)
        grid = np.zeros((counts.shape[1], _GRID), dtype=np.float32)
        if mode != "delete":
            share = counts[np.arange(0, counts.shape[0], counts.shape[0] // _GRID_CELLS + 1)]
            depth = np.asarray(share.sum(1)).ravel()
            share.data = share.data / np.repeat(np.maximum(depth, 1), np.diff(share.indptr))
            by_gene = share.tocsc()
            for j, (start, stop) in enumerate(zip(by_gene.indptr[:-1], by_gene.indptr[1:], strict=True)):
                if stop > start:
                    grid[j] = np.quantile(by_gene.data[start:stop], np.linspace(0, 1, _GRID))
        return cls(mode, grid)

    def present(self, counts: NDArray[np.float32]) -> NDArray[np.bool_]:
        return counts > 0

    def edit(
        self, counts: NDArray[np.float32], cells: NDArray[np.int64], columns: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        old = counts[cells, columns]
        none = np.full(len(old), -1, dtype=np.int64)
        if self.mode == "delete":
            return np.zeros_like(old), none
        depth = np.maximum(counts.sum(1)[cells], 1).astype(np.float64)
        if self.mode == "overexpress":
            return np.maximum(old, self._at(columns, np.full(len(old), HIGH)) * depth).astype(np.float32), none
        shift = -STEP if self.mode == "inhibit" else STEP
        moved = self._at(columns, self._quantile(columns, old / depth) + shift) * depth
        bound = np.minimum if self.mode == "inhibit" else np.maximum
        return bound(old, moved).astype(np.float32), none

    def _at(self, columns: NDArray[np.int64], quantile: NDArray[np.float64]) -> NDArray[np.float64]:
        at = np.clip(quantile, 0, 1) * (_GRID - 1)
        low = np.minimum(at.astype(np.int64), _GRID - 2)
        part = at - low
        return np.asarray(self.grid[columns, low] * (1 - part) + self.grid[columns, low + 1] * part)

    def _quantile(self, columns: NDArray[np.int64], share: NDArray[Any]) -> NDArray[np.float64]:
        """Where a share lies in its gene's distribution; the middle of its ties."""
        at = np.empty(len(share))
        order = np.argsort(columns, kind="stable")
        genes, first = np.unique(columns[order], return_index=True)
        for gene, mine in zip(genes, np.split(order, first[1:]), strict=True):
            low, high = (np.searchsorted(self.grid[gene], share[mine].astype(np.float32), s) for s in ("left", "right"))
            at[mine] = (low + high - 1) / 2 / (_GRID - 1)
        return at


@dataclass(frozen=True)
class RankRule:
    """Token edits. ``read`` gives the sentences (b, L) of a block's counts (b, m): the columns of its ranked genes,
    first to last, -1 after the end. ``medians`` float64 (m,): what each column's counts are divided by."""

    mode: str
    medians: NDArray[np.float64]
    read: Callable[[NDArray[np.float32]], NDArray[np.int64]]

    def present(self, counts: NDArray[np.float32]) -> NDArray[np.bool_]:
        return self._places(self.read(counts), counts.shape[1]) >= 0

    def edit(
        self, counts: NDArray[np.float32], cells: NDArray[np.int64], columns: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        old = counts[cells, columns]
        if self.mode == "delete":
            return np.zeros_like(old), np.full(len(old), -1, dtype=np.int64)
        sentences = self.read(counts)
        place = self._places(sentences, counts.shape[1])[cells, columns]
        quotients = counts / self.medians
        if self.mode == "overexpress":
            above = np.floor(quotients.max(1)[cells] * self.medians[columns]) + 1
            return np.where(place == 0, old, above).astype(np.float32), np.zeros(len(old), dtype=np.int64)
        length = (sentences >= 0).sum(1)[cells]
        step = np.maximum(np.round(STEP * length).astype(np.int64), 1)
        target = np.minimum(place + step, length - 1) if self.mode == "inhibit" else np.maximum(place - step, 0)
        stands = np.round(quotients[cells, sentences[cells, target]] * self.medians[columns])
        new = np.clip(stands, 1, old) if self.mode == "inhibit" else np.maximum(stands, old)
        return np.where(target == place, old, new).astype(np.float32), target

    @staticmethod
    def _places(sentences: NDArray[np.int64], m: int) -> NDArray[np.int64]:
        """(b, m): rank of each column in its cell's sentence, -1 where it is not in it."""
        place = np.full((len(sentences), m), -1, dtype=np.int64)
        row, rank = np.nonzero(sentences >= 0)
        place[row, sentences[row, rank]] = rank
        return place
