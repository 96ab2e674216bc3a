"""Gene medians: what a gene's expression is where it is found at all, so that ranks show what is unusual in a cell.

As in Geneformer (Theodoris et al. 2023): the median of the non-zero values after size normalisation, over a corpus.
Normalised values go into fixed logarithmic bins, so that any number of sections is read once, in bounded memory, and
the result does not depend on their order.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from stplm.compiled import compiled
from stplm.errors import GeneError
from stplm.io.staged import staged_file
from stplm.paths import resource
from stplm.progress import Progress, no_progress
from stplm.tokens.counts import count_blocks
from stplm.tokens.vocabulary import gene_ids

if TYPE_CHECKING:
    from anndata import AnnData

MEDIAN_TABLES = ("breast", "colon", "lung")
"""Shipped tables: breast is ours (see resources/medians/README.md), colon and lung are the STPLM reference figures."""

TARGET_SUM = 10_000.0
_LOWEST, _STEP = 1e-6, 0.004
"""Of a cell's total: the lowest share that is told apart, and the width of a bin of shares in ln."""
_BINS = int(np.ceil(-np.log(_LOWEST) / _STEP))


def load_medians(name: str | Path | Mapping[str, float] | pd.Series) -> pd.Series:
    """Gene medians: float64 Series, index Ensembl id.

    Parameters
    ----------
    name
        ``"breast"``, ``"colon"``, ``"lung"``, the path of a CSV with columns ``ensembl_id`` and ``median``, or the
        figures themselves by Ensembl id.

    Raises
    ------
    GeneError
        When the table is unknown, lacks the columns, or a median is not above 0.
    """
    if isinstance(name, (Mapping, pd.Series)):
        return _checked(pd.Series(name, dtype=np.float64), "medians")
    if name in MEDIAN_TABLES:
        return _shipped(str(name)).copy()
    path = Path(name)
    if not path.is_file():
        raise GeneError(
            f"There is no median table {str(name)!r}.",
            expected=f"{', '.join(MEDIAN_TABLES)}, or the path of a CSV file",
            mend="Compute one with `stplm medians`.",
        )
    return _read(path)


def compute_medians(
    tables: Iterable[AnnData],
    *,
    target_sum: float = TARGET_SUM,
    min_counts: int = 10,
    progress: Progress = no_progress,
) -> pd.DataFrame:
    """Median of each gene's non-zero values after size normalisation (count / cell's total counts * target_sum).

    Parameters
    ----------
    tables
        Cell tables with integer counts; read one after the other, so a generator keeps one in memory. They should be
        of one panel: a cell's total, hence the figures, depends on the genes that were measured.
    target_sum
        What each cell's counts are scaled to.
    min_counts
        Cells below are left out: one count in three is no measurement.
    progress
        Called with cells done and cells known so far.

    Returns
    -------
    DataFrame, index ``ensembl_id`` sorted, columns ``median`` (float64; within 0.2 %) and ``n_cells`` (int64: cells
    with the gene). Genes seen in no cell, and genes without an Ensembl id, are left out.

    Raises
    ------
    GeneError
        When a table's genes match nothing, or no gene was counted at all.
    SectionError
        When counts are not whole numbers.
    """
    histograms: dict[str, np.ndarray] = {}
    done = 0
    for table in tables:
        ids = gene_ids(table)
        counted = np.zeros((len(ids), _BINS), dtype=np.int64)
        for block in count_blocks(table):
            csr = block.counts
            _count(csr.indptr, csr.indices, csr.data, max(min_counts, 1), counted)
            progress(done + block.stop, done + table.n_obs)
        done += table.n_obs
        for gene, row in zip(ids, counted, strict=True):
            if gene and row.any():
                histograms[gene] = histograms[gene] + row if gene in histograms else row.copy()
    if not histograms:
        raise GeneError("No gene was counted in any cell.", expected=f"cells with at least {min_counts} counts")
    genes = sorted(histograms)
    return pd.DataFrame(
        {
            "median": [target_sum * _middle(histograms[gene]) for gene in genes],
            "n_cells": [int(histograms[gene].sum()) for gene in genes],
        },
        index=pd.Index(genes, name="ensembl_id"),
    )


def write_medians(medians: pd.DataFrame, path: str | Path) -> None:
    """Write :func:`compute_medians`'s result as CSV, which :func:`load_medians` reads. Raises ExportError."""
    with staged_file(path) as part:
        medians.round({"median": 4}).to_csv(part, lineterminator="\n")


def choose_medians(ids: Iterable[str]) -> tuple[str, pd.Series]:
    """The shipped table for a panel: name and figures. It is a function of the panel alone, never of the cells.

    The table that knows most of the genes, breast before colon before lung; when none knows half of them, the name is
    "flat" and the Series empty: ranks then follow the counts.
    """
    genes = {gene for gene in ids if gene}
    best = max(MEDIAN_TABLES, key=lambda name: len(genes.intersection(_shipped(name).index)))
    if 2 * len(genes.intersection(_shipped(best).index)) < len(genes):
        return "flat", pd.Series(dtype=np.float64)
    return best, load_medians(best)


def medians_of(ids: np.ndarray, medians: pd.Series) -> np.ndarray:
    """The median of each gene, float64 of shape (n_genes,).

    Genes that the table lacks get the median of those it has, which neither lifts nor buries them.
    """
    figures = medians.reindex(ids).to_numpy(dtype=np.float64)
    known = figures[np.isfinite(figures)]
    figures[~np.isfinite(figures)] = np.median(known) if len(known) else 1.0
    return figures


@functools.cache
def _shipped(name: str) -> pd.Series:
    return _read(resource(f"medians/{name}.csv"))


def _read(path: Path) -> pd.Series:
    try:
        table = pd.read_csv(path)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise GeneError("This median table is not a CSV file.", where=path, found=str(error)) from error
    if not {"ensembl_id", "median"} <= set(table.columns):
        raise GeneError(
            "This median table lacks columns.",
            where=path,
            found=", ".join(map(str, table.columns)),
            expected="ensembl_id, median",
        )
    return _checked(table.set_index("ensembl_id")["median"], path)


def _checked(medians: pd.Series, where: str | Path) -> pd.Series:
    figures = pd.to_numeric(medians, errors="coerce").astype(np.float64)
    bad = medians[~(np.isfinite(figures) & (figures > 0))]
    if len(bad):
        found = f"{bad.iloc[0]} for {bad.index[0]}"
        raise GeneError("A gene median must be above 0.", where=where, found=found)
    return figures[~figures.index.duplicated()]


def _middle(histogram: np.ndarray) -> float:
    """Median share: the middle (in ln) of its bin, or the mean of the two middle values' bins."""
    cumulative = np.cumsum(histogram)
    total = int(cumulative[-1])
    two = np.searchsorted(cumulative, [(total - 1) // 2 + 1, total // 2 + 1])
    return float(_LOWEST * np.exp((two + 0.5) * _STEP).mean())


@compiled()
def _count(
    indptr: np.ndarray,
    indices: np.ndarray,
    data: np.ndarray,
    min_counts: int,
    counted: np.ndarray,
) -> None:
    for cell in range(len(indptr) - 1):
        total = 0.0
        for at in range(indptr[cell], indptr[cell + 1]):
            total += data[at]
        if total < min_counts:
            continue
        for at in range(indptr[cell], indptr[cell + 1]):
            if data[at] > 0:
                place = int(np.log(data[at] / total / _LOWEST) / _STEP)
                counted[indices[at], min(max(place, 0), _BINS - 1)] += 1
