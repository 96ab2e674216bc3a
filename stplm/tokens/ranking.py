"""The inner loop of rank value encoding, over flat arrays and on all cores.

Where there are few (gene, count) pairs cells are read off their common order (:mod:`stplm.tokens.pair_order`);
elsewhere each cell's genes are sorted.
"""

from __future__ import annotations

import numba
import numpy as np

from stplm.compiled import compiled
from stplm.kernels import ONE_AT_A_TIME
from stplm.tokens.encoded import BIN_OF_COUNT
from stplm.tokens.pair_order import PairOrder

_RUN = 16
_ROWS_A_TASK = 256
_LOW = np.int64(0xFFFFFFFF)
_TOP = np.int64(0x7FFFFFFF)


def rank_block(
    csr: tuple[np.ndarray, np.ndarray, np.ndarray],
    tokens: np.ndarray,
    medians: np.ndarray,
    order: PairOrder,
    top: np.ndarray,
    starts: np.ndarray,
    stops: np.ndarray,
    ids: np.ndarray,
    bins: np.ndarray,
) -> None:
    """Write each row's tokens, best first, to ``ids[starts[i]:stops[i]]``, and their count bins to ``bins``.

    Parameters
    ----------
    csr
        indptr, indices and data of int32 counts; zeros are skipped.
    tokens
        int32, (n_genes,): token of each column, -1 where there is none.
    medians
        float64, (n_genes,): what counts are divided by.
    order
        The common order of the same tokens and medians; kept from block to block.
    top
        int64, (n_genes,): highest count of each gene that has a token (:func:`survey`).
    starts, stops
        int64, (n_rows,): where rows go; genes beyond ``stops`` are cut.
    ids, bins
        Filled here: integers that hold any token, and uint8 (:func:`stplm.tokens.encoded.count_bins`).

    Notes
    -----
    Order: count / median descending, then count descending, then token ascending. Quotients are compared to 40 bits,
    so that rounding never decides between values that are equal in exact arithmetic.
    """
    if order.reaches(top, len(csr[1])):
        order.write(csr, starts, stops, ids, bins)
        return
    with ONE_AT_A_TIME:
        _rank(*csr, tokens, medians, BIN_OF_COUNT, starts, stops, ids, bins)


@compiled()
def survey(
    indptr: np.ndarray, indices: np.ndarray, counts: np.ndarray, tokens: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """How many genes of each row have counts and a token, and each such gene's highest count: int64."""
    lengths = np.zeros(len(indptr) - 1, dtype=np.int64)
    top = np.zeros(len(tokens), dtype=np.int64)
    for i in range(len(lengths)):
        for at in range(indptr[i], indptr[i + 1]):
            gene, count = indices[at], counts[at]
            if count > 0 and tokens[gene] >= 0:
                lengths[i] += 1
                if count > top[gene]:
                    top[gene] = count
    return lengths, top


@compiled()
def _after(high_a: int, low_a: int, high_b: int, low_b: int) -> bool:
    return high_a > high_b or (high_a == high_b and low_a > low_b)


@compiled()
def _sort(high: np.ndarray, low: np.ndarray, other_high: np.ndarray, other_low: np.ndarray, n: int) -> None:
    """Sort pairs (high, low) ascending: insertion within runs, then merges; ``other_*`` is scratch of equal length."""
    for start in range(0, n, _RUN):
        for at in range(start + 1, min(start + _RUN, n)):
            h, w = high[at], low[at]
            slot = at
            while slot > start and _after(high[slot - 1], low[slot - 1], h, w):
                high[slot], low[slot] = high[slot - 1], low[slot - 1]
                slot -= 1
            high[slot], low[slot] = h, w
    width = _RUN
    while width < n:
        for start in range(0, n, 2 * width):
            middle, end = min(start + width, n), min(start + 2 * width, n)
            a, b = start, middle
            for at in range(start, end):
                if a < middle and (b >= end or not _after(high[a], low[a], high[b], low[b])):
                    other_high[at], other_low[at] = high[a], low[a]
                    a += 1
                else:
                    other_high[at], other_low[at] = high[b], low[b]
                    b += 1
        for at in range(n):
            high[at], low[at] = other_high[at], other_low[at]
        width *= 2


@compiled()
def _rank_rows(
    first: int,
    last: int,
    indptr: np.ndarray,
    indices: np.ndarray,
    counts: np.ndarray,
    tokens: np.ndarray,
    medians: np.ndarray,
    bin_of_count: np.ndarray,
    starts: np.ndarray,
    stops: np.ndarray,
    ids: np.ndarray,
    bins: np.ndarray,
) -> None:
    longest = 0
    for i in range(first, last):
        longest = max(longest, indptr[i + 1] - indptr[i])
    value = np.empty(longest, np.float64)
    bits = value.view(np.int64)
    high, low = np.empty(longest, np.int64), np.empty(longest, np.int64)
    other_high, other_low = np.empty(longest, np.int64), np.empty(longest, np.int64)
    for i in range(first, last):
        m = 0
        for at in range(indptr[i], indptr[i + 1]):
            gene, count = indices[at], counts[at]
            if count > 0 and tokens[gene] >= 0:
                value[m] = count / medians[gene]
                high[m] = -((bits[m] + 0x800) & ~0xFFF)
                low[m] = ((_TOP - count) << 32) | tokens[gene]
                m += 1
        _sort(high, low, other_high, other_low, m)
        start = starts[i]
        for at in range(min(m, stops[i] - start)):
            ids[start + at] = low[at] & _LOW
            bins[start + at] = bin_of_count[min(_TOP - (low[at] >> 32), len(bin_of_count) - 1)]


@compiled(parallel=True)
def _rank(
    indptr: np.ndarray,
    indices: np.ndarray,
    counts: np.ndarray,
    tokens: np.ndarray,
    medians: np.ndarray,
    bin_of_count: np.ndarray,
    starts: np.ndarray,
    stops: np.ndarray,
    ids: np.ndarray,
    bins: np.ndarray,
) -> None:
    """The parallel loop only: numba takes long to compile a parallel function, and longer the more is in it."""
    n = len(indptr) - 1
    for task in numba.prange((n + _ROWS_A_TASK - 1) // _ROWS_A_TASK):
        first = task * _ROWS_A_TASK
        last = min(first + _ROWS_A_TASK, n)
        _rank_rows(first, last, indptr, indices, counts, tokens, medians, bin_of_count, starts, stops, ids, bins)
