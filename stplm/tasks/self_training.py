"""The whole fit of a few-shot head: to the labels, then to them and the unlabelled cells that join."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from stplm.tasks.head import Heads, fit_joined, fit_linear, heads_of_fit
from stplm.tasks.unlabelled import join_cells

Linear = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Coefficients (n_classes, n_features) and bias (n_classes,)."""


def fit_joining(
    design: NDArray[np.float32],
    codes: NDArray[np.int64],
    n_classes: int,
    *,
    call: Callable[[Linear], NDArray[np.floating]],
    rows: Callable[[NDArray[np.int64]], NDArray[np.float32]],
    candidates: NDArray[np.bool_],
    rounds: int,
    heads: Heads,
    sharp: float,
    penalty: float | None,
    seed: int = 0,
) -> tuple[Linear, int]:
    """The head, and how many cells joined its last fit.

    Where the mean of several heads is taken, other cells are drawn for each of them: means of fits to other samples
    vary less (bagging: Breiman, 1996), and it costs nothing.

    Parameters
    ----------
    design, codes
        Rows (l, n_features) and classes (l,) of the labelled cells.
    call
        Probabilities (n, n_classes) of the section's cells by a head.
    rows
        Rows of some of those cells.
    candidates
        (n,) which of them may join: those without a label.
    rounds
        How often they join (:func:`stplm.tasks.unlabelled.rounds`).
    """
    first, number = heads_of_fit(heads, 0, rounds), 0
    linear = fit_linear(design, codes, n_classes, sharp=sharp, penalty=penalty, heads=first)
    for fit in range(1, rounds + 1):
        proba, seen = call(linear), heads_of_fit(heads, fit, rounds)
        drawn = [join_cells(proba, candidates, codes, seed=seed + i) for i in range(len(seen))]
        if not len(drawn[0].cells):
            break
        fits = [
            fit_joined(design, codes, n_classes, rows(joined.cells), joined, sharp=sharp, heads=[head])
            for joined, head in zip(drawn, seen, strict=True)
        ]
        linear = np.mean([found for found, _ in fits], axis=0), np.mean([bias for _, bias in fits], axis=0)
        number = len(drawn[0].cells)
    return linear, number
