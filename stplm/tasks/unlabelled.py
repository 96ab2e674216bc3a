"""What a section's unlabelled cells teach a head: self-training, a few labels at a time.

A handful of labels shows a few corners of each class. The first head calls the section's cells; some of each class join
the labels under the names they were given, and a second head is fitted on both (pseudo-labels: Scudder, 1965; Lee,
2013). Left alone, that goes wrong in two ways, which the weights here prevent:

- A class that is common, or called too often, would grow at each round. So the classes weigh as their labels do
  (the same where labels are few), however many cells were called each, and a cell counts by how probable its class is.
- A head would sooner believe itself than a person. So the cells that joined a class weigh at most ``_TIMES`` as much
  as its labels, and never more than ``_AT_MOST`` labels: with hundreds of labels a class they hardly count.

The second head is a linear one like the first: predicting costs the same, and what a cell is called still depends on
that cell alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stplm.tasks.labels import few_labels

_ROUNDS = 2
"""A third round changed nothing (measured)."""
_CELLS_EACH = 150
_TIMES, _AT_MOST = 2.0, 20.0
_ENOUGH = 200


def rounds(n_labels: int, n_classes: int) -> int:
    """How often to call the section and fit again: not at all where there are so many labels that it cannot help."""
    return _ROUNDS if n_labels < _ENOUGH * n_classes else 0


@dataclass(frozen=True)
class Joined:
    """Cells that join the labels: ``cells`` int64 (m,), rows of what was called; ``codes`` int64 (m,) their classes;
    ``label_weights`` (l,) and ``weights`` (m,) float64, which together add up to the number of labels."""

    cells: NDArray[np.int64]
    codes: NDArray[np.int64]
    label_weights: NDArray[np.float64]
    weights: NDArray[np.float64]


def join_cells(
    proba: NDArray[np.floating], candidates: NDArray[np.bool_], label_codes: NDArray[np.int64], *, seed: int = 0
) -> Joined:
    """Draw the cells that join the labels.

    Parameters
    ----------
    proba
        (n, n_classes) the first head's probabilities of the section's cells.
    candidates
        (n,) which of them may join: those without a label of their own.
    label_codes
        (l,) classes of the labelled cells; each class occurs.
    seed
        Of the draw. The same input and seed give the same cells.
    """
    k = proba.shape[1]
    random = np.random.default_rng(seed)
    called = np.where(candidates, proba.argmax(1), -1)
    drawn = []
    for code in range(k):
        cells = np.flatnonzero(called == code)
        drawn.append(np.sort(random.choice(cells, min(len(cells), _CELLS_EACH), replace=False)))
    cells = np.concatenate(drawn)
    codes = np.repeat(np.arange(k), [len(some) for some in drawn])
    labels = np.bincount(label_codes, minlength=k)
    weights = proba[cells, codes].astype(np.float64)
    weights *= min(_TIMES, _AT_MOST / labels.mean()) / np.bincount(codes, weights, minlength=k)[codes]
    # The same for a class that no cell was called.
    wanted = np.full(k, labels.mean()) if few_labels(len(label_codes), k) else labels
    scale = wanted / (1.0 + np.bincount(codes, weights, minlength=k))
    return Joined(cells, codes, (scale / labels)[label_codes], weights * scale[codes])
