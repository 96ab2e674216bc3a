"""The classes' shares in a section: how common each is, from its unlabelled cells, and how much that may count.

By expectation maximisation (Saerens et al., 2002), as far as the cells are told apart at all.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Shares = Literal["fitted", "section"]
"""Whose class shares a prediction takes for granted: those of the section learnt from, or those estimated anew from the
cells that are called."""

_CELLS = 20_000
"""Shares are estimated from at most about this many cells."""
_SMOOTHING = 0.05
_TRUSTED, _DISTRUSTED = 0.88, 0.65


def share_sample(cells: NDArray[Any]) -> NDArray[Any]:
    """Evenly spaced rows of (n, ...) ``cells``, enough to estimate shares from."""
    return cells[:: -(-len(cells) // _CELLS) or 1]


def log_prior(balanced: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log of the classes' shares, as far as they can be known from posteriors under equal shares (n, n_classes).

    Shares are estimated well only where cells are told apart well. Where the head is unsure of most cells (one label a
    class, classes much alike, a panel that the model hardly knows), shares estimated from its posteriors would carry
    its errors over to every cell, so they are drawn towards equal: not at all at a mean certainty of ``_TRUSTED`` (0
    is a guess, 1 is sure), fully at ``_DISTRUSTED``. Both were set on four data sets at 1 to 50 labels a class.
    """
    k = balanced.shape[1]
    certainty = (balanced.max(1).mean() - 1 / k) / (1 - 1 / k)
    trust = float(np.clip((certainty - _DISTRUSTED) / (_TRUSTED - _DISTRUSTED), 0.0, 1.0))
    drawn = trust * np.log(_class_shares(balanced, trust))
    return np.asarray(drawn - np.log(np.exp(drawn).sum()))


def _class_shares(balanced: NDArray[np.float64], trust: float, iterations: int = 200) -> NDArray[np.float64]:
    """Shares of the classes by expectation maximisation, the prior raised to ``trust`` in each step."""
    n, k = balanced.shape
    shares = np.full(k, 1.0 / k)
    for _ in range(iterations):
        posterior = balanced * shares**trust
        posterior /= posterior.sum(1, keepdims=True)
        updated = (posterior.sum(0) + 1.0 + _SMOOTHING * n / k) / (n + k + _SMOOTHING * n)
        if np.abs(updated - shares).max() < 1e-6:
            break
        shares = updated
    return shares
