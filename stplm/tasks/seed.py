"""Seed labels without a click: a few confident cells per class, found with reference profiles."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from stplm import keys
from stplm.errors import GeneError, LabelError
from stplm.io.cell_table import counts_matrix
from stplm.tasks.profiles import MIN_GENES, load_profiles, log_likelihood_ratios

if TYPE_CHECKING:
    from anndata import AnnData
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
    reference = load_profiles(profiles)
    columns, log_ratio = reference.restrict(table_genes(table))
    if len(columns) == 0:
        raise GeneError(
            "The reference profiles do not fit this panel.",
            found=f"fewer than {MIN_GENES} of the {len(reference.genes)} profile genes in the section",
            mend="Label some cells by hand, or give profiles for this panel.",
        )
    counts = counts_matrix(table)[:, columns]
    depth = np.asarray(counts.sum(1)).ravel()
    # At equal depth, a margin means the same for a large cell as for a small one.
    score = log_likelihood_ratios(counts, log_ratio) * np.minimum(1.0, _DEPTH / np.maximum(depth, 1))[:, None]
    best = score.argmax(1)
    second = np.partition(score, -2, axis=1)[:, -2]
    margin = np.where(depth >= MIN_SEED_COUNTS, score.max(1) - second, -np.inf)
    random = np.random.default_rng(seed)
    labels = np.full(table.n_obs, None, dtype=object)
    found: list[str] = []
    for k, name in enumerate(reference.classes):
        clear = np.flatnonzero((best == k) & (margin > np.log(MIN_SHARE / (1 - MIN_SHARE))))
        clear = clear[np.argsort(-margin[clear], kind="stable")][: max(3 * per_class, len(clear) // 3)]
        if len(clear) >= _FEWEST_CLEAR:
            found.append(f"{name} ({len(clear):,})")
            labels[random.choice(clear, min(per_class, len(clear)), replace=False)] = name
    if len(found) < MIN_CLASSES * len(reference.classes):
        raise LabelError(
            f"The reference profiles {reference.name!r} do not fit these cells: every cell would be called by the few "
            "classes that were found.",
            found=f"clear cells of {len(found)} of {len(reference.classes)} classes: {', '.join(found) or 'none'}; "
            f"{len(columns)} genes in common",
            expected=f"clear cells ({MIN_SEED_COUNTS} counts or more) of half of the classes",
            mend="Label some cells by hand, or give profiles for this tissue.",
        )
    return pd.Series(labels, index=table.obs_names, name=keys.CLASS, dtype=object)
