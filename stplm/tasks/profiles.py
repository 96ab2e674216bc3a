"""Reference profiles: the expected share of each gene in the counts of a cell class, and how well a cell fits each."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from stplm.errors import StplmError
from stplm.io.validate import reason
from stplm.paths import resource
from stplm.tokens.vocabulary import gene_places, match_genes

BACKGROUND = 0.05
"""Share of the average profile mixed into each class: transcripts of neighbours end up in a cell."""
MIN_GENES = 50
"""A panel that shares fewer genes than this with the profiles cannot be scored by them."""


@dataclass(frozen=True)
class Profiles:
    """``shares`` float64 (n_classes, n_genes), each row adding up to 1; ``genes`` Ensembl ids of the columns."""

    name: str
    classes: tuple[str, ...]
    genes: tuple[str, ...]
    shares: NDArray[np.float64]

    def restrict(self, genes: NDArray[np.str_]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """For a table's Ensembl ids: the columns that have a profile, and log(share / average share) of each class
        there, (n_classes, n_columns). Both empty when fewer than ``MIN_GENES`` match."""
        places = gene_places(genes, self.genes)
        columns = np.flatnonzero(places >= 0)
        if len(columns) < MIN_GENES:
            return columns[:0], np.zeros((len(self.classes), 0))
        shares = self.shares[:, places[columns]] + 1e-6
        shares = shares / shares.sum(1, keepdims=True)
        average = shares.mean(0)
        return columns, np.log(((1 - BACKGROUND) * shares + BACKGROUND * average) / average)


def log_likelihood_ratios(counts: csr_matrix, log_ratio: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log-likelihood of each cell's counts (n, n_columns) under each class against the average (multinomial)."""
    return np.asarray(counts @ log_ratio.T, dtype=np.float64)


def load_profiles(profiles: str | Path = "breast") -> Profiles:
    """The shipped profiles by name, or a CSV file: first column the class, then a column a gene (symbol or Ensembl id),
    values ln(1 + counts per 10,000 counts).

    Raises StplmError when the file is missing or is not such a table.
    """
    path = Path(profiles) if str(profiles).endswith(".csv") else resource("profiles") / f"{profiles}.csv"
    if not path.is_file():
        raise StplmError("There are no such reference profiles.", where=path, expected="'breast', or a CSV file")
    # A table that was edited meanwhile is read again.
    return _read_profiles(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=8)
def _read_profiles(path: Path, changed_ns: int) -> Profiles:
    try:
        frame = pd.read_csv(path, index_col=0, encoding="utf-8-sig")
    except (OSError, ValueError) as error:  # pandas' own errors and wrong encodings are ValueErrors
        raise StplmError(
            "The reference profiles cannot be read.",
            where=path,
            found=reason(error),
            expected="a CSV file: a row a class, a column a gene",
        ) from error
    try:
        values = np.expm1(frame.to_numpy(dtype=np.float64))
    except ValueError as error:
        raise StplmError(
            "The profile table holds something that is not a number.", where=path, found=str(error)
        ) from error
    ids = match_genes([str(c) for c in frame.columns])
    known = ids != ""
    if known.sum() < MIN_GENES or not np.isfinite(values).all() or (values < 0).any() or len(frame) < 2:
        raise StplmError(
            "These are not reference profiles.",
            where=path,
            found=f"{len(frame)} classes, {int(known.sum())} known genes",
            expected=f"two classes or more, {MIN_GENES} known genes or more, ln(1 + counts per 10,000)",
        )
    values = values[:, known]
    return Profiles(
        path.stem,
        tuple(str(c) for c in frame.index),
        tuple(ids[known]),
        values / np.maximum(values.sum(1, keepdims=True), 1e-12),
    )
