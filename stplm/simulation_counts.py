"""Counts of a simulated section: negative binomial around the class profile, drawn transcript by transcript.

A gene that is expected ``m`` times is a Poisson number of clusters, each of a logarithmic number of transcripts
(Quenouille 1949): together negative binomial with variance ``m + DISPERSION * m²``. Clusters are thinned from
``Poisson(size)`` genes drawn by the class's rates, so that the work is that of the counts and not of cells x genes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix, vstack

from stplm.compiled import compiled
from stplm.random_numbers import mixed, uniform

DISPERSION = 0.3
"""Squared coefficient of variation of a gene's rate between cells of one class."""
CONTROL_RATE = 0.002
"""Mean counts of one negative control probe in one cell, about that of real sections."""
_ROWS = 65_536
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def draw_counts(
    rates: npt.NDArray[np.float64],
    kind: npt.NDArray[np.int64],
    size: npt.NDArray[np.float64],
    controls: int,
    rng: np.random.Generator,
) -> csr_matrix:
    """(cells, genes + controls) int32, sorted rows.

    Parameters
    ----------
    rates
        (classes, genes), each row summing to 1.
    kind, size
        (cells,): class, and expected counts.
    controls
        Control probes, in the columns behind the genes.

    Notes
    -----
    Random numbers belong to a cell, not to a thread: the same on any number of cores.
    """
    return csr_matrix(vstack(list(draw_blocks(rates, kind, size, controls, rng)), format="csr"))


def draw_blocks(
    rates: npt.NDArray[np.float64],
    kind: npt.NDArray[np.int64],
    size: npt.NDArray[np.float64],
    controls: int,
    rng: np.random.Generator,
) -> Iterator[csr_matrix]:
    """The same, one stretch of cells after the other: a few of them are in memory, however many there are."""
    genes = rates.shape[1]
    tried = rng.poisson(size)
    noise = rng.poisson(CONTROL_RATE * controls, len(size))
    seed = np.uint64(rng.integers(2**63))
    share, other = _aliases(rates)

    def draw(start: int) -> csr_matrix:
        stop = min(start + _ROWS, len(kind))
        room = int((tried[start:stop] + noise[start:stop]).sum())
        indices, values = np.empty(room, dtype=np.int32), np.empty(room, dtype=np.int32)
        stored = np.empty(stop - start, dtype=np.int64)
        part = slice(start, stop)
        given = (rates, share, other, kind[part], size[part], tried[part], noise[part])
        used = _draw(*given, genes, controls, seed, start, stored, indices, values)
        indptr = np.zeros(stop - start + 1, dtype=np.int32)
        np.cumsum(stored, out=indptr[1:])
        shape = (stop - start, genes + controls)
        return csr_matrix((values[:used].copy(), indices[:used].copy(), indptr), shape=shape)

    starts, together = range(0, len(kind), _ROWS), os.cpu_count() or 1
    with ThreadPoolExecutor(together) as threads:
        for first in range(0, len(starts), together):
            yield from threads.map(draw, starts[first : first + together])


def _aliases(rates: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int32]]:
    """Of each class, tables (classes, genes) to draw a gene in one step: the alias method (Walker 1977, Vose 1991)."""
    share, other = np.ones(rates.shape), np.zeros(rates.shape, dtype=np.int32)
    for row, rate in enumerate(rates):
        level = rate * len(rate)
        low, high = list(np.flatnonzero(level < 1)), list(np.flatnonzero(level >= 1))
        while low and high:
            small, large = low.pop(), high[-1]
            share[row, small], other[row, small] = level[small], large
            level[large] -= 1 - level[small]
            if level[large] < 1:
                low.append(high.pop())
    return share, other


@compiled(nogil=True)
def _draw(rates, share, other, kind, size, tried, noise, genes, controls, seed, first, stored, indices, values):  # type: ignore[no-untyped-def]
    """Rows of one block into ``indices`` and ``values``, one after another; gives how much of them is used."""
    counted = np.zeros(genes + controls, dtype=np.int32)
    used = 0
    for i in range(len(kind)):
        state = mixed(seed + np.uint64(first + i + 1) * _GOLDEN)
        start, rate = used, rates[kind[i]]
        for n in range(tried[i] + noise[i]):
            value = 1
            if n < tried[i]:
                state, u = uniform(state)
                place = u * genes
                gene = min(int(place), genes - 1)
                if place - gene >= share[kind[i], gene]:
                    gene = other[kind[i], gene]
                over = DISPERSION * size[i] * rate[gene]
                level = np.log1p(over)
                state, u = uniform(state)
                if u * over >= level:
                    continue
                # How many: the logarithmic distribution of p, by its cumulative sum.
                p = over / (1.0 + over)
                state, u = uniform(state)
                chance = p / level
                while u > chance and value < 1000:
                    u -= chance
                    chance *= p * value / (value + 1)
                    value += 1
            else:
                state, u = uniform(state)
                gene = genes + min(int(u * controls), controls - 1)
            if counted[gene] == 0:
                indices[used] = gene
                used += 1
            counted[gene] += value
        row = indices[start:used]
        row.sort()
        for at in range(start, used):
            values[at] = counted[indices[at]]
            counted[indices[at]] = 0
        stored[i] = used - start
    return used
