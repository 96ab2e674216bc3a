"""Statistics of a screen, a row a set of genes: against genes of like expression, and against the model's own noise.

- *Matched null.* Whatever is deleted changes something, the more so the more of it there is. So a set is compared with
  sets of other genes that are detected in as many of the cells and as high where they are: two-sided Mann-Whitney test
  of the per-cell values, Benjamini-Hochberg over all sets; effect size is the rank-biserial correlation, from -1 to 1.
- *Noise.* See :mod:`stplm.tasks.perturb_noise`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse, stats

from stplm.tasks.perturb_sets import GeneSets
from stplm.tasks.perturb_store import Store

MEASURED = ("shift", "to_goal", "from_start", "tumour", "own_class")
"""Columns of a variant that are averaged, in the order of the table."""
_BLOCK = 65_536
_SAMPLE = 2000
"""Most cells of a set that go into a test."""
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Expression:
    """How the selected cells express each of the model's genes: ``number`` int64 (m,) of them that do, ``detected``
    float64 (m,) their share, ``level`` float64 (m,) mean count where detected."""

    number: NDArray[np.int64]
    detected: NDArray[np.float64]
    level: NDArray[np.float64]

    @classmethod
    def of(cls, counts: sparse.csr_matrix, cells: NDArray[np.int64]) -> Expression:
        """From the counts (n, m) of a section and the selected cells (rows); a block of them is read at once."""
        there, total = np.zeros((2, counts.shape[1]))
        for start in range(0, len(cells), _BLOCK):
            part = counts[cells[start : start + _BLOCK]]
            there += np.bincount(part.indices, weights=part.data > 0, minlength=part.shape[1])
            total += np.bincount(part.indices, weights=part.data, minlength=part.shape[1])
        level = np.divide(total, there, out=np.zeros_like(total), where=there > 0)
        return cls(there.astype(np.int64), there / max(len(cells), 1), level)

    def nearest(self, gene: int, without: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Other genes, the likest first, by the logarithms of both; those that no cell expresses left out."""
        points = np.stack([np.log(self.detected + 1e-4), np.log(self.level + 1e-2)], axis=1)
        far = np.abs(points - points[gene]).sum(1)
        far[without | (self.detected <= 0)] = np.inf
        far[gene] = np.inf
        order = np.argsort(far, kind="stable")
        likest: NDArray[np.int64] = order[np.isfinite(far[order])]
        return likest


def matched_sets(
    sets: GeneSets, expression: Expression, per_set: int, seed: int, *, near: int = 10
) -> list[list[list[int]]]:
    """For each set, up to ``per_set`` sets of as many other genes: each gene's stand-in is drawn from its ``near``
    likest (for a single gene: its ``per_set`` likest, each once). Genes of the set itself are left out."""
    random = np.random.default_rng(seed)
    found: list[list[list[int]]] = []
    for i in range(len(sets)):
        members = sets.members(i)
        inside = np.zeros(len(expression.detected), dtype=bool)
        inside[members] = True
        if len(members) == 1:
            found.append([[int(g)] for g in expression.nearest(int(members[0]), inside)[:per_set]])
            continue
        pools = [expression.nearest(int(g), inside)[:near] for g in members]
        mine: list[list[int]] = []
        for _ in range(per_set):
            drawn: list[int] = []
            for pool in pools:
                free = [int(g) for g in pool if g not in drawn]
                if free:
                    drawn.append(free[int(random.integers(len(free)))])
            if drawn:
                mine.append(drawn)
        found.append(mine)
    return found


def averages(store: Store, names: Sequence[str]) -> pd.DataFrame:
    """Per set: ``detections`` (variants), ``dose`` (mean share of molecules changed), means of what was measured, and
    ``class: X``, how the probability of each class changed."""
    total: pd.DataFrame | None = None
    for frame in store.variants():
        grouped = frame.drop(columns="cell").groupby("set", sort=True)
        part = grouped.sum().astype(np.float64)
        part["detections"] = grouped.size()
        total = part if total is None else total.add(part, fill_value=0)
    table = pd.DataFrame(index=range(len(names))) if total is None else total.reindex(range(len(names)))
    if "detections" not in table:
        table["detections"] = 0.0
    n = table.pop("detections").fillna(0)
    table = table.div(n.where(n > 0), axis=0)
    classes: pd.DataFrame | None = None
    for frame in store.sums():
        part = frame.set_index("set").astype(np.float64)
        classes = part if classes is None else classes.add(part, fill_value=0)
    if classes is not None and classes.shape[1]:
        table = table.join(classes.reindex(table.index).div(n.where(n > 0), axis=0))
    table.insert(0, "detections", n.astype(np.int64))
    table.insert(0, "genes", list(names))
    return table.rename_axis(None)


def samples(
    store: Store, measure: str, detections: NDArray[np.int64], most: int = _SAMPLE
) -> list[NDArray[np.float64]]:
    """Values of each set, of ``most`` cells or so: a fixed choice of cells, so that a resumed run gives the same."""
    kept: list[list[NDArray[np.float64]]] = [[] for _ in detections]
    share = np.minimum(1.0, most / np.maximum(detections, 1))
    for frame in store.variants(["cell", "set", measure]):
        with np.errstate(over="ignore"):
            draw = (frame["cell"].to_numpy().astype(np.uint64) * _GOLDEN >> np.uint64(11)) / float(1 << 53)
        sets = frame["set"].to_numpy()
        chosen = np.flatnonzero(draw < share[sets])
        sets, values = sets[chosen], frame[measure].to_numpy()[chosen].astype(np.float64)
        order = np.argsort(sets, kind="stable")
        found, first = np.unique(sets[order], return_index=True)
        for i, part in zip(found, np.split(values[order], first[1:]), strict=True):
            kept[i].append(part)
    return [np.concatenate(parts) if parts else np.zeros(0) for parts in kept]


def compare(values: Sequence[NDArray[np.float64]], nulls: Sequence[NDArray[np.float64]]) -> pd.DataFrame:
    """Each set's values against those of its null: ``null`` (mean), ``effect_size``, ``p_value``, ``fdr``. Missing
    where there is nothing to compare."""
    mean, size, p = np.full((3, len(values)), np.nan)
    for i, (mine, other) in enumerate(zip(values, nulls, strict=True)):
        if len(other):
            mean[i] = other.mean()
        if len(mine) < 3 or len(other) < 3:
            continue
        test = stats.mannwhitneyu(mine, other, alternative="two-sided", method="asymptotic")
        size[i], p[i] = 2 * test.statistic / (len(mine) * len(other)) - 1, test.pvalue
    fdr = np.full(len(p), np.nan)
    tested = np.isfinite(p)
    if tested.any():
        fdr[tested] = stats.false_discovery_control(p[tested], method="bh")
    return pd.DataFrame({"null": mean, "effect_size": size, "p_value": p, "fdr": fdr})
