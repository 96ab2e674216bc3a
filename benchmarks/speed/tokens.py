"""Rank encoding, from a matrix in memory to tokens that a model takes; against a tokenizer that loops over cells."""

from __future__ import annotations

import numpy as np
from anndata import AnnData

from benchmarks.reference import tokens as reference
from benchmarks.rows import Row, memory, seconds
from benchmarks.sections import GENES, LARGE, MULTI, Sections
from stplm.tokens.encoded import RankTokens
from stplm.tokens.medians import choose_medians, medians_of
from stplm.tokens.rank import rank_encode
from stplm.tokens.vocabulary import CLS, gene_ids, load_vocabulary

BAR_S, BAR_TIMES, BAR_MEMORY = 8.0, 100, 2.0
REFERENCE_CELLS = 10_000
LARGEST = 1_000_000
MODE, MAX_LENGTH = "reference", 2048


def measure(sections: Sections, sizes: tuple[int, ...]) -> list[Row]:
    """A row a size and panel, and the memory beyond the input's."""
    rows = []
    for panel in (MULTI, LARGE):
        small = sections.table(REFERENCE_CELLS, panel)
        took, found = seconds(lambda small=small: by_reference(small))
        agrees = same(small, encode(small), found)
        for cells in sizes:
            rows += _row(sections, panel, cells, took, agrees)
    return rows


def _row(sections: Sections, panel: str, cells: int, reference_s: float, agrees: bool) -> list[Row]:
    table = sections.table(cells, panel)
    size_mb = (table.X.data.nbytes + table.X.indices.nbytes + table.X.indptr.nbytes) / 2**20
    with memory() as used:
        encode(table)
    took, _ = seconds(lambda: encode(table), repeats=3)
    row = Row(
        f"rank encoding, {GENES[panel]:,} genes",
        cells,
        cells / took,
        REFERENCE_CELLS / reference_s,
        "cells/s",
        peak_mb=used.peak_mb,
        agrees=agrees,
        reference_cells=REFERENCE_CELLS,
        note=f"Least of 3 runs. The reference writes its rows into {reference.LIBRARY}. Compared on "
        f"{REFERENCE_CELLS:,} cells: the same genes of each cell, in an order that the reference's "
        "values allow (ties are broken by rule).",
    )
    room = Row(
        f"rank encoding, {GENES[panel]:,} genes: memory beyond the input",
        cells,
        used.grown_mb,
        size_mb,
        "MB",
        agrees=agrees,
        note="Reference: the size of the matrix itself. Tokens that are given back are counted.",
    )
    if cells == LARGEST and panel == MULTI:
        row.bar = f"≤ {BAR_S:g} s, ≥ {BAR_TIMES} ×"
        row.met = bool(took <= BAR_S and (row.ratio or 0) >= BAR_TIMES and agrees)
        room.bar = f"≤ {BAR_MEMORY:g} × the input"
        room.met = bool(used.grown_mb <= BAR_MEMORY * size_mb)
    return [row, room]


def encode(table: AnnData) -> RankTokens:
    """Ours."""
    return rank_encode(table, mode=MODE)


def by_reference(table: AnnData) -> list[np.ndarray]:
    """Tokens of each cell by the reference."""
    ids, words = gene_ids(table), load_vocabulary(MODE)
    columns = words.encode(ids)
    medians = medians_of(ids, choose_medians(np.unique(ids[columns >= 0]))[1])
    found = reference.tokenize(table, columns, medians, words.special[CLS], MAX_LENGTH)
    return found["input_ids"]


def same(table: AnnData, ours: RankTokens, theirs: list[np.ndarray]) -> bool:
    """Whether each row has the reference's tokens, in an order in which its values never rise.

    A row that was cut is only asked for its order and its length.
    """
    ids, words = gene_ids(table), load_vocabulary(MODE)
    columns = words.encode(ids)
    medians = medians_of(ids, choose_medians(np.unique(ids[columns >= 0]))[1])
    place = np.zeros(columns.max() + 1, dtype=np.int64)
    place[columns[columns >= 0]] = np.flatnonzero(columns >= 0)
    if len(ours) != len(theirs):
        return False
    for i, expected in enumerate(theirs):
        row, other = ours.row(i), np.asarray(expected.as_py() if hasattr(expected, "as_py") else expected)
        if len(row) != len(other) or row[0] != other[0]:
            return False
        if len(row) < MAX_LENGTH and not np.array_equal(np.sort(row), np.sort(other)):
            return False
        counts = np.asarray(table.X[i].todense()).ravel()
        genes = place[row[1:]]
        values = counts[genes] / medians[genes]
        if not (np.diff(values) <= 1e-9 * values[:-1]).all():
            return False
    return True
