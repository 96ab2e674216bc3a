"""Multinomial logistic regression, the start of every head."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stplm.kernels import one_thread


def fit_logistic(
    inputs: NDArray[np.float64],
    codes: NDArray[np.int64],
    n_classes: int,
    *,
    penalty: float = 1.0,
    balanced: bool = False,
    weights: NDArray[np.float64] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coefficients (n_classes, n_inputs) and bias (n_classes,), each class with a row, two classes too.

    Parameters
    ----------
    inputs, codes
        (n, n_inputs), and (n,) classes from 0; each class occurs.
    penalty
        Inverse strength of the squared penalty (scikit-learn's C).
    balanced
        Let every class weigh the same, however many cells it has.
    weights
        (n,) of the cells.
    """
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    head = LogisticRegression(C=penalty, max_iter=200, class_weight="balanced" if balanced else None)
    with warnings.catch_warnings(), one_thread():
        # Stopping early is a form of regularisation here, not an error; and fine-tuning goes on from there.
        warnings.simplefilter("ignore", ConvergenceWarning)
        head.fit(inputs, codes, sample_weight=weights)
    if n_classes == 2:  # scikit-learn keeps one row for two classes
        return np.vstack([-head.coef_, head.coef_]) / 2, np.array([-head.intercept_[0], head.intercept_[0]]) / 2
    return head.coef_, head.intercept_
