"""The linear part of the few-shot head, apart from what corrects it: for fitting it, and for scoring it on held-out
labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stplm.tasks.linear import fit_logistic

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stplm.tasks.features import Features
    from stplm.tasks.unlabelled import Joined

_PENALTY, _PENALTY_FEW, _ENOUGH = 0.2, 1.0, 10
"""Inverse strength of the head's penalty (scikit-learn's C), from ``_ENOUGH`` labels a class on and below. The firmer
one was better on five labelled data sets with 10, 50 and all labels, and no better with 1 or 5."""
_SHARPEN = 1.5


def design_matrix(features: Features, mean: NDArray[np.float64], scale: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, n_features) what the head looks at: the dense blocks, scaled, beside the genes' levels."""
    return np.hstack([(features.dense() - mean) / scale, features.level.toarray().astype(np.float64)])


def fit_linear(
    design: NDArray[np.float64], codes: NDArray[np.int64], n_classes: int, *, firm: bool = True
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Balanced multinomial logistic regression: coefficients (n_classes, n_features) and bias (n_classes,)."""
    penalty = _PENALTY if firm and len(codes) >= _ENOUGH * n_classes else _PENALTY_FEW
    return fit_logistic(design, codes, n_classes, penalty=penalty, balanced=True)


def fit_joined(
    design: NDArray[np.float64],
    codes: NDArray[np.int64],
    n_classes: int,
    unlabelled: NDArray[np.float64],
    joined: Joined,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The same on labels and what joined them, always with the firmer penalty; ``unlabelled`` (m, n_features) are the
    joined cells' rows."""
    return fit_logistic(
        np.vstack([design, unlabelled]),
        np.concatenate([codes, joined.codes]),
        n_classes,
        penalty=_PENALTY,
        weights=np.concatenate([joined.label_weights, joined.weights]),
    )


def typical_labels(counts: NDArray[np.int64]) -> float:
    """Labels of a typical class (their geometric mean), of labels a class (n_classes,)."""
    return float(np.exp(np.log(counts).mean()))


def sharpness(typical: float) -> float:
    """What logits are multiplied by: those of a regularised head trained on few labels are too flat."""
    return float(1.0 + _SHARPEN / np.sqrt(typical))
