"""Build ``resources/profiles/breast.csv``: ``python scripts/build_profiles.py ../shared/data``.

A reference profile says how the counts of a cell of one class spread over the genes. These are measured, not borrowed:
cells of a Xenium breast section that show several of the class's textbook markers (``breast_markers.csv`` beside the
result) and clearly more of them than of any other class's, pooled. Cells of the labelled regions are left out, and no
label is read, so that scores on labelled cells stay honest.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

ROOT = Path(__file__).parents[1] / "resources" / "profiles"
MIN_COUNTS = 30
SCORE, MARGIN, MARKERS = 0.6, 0.4, 3
"""A seed's mean marker z-score, its lead over the next class, and how many of the markers it shows at least."""
BACKGROUND = 0.05
"""Share of the section's mean profile mixed into each class while seeds are checked: transcripts spill over."""
ROUNDS = 3
PER = 10_000


def pooled_profiles(counts: np.ndarray, genes: list[str], markers: pd.DataFrame) -> tuple[pd.DataFrame, pd.Series]:
    """Fractions (classes x genes) and the number of seed cells per class, from counts (cells, genes)."""
    column = {gene: i for i, gene in enumerate(genes)}
    sets = {
        name: [column[g] for g in part["gene"] if g in column] for name, part in markers.groupby("class", sort=False)
    }
    total = counts.sum(axis=1, keepdims=True)
    logs = np.log1p(100 * counts / total)
    z = np.clip((logs - logs.mean(axis=0)) / np.maximum(logs.std(axis=0), 1e-6), -3, 5)
    score = np.column_stack([z[:, index].mean(axis=1) for index in sets.values()])
    shown = np.column_stack([(counts[:, index] > 0).sum(axis=1) for index in sets.values()])
    winner = score.argmax(axis=1)
    ordered = np.sort(score, axis=1)
    seed = (ordered[:, -1] > SCORE) & (ordered[:, -1] - ordered[:, -2] > MARGIN)
    seed &= shown[np.arange(len(winner)), winner] >= MARKERS
    mean = counts.sum(axis=0) / counts.sum()
    for _ in range(ROUNDS):
        profiles = np.stack([counts[seed & (winner == k)].sum(axis=0) for k in range(len(sets))])
        profiles = profiles / profiles.sum(axis=1, keepdims=True)
        size = np.bincount(winner[seed], minlength=len(sets))
        # Seeds whose whole transcriptome speaks for another class (multinomial likelihood) are dropped.
        likelihood = counts @ np.log((1 - BACKGROUND) * profiles + BACKGROUND * mean).T + np.log(size + 10)
        seed &= likelihood.argmax(axis=1) == winner
    return pd.DataFrame(profiles, index=list(sets), columns=genes), pd.Series(size, index=list(sets))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shared", type=Path, help="folder with xenium_breast_34k")
    parser.add_argument("--target", type=Path, default=ROOT / "breast.csv")
    options = parser.parse_args()
    section = ad.read_h5ad(options.shared / "xenium_breast_34k" / "rep1_34451.h5ad")
    held_out = section.obs["in_17k_region"].astype(bool) | section.obs["in_small_labelled_region"].astype(bool)
    counts = csr_matrix(section.X)[~held_out.to_numpy()].toarray().astype(np.float64)
    counts = counts[counts.sum(axis=1) >= MIN_COUNTS]
    profiles, size = pooled_profiles(counts, list(section.var_names), pd.read_csv(ROOT / "breast_markers.csv"))
    table = np.log1p(profiles * PER).round(4)
    table.index.name = "class"
    table.to_csv(options.target)
    print(size.to_string())


if __name__ == "__main__":
    main()
