"""Seed labels without a click: a few confident cells per class, found with reference profiles."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stplm import keys
from stplm.errors import GeneError, LabelError
from stplm.io.cell_table import counts_matrix
from stplm.tasks.profiles import MIN_GENES, Profiles, load_profiles, log_likelihood_ratios

if TYPE_CHECKING:
    from anndata import AnnData
    from scipy.sparse import csr_matrix
    from spatialdata import SpatialData

MIN_SEED_COUNTS = 40
"""A cell under this many counts is never a seed."""
MIN_SHARE = 0.999
"""A class's posterior share, at a depth of ``_DEPTH`` counts, that a seed must reach."""
_DEPTH = 60.0
MIN_CLASSES = 0.5
"""Share of the profiles' classes that must have clear cells. Measured with the breast profiles: 9 to 12 of 12 classes
in breast sections of 300 cells and more, 3 of 12 in bone marrow, where nearly every cell was then called a B cell."""
_FEWEST_CLEAR = 3
"""Fewer clear cells of a class may be chance."""


def seed_labels(
    table: AnnData | SpatialData, profiles: str | Path = "breast", *, per_class: int = 20, seed: int = 0
) -> pd.Series:
    """Label the cells that fit one reference profile far better than all others.

    A start where nobody has labelled yet, not a truth: say so wherever the result is shown.

    Parameters
    ----------
    table
        A section or its cell table.
    profiles
        Name of shipped profiles, or a CSV file (:func:`stplm.tasks.profiles.load_profiles`).
    per_class
        At most this many seeds a class, drawn with ``seed`` from its clearest cells so that they are not all alike.

    Returns
    -------
    Series of class names by cell id, None where a cell is no seed. Classes with under three clear cells are left out.

    Raises
    ------
    GeneError
        When the section shares fewer than 50 genes with the profiles.
    LabelError
        When fewer than half of the profiles' classes have clear cells: the tissue is another, or the cells are faint.
    """
    from stplm.io.groups import as_table
    from stplm.tasks.cells import table_genes

    table = as_table(table)
    seeds = SeedSearch(load_profiles(profiles), table_genes(table))
    best, margin = seeds.look(counts_matrix(table))
    labels = seeds.draw(best, margin, per_class, seed)
    return pd.Series(labels, index=table.obs_names, name=keys.CLASS, dtype=object)


class SeedSearch:
    """The two halves of :func:`seed_labels`, for whoever has the counts in pieces. Raises GeneError as it does.

    ``genes`` (n_genes,): Ensembl id of each column of the counts.
    """

    def __init__(self, reference: Profiles, genes: NDArray[np.str_]) -> None:
        self.reference = reference
        self._columns, self._log_ratio = reference.restrict(genes)
        if len(self._columns) == 0:
            raise _no_fit(reference)

    def look(self, counts: csr_matrix) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Of each cell: the class it fits best (n,), and by how much better than the next (n,); -inf of faint cells.

        ``counts`` float32 CSR (n, n_genes).
        """
        counts = counts[:, self._columns]
        depth = np.asarray(counts.sum(1)).ravel()
        # At equal depth, a margin means the same for a large cell as for a small one.
        score = log_likelihood_ratios(counts, self._log_ratio)
        score *= np.minimum(1.0, _DEPTH / np.maximum(depth, 1))[:, None]
        second = np.partition(score, -2, axis=1)[:, -2]
        return score.argmax(1), np.where(depth >= MIN_SEED_COUNTS, score.max(1) - second, -np.inf)

    def draw(
        self, best: NDArray[np.integer], margin: NDArray[np.float64], per_class: int = 20, seed: int = 0
    ) -> NDArray[np.object_]:
        """Class names of the seeds among all cells, None elsewhere (n,). Raises LabelError."""
        random = np.random.default_rng(seed)
        labels = np.full(len(best), None, dtype=object)
        found: list[str] = []
        for k, name in enumerate(self.reference.classes):
            clear = np.flatnonzero((best == k) & (margin > np.log(MIN_SHARE / (1 - MIN_SHARE))))
            clear = clear[np.argsort(-margin[clear], kind="stable")][: max(3 * per_class, len(clear) // 3)]
            if len(clear) >= _FEWEST_CLEAR:
                found.append(f"{name} ({len(clear):,})")
                labels[random.choice(clear, min(per_class, len(clear)), replace=False)] = name
        if len(found) < MIN_CLASSES * len(self.reference.classes):
            raise _too_few(self.reference, found, len(self._columns))
        return labels


def _no_fit(reference: Profiles) -> GeneError:
    return GeneError(
        "The reference profiles do not fit this panel.",
        found=f"fewer than {MIN_GENES} of the {len(reference.genes)} profile genes in the section",
        mend="Label some cells by hand, or give profiles for this panel.",
    )


def _too_few(reference: Profiles, found: list[str], n_genes: int) -> LabelError:
    return LabelError(
        f"The reference profiles {reference.name!r} do not fit these cells: every cell would be called by the few "
        "classes that were found.",
        found=f"clear cells of {len(found)} of {len(reference.classes)} classes: {', '.join(found) or 'none'}; "
        f"{n_genes} genes in common",
        expected=f"clear cells ({MIN_SEED_COUNTS} counts or more) of half of the classes",
        mend="Label some cells by hand, or give profiles for this tissue.",
    )
