"""The linear part of the few-shot head, apart from what corrects it: for fitting it, and for scoring it on held-out
labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from stplm.tasks.labels import few_labels
from stplm.tasks.linear import fit_logistic
from stplm.tasks.outcome import softmax

if TYPE_CHECKING:
    from stplm.tasks.unlabelled import Joined

Rows: TypeAlias = NDArray[np.floating]
Heads: TypeAlias = Sequence[NDArray[np.int64]]
_PENALTY, PENALTY_FEW = 0.2, 1.0
"""Inverse strength of the head's penalty (scikit-learn's C), and with few labels. The firmer one was better on five
labelled data sets with 10, 50 and all labels a class, and no better with 1 or 5."""
_SHARPEN = 1.5
_PENALTY_MANY, _MANY = 1.0, 200
"""What the penalty may give way to, from ``_MANY`` labels a class on: see :func:`held_out_penalty`."""
_CLEARLY = 0.02
_HELD_OUT = 500
_TOLERANCE = 1e-3
"""Where each of several heads stops. Fits to 1e-4, as of a single head, took twice as long and called no better."""


def fit_linear(
    design: Rows,
    codes: NDArray[np.int64],
    n_classes: int,
    *,
    sharp: float = 1.0,
    penalty: float | None = None,
    heads: Heads | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Multinomial logistic regression: coefficients (n_classes, n_features) and bias (n_classes,) of what cells say by
    themselves, as if all classes were equally common.

    Each label weighs the same, and the labels' own shares are taken out of the bias afterwards. To let classes weigh
    the same instead would have those with few labels bend the head to these (measured: see docs/benchmarks.md). It is
    done where labels are few altogether; with as many labels of each class the two are one.

    Parameters
    ----------
    sharp
        Multiplies what is learnt (:func:`sharpness`), but not the labels' shares.
    penalty
        By default that for so many labels.
    heads
        The columns that each of several heads sees (:meth:`stplm.tasks.design.Design.heads`), of which the mean is
        taken; by default one that sees all.
    """
    few = few_labels(len(codes), n_classes)
    penalty = penalty or (PENALTY_FEW if few else _PENALTY)
    coefficients, bias = _mean_fit(design, codes, n_classes, heads, penalty=penalty, balanced=few)
    return coefficients * sharp, bias * sharp - _label_shares(codes, n_classes)


def heads_of_fit(heads: Heads, fit: int, rounds: int) -> Heads:
    """Whose mean is taken in the fit to the labels (``fit`` 0) and in those after cells joined (1 to ``rounds``).

    Of all, in the last: the fits before it only say which cells join, and a click waits for them.
    """
    return heads if fit == rounds else heads[:1]


def held_out_penalty(
    design: Rows, codes: NDArray[np.int64], n_classes: int, fade: NDArray[np.float64], *, seed: int = 0
) -> float | None:
    """The penalty for many labels; None for that of :func:`fit_linear`.

    Classes that differ by many genes a little (fifteen kinds of blood cells at ten counts a cell) need a weaker one. It
    is taken where labels that were held out are more probable under it by ``_CLEARLY`` nats a cell; ``fade`` (n,) is
    how far each cell's counts are evidence.
    """
    if len(codes) < _MANY * n_classes:
        return None
    order = np.random.default_rng(seed).permutation(len(codes))[: 3 * _HELD_OUT]
    learn, held = order[_HELD_OUT:], order[:_HELD_OUT]
    if len(found := np.unique(codes[learn])) < 2:
        return None
    held = held[np.isin(codes[held], found)]
    at = np.searchsorted(found, codes[held])
    loss = []
    for penalty in (_PENALTY, _PENALTY_MANY):
        coefficients, bias = fit_logistic(
            design[learn], np.searchsorted(found, codes[learn]), len(found), penalty=penalty
        )
        proba = softmax((design[held] @ coefficients.T + bias) * fade[held, None])
        loss.append(-np.log(proba[np.arange(len(held)), at]).mean())
    return _PENALTY_MANY if loss[1] < loss[0] - _CLEARLY else None


def fit_joined(
    design: Rows,
    codes: NDArray[np.int64],
    n_classes: int,
    unlabelled: Rows,
    joined: Joined,
    *,
    sharp: float = 1.0,
    heads: Heads | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The same on labels and what joined them, always with the firmer penalty; ``unlabelled`` (m, n_features) are the
    joined cells' rows."""
    coefficients, bias = _mean_fit(
        np.vstack([design, unlabelled]),
        np.concatenate([codes, joined.codes]),
        n_classes,
        heads,
        penalty=_PENALTY,
        weights=np.concatenate([joined.label_weights, joined.weights]),
    )
    return coefficients * sharp, bias * sharp - _label_shares(codes, n_classes)


def _mean_fit(
    design: Rows, codes: NDArray[np.int64], n_classes: int, heads: Heads | None, **how: Any
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The mean of heads that see some of the columns each: again a linear head."""
    if heads is None:
        return fit_logistic(design, codes, n_classes, **how)
    coefficients, bias = np.zeros((n_classes, design.shape[1])), np.zeros(n_classes)
    for columns in heads:
        # The mean of several varies less than where each of them stops.
        found, offset = fit_logistic(design[:, columns], codes, n_classes, tolerance=_TOLERANCE, **how)
        coefficients[:, columns] += found / len(heads)
        bias += offset / len(heads)
    return coefficients, bias


def _label_shares(codes: NDArray[np.int64], n_classes: int) -> NDArray[np.float64]:
    """(n_classes,) log of the classes' shares among the labels, 0 where they are even or do not count."""
    if few_labels(len(codes), n_classes):
        return np.zeros(n_classes)
    return np.asarray(np.log(np.bincount(codes, minlength=n_classes) * n_classes / len(codes)))


def typical_labels(counts: NDArray[np.int64]) -> float:
    """Labels of a typical class (their geometric mean), of labels a class (n_classes,)."""
    return float(np.exp(np.log(counts).mean()))


def sharpness(typical: float) -> float:
    """What logits are multiplied by: those of a regularised head trained on few labels are too flat."""
    return float(1.0 + _SHARPEN / np.sqrt(typical))
