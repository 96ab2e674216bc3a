"""Rank value encoding without sorting: all (gene, count) pairs are put in order once, then cells are read off a bitmap.

Counts of a panel are small, so its (gene, count) pairs are few, and the order of any two is the same in every cell. A
cell sets the bits of its pairs at their places; the set bits from the lowest are its genes, best first.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from stplm.compiled import compiled
from stplm.kernels import ONE_AT_A_TIME
from stplm.tokens.encoded import count_bins

MOST_PAIRS = 1 << 20
"""Of more, the tables outgrow the processor's cache, and sorting is as quick."""
PAIRS_A_VALUE = 4
"""No more pairs are put in order than this many for each stored value."""
_ROWS_A_TASK = 256


def quotient_keys(values: np.ndarray) -> np.ndarray:
    """int64 keys of positive float64 quotients, ascending as they descend, equal where they agree to 40 bits."""
    keys: np.ndarray = -((values.view(np.int64) + 0x800) & ~0xFFF)
    return keys


class PairOrder:
    """The order of the pairs of ``tokens`` (int32, -1 for none) and ``medians`` (float64), both (n_genes,).

    It is made for the counts that it has met, with some room, and made anew where higher ones come.
    """

    def __init__(self, tokens: np.ndarray, medians: np.ndarray) -> None:
        self._tokens, self._medians = tokens, medians
        self._top = np.zeros(len(tokens), dtype=np.int64)
        self._offsets = np.zeros(len(tokens) + 1, dtype=np.int64)
        self._rank, self._token, self._bin = (np.zeros(0, dtype=t) for t in (np.int32, np.int32, np.uint8))

    def reaches(self, top: np.ndarray, stored: int) -> bool:
        """Whether it orders counts up to ``top`` (int64, (n_genes,)), or can be made to: not if they are too many for
        a matrix of ``stored`` values."""
        if (top <= self._top).all():
            return True
        wanted = np.maximum(self._top, np.where(top > 0, top + top // 4 + 2, 0))
        if wanted.sum() > min(MOST_PAIRS, PAIRS_A_VALUE * stored):
            return False
        self._top = wanted
        np.cumsum(wanted, out=self._offsets[1:])
        gene = np.repeat(np.arange(len(wanted)), wanted)
        count = np.arange(len(gene)) - np.repeat(self._offsets[:-1], wanted) + 1
        by = np.lexsort((self._tokens[gene], -count, quotient_keys(count / self._medians[gene])))
        self._rank = np.empty(len(gene), dtype=np.int32)
        self._rank[by] = np.arange(len(gene), dtype=np.int32)
        self._token, self._bin = self._tokens[gene[by]], count_bins(count[by])
        return True

    def write(
        self,
        csr: tuple[np.ndarray, np.ndarray, np.ndarray],
        starts: np.ndarray,
        stops: np.ndarray,
        ids: np.ndarray,
        bins: np.ndarray,
    ) -> None:
        """As :func:`stplm.tokens.ranking.rank_block`, for counts that it reaches."""
        with ONE_AT_A_TIME:
            _write(*csr, self._tokens, self._offsets, self._rank, self._token, self._bin, starts, stops, ids, bins)


@intrinsic
def _lowest_bit(typing: Any, word: Any) -> Any:
    """Place of the lowest set bit of a uint64 that is not 0."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.uint64(types.uint64), generate


@compiled(parallel=True)
def _write(indptr, indices, counts, tokens, offsets, rank, token, bin_of, starts, stops, ids, bins):  # type: ignore[no-untyped-def]
    n = len(indptr) - 1
    for task in numba.prange((n + _ROWS_A_TASK - 1) // _ROWS_A_TASK):
        first = task * _ROWS_A_TASK
        last = min(first + _ROWS_A_TASK, n)
        _rows(first, last, indptr, indices, counts, tokens, offsets, rank, token, bin_of, starts, stops, ids, bins)


@compiled()
def _rows(first, last, indptr, indices, counts, tokens, offsets, rank, token, bin_of, starts, stops, ids, bins):  # type: ignore[no-untyped-def]
    one, low, six = np.uint64(1), np.uint64(63), np.uint64(6)
    words = np.zeros(len(rank) // 64 + 1, dtype=np.uint64)
    groups = np.zeros(len(words) // 64 + 1, dtype=np.uint64)
    for i in range(first, last):
        for at in range(indptr[i], indptr[i + 1]):
            gene, count = indices[at], counts[at]
            if count > 0 and tokens[gene] >= 0:
                place = np.uint64(rank[offsets[gene] + count - 1])
                word = place >> six
                words[word] |= one << (place & low)
                groups[word >> six] |= one << (word & low)
        at, stop = starts[i], stops[i]
        for g in range(len(groups)):
            group = groups[g]
            groups[g] = np.uint64(0)
            while group:
                w = np.uint64(g) * np.uint64(64) + _lowest_bit(group)  # type: ignore[call-arg]
                group &= group - one
                word = words[w]
                words[w] = np.uint64(0)
                while word and at < stop:
                    place = w * np.uint64(64) + _lowest_bit(word)
                    word &= word - one
                    ids[at] = token[place]
                    bins[at] = bin_of[place]
                    at += 1
