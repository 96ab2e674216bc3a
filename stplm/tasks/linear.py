"""Multinomial logistic regression, the start of every head."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stplm.kernels import one_thread


def fit_logistic(
    inputs: NDArray[np.floating],
    codes: NDArray[np.int64],
    n_classes: int,
    *,
    penalty: float = 1.0,
    balanced: bool = False,
    weights: NDArray[np.float64] | None = None,
    tolerance: float = 1e-4,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coefficients (n_classes, n_inputs) and bias (n_classes,), each class with a row, two classes too.

    Parameters
    ----------
    inputs, codes
        (n, n_inputs) float32 or float64, in which sums are taken, and (n,) classes from 0; each class occurs.
    penalty
        Inverse strength of the squared penalty (scikit-learn's C).
    balanced
        Let every class weigh the same, however many cells it has.
    weights
        (n,) of the cells.
    tolerance
        Largest slope of the loss at which to stop.
    """
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    head = LogisticRegression(C=penalty, max_iter=200, tol=tolerance, class_weight="balanced" if balanced else None)
    with warnings.catch_warnings(), one_thread():
        # Stopping early is a form of regularisation here, not an error; and fine-tuning goes on from there.
        warnings.simplefilter("ignore", ConvergenceWarning)
        head.fit(inputs, codes, sample_weight=weights)
    coefficients, bias = head.coef_.astype(np.float64), head.intercept_.astype(np.float64)
    if n_classes == 2:  # scikit-learn keeps one row for two classes
        return np.vstack([-coefficients, coefficients]) / 2, np.array([-bias[0], bias[0]]) / 2
    return coefficients, bias
