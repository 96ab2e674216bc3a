"""What held-out cells say of a fine-tuned model: scores, the classes' shares in tissue, how far it can be believed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stplm.evaluation.calibration import expected_calibration_error

if TYPE_CHECKING:
    from stplm.nn.heads import ClassHeads

_CALL = 0.5
_RANGE = (0.3, 5.0)
_DEFAULT_TEMPERATURE = 1.5
"""Without held-out cells; fine-tuned on a few labels, a model is too sure of itself."""

Logs = NDArray[np.floating]


def log_shares(log_proba: Logs, prior: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log of the classes' shares (k,) among cells with ``log_proba`` (n, k) from a model that takes ``prior`` (k,) for
    granted: estimated from these cells, as far as that can be trusted (see ``tasks/classify.py``)."""
    from stplm.tasks.classify import _log_prior

    return _log_prior(np.exp(_normalised(log_proba - np.log(prior))))


def log_shift(log_proba: Logs, prior: NDArray[np.float64]) -> NDArray[np.float64]:
    """What to add to ``log_proba`` (n, k), before normalising, for the classes' shares among these cells, (k,)."""
    return log_shares(log_proba, prior) - np.log(prior)


def held_out_scores(
    log_proba: Logs, codes: NDArray[np.int64], prior: NDArray[np.float64], heads: ClassHeads
) -> dict[str, float]:
    """Scores of held-out cells of the classes ``codes`` (n,), their shares estimated from themselves, unlabelled."""
    proba = np.exp(_normalised(log_proba + log_shift(log_proba, prior)))
    tumour = heads.is_tumour.cpu().numpy()
    return class_scores(codes, proba.argmax(1), proba[:, tumour].sum(1), tumour)


def class_scores(
    codes: NDArray[np.int64], called: NDArray[np.int64], tumour_proba: Logs, tumour: NDArray[np.bool_]
) -> dict[str, float]:
    """Macro-F1, balanced accuracy and, where there is a tumour class, F1 of tumour against the rest."""
    from sklearn.metrics import f1_score, recall_score

    scores = {
        "macro_f1": float(f1_score(codes, called, average="macro", zero_division=0.0)),
        "balanced_accuracy": float(recall_score(codes, called, average="macro", labels=np.unique(codes))),
    }
    if tumour.any():
        scores["tumour_f1"] = float(f1_score(tumour[codes], tumour_proba >= _CALL, zero_division=0.0))
    return scores


def calibrate(
    heads: ClassHeads, log_proba: Logs, codes: NDArray[np.int64], shares: NDArray[np.float64]
) -> dict[str, float]:
    """Fit the temperatures of the two outputs on held-out cells; the calibration errors before and after.

    ``log_proba`` (n, k) are as trained; the heads' shift must be set. Classes count by their ``shares`` (k,) in tissue,
    not in the labels. Without cells, temperatures are set by rule of thumb and nothing is told.
    """
    import torch

    if not len(codes):
        heads.set(temperature=_DEFAULT_TEMPERATURE, tumour_temperature=_DEFAULT_TEMPERATURE)
        return {}
    heads.set(temperature=1.0, tumour_temperature=1.0)
    given = torch.as_tensor(log_proba, dtype=torch.float64)
    shifted = heads.shifted(given)
    before = _errors(heads, given, codes)
    weight = shares[codes] / np.bincount(codes, minlength=len(shares))[codes]
    fitted = _temperature(shifted.numpy(), codes, weight)
    changes = {"temperature": fitted}
    tumour = heads.is_tumour.cpu().numpy()
    if tumour.any():
        odds = heads.tumour_logit(shifted).numpy()
        two = np.stack([-odds / 2, odds / 2], axis=1)
        changes["tumour_temperature"] = _temperature(two, tumour[codes].astype(np.int64), weight)
    heads.set(**changes)
    after = _errors(heads, given, codes)
    return {**{f"{k}_before": v for k, v in before.items()}, **after}


def _errors(heads: ClassHeads, log_proba: object, codes: NDArray[np.int64]) -> dict[str, float]:
    proba, tumour = (p.numpy() for p in heads.calibrated(log_proba))  # type: ignore[arg-type]
    right = proba.argmax(1) == codes
    errors = {"calibration_error": expected_calibration_error(np.clip(proba.max(1), 0, 1), right)}
    is_tumour = heads.is_tumour.cpu().numpy()
    if is_tumour.any():
        sure = np.clip(np.maximum(tumour, 1 - tumour), 0, 1)
        errors["tumour_calibration_error"] = expected_calibration_error(sure, (tumour >= _CALL) == is_tumour[codes])
    return errors


def _temperature(logits: Logs, codes: NDArray[np.int64], weight: NDArray[np.float64]) -> float:
    """What to divide ``logits`` (n, k) by so that the classes ``codes`` are most likely."""
    from scipy.optimize import minimize_scalar

    def loss(log_temperature: float) -> float:
        scaled = _normalised(logits / np.exp(log_temperature))
        return float(-(weight * scaled[np.arange(len(codes)), codes]).sum() / weight.sum())

    bounds = (float(np.log(_RANGE[0])), float(np.log(_RANGE[1])))
    return float(np.exp(minimize_scalar(loss, bounds=bounds, method="bounded").x))


def _normalised(logs: Logs) -> NDArray[np.float64]:
    """Rows of log-probabilities that add up to 1."""
    high = np.maximum(np.asarray(logs, dtype=np.float64), -60.0)
    high = high - high.max(1, keepdims=True)
    return np.asarray(high - np.log(np.exp(high).sum(1, keepdims=True)))
