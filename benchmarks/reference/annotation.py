"""Class calls as scikit-learn users make them: log-normalised counts, logistic regression, ``predict_proba``."""

from __future__ import annotations

import numpy as np
from scipy import sparse
from sklearn.linear_model import LogisticRegression

TARGET = 100.0


def levels(counts: sparse.csr_matrix) -> sparse.csr_matrix:
    """log1p of counts scaled to 100 a cell."""
    totals = np.maximum(np.asarray(counts.sum(axis=1)).ravel(), 1)
    scaled = sparse.diags(TARGET / totals) @ counts
    return sparse.csr_matrix(scaled).log1p()


def fit(counts: sparse.csr_matrix, labels: np.ndarray) -> LogisticRegression:
    """On the labelled cells alone."""
    return LogisticRegression(max_iter=1000).fit(levels(counts), labels)


def predict(model: LogisticRegression, counts: sparse.csr_matrix) -> tuple[np.ndarray, np.ndarray]:
    """Class and confidence of every cell."""
    proba = model.predict_proba(levels(counts))
    best = proba.argmax(axis=1)
    return model.classes_[best], proba[np.arange(len(proba)), best]
