"""What held-out cells say of a fine-tuned model: scores, the classes' shares in tissue, how far it can be believed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stplm.evaluation.calibration import expected_calibration_error
from stplm.tasks.outcome import class_temperature, outcomes, tumour_odds, tumour_temperature
from stplm.tasks.shares import log_prior

if TYPE_CHECKING:
    from stplm.nn.heads import ClassHeads

_CALL = 0.5
_CAUTIOUS = 10.0
_LOWEST = -60.0

Logs = NDArray[np.floating]


def log_shares(log_proba: Logs, prior: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log of the classes' shares (k,) among cells with ``log_proba`` (n, k) from a model that takes ``prior`` (k,) for
    granted: estimated from these cells, as far as that can be trusted (see ``tasks/shares.py``)."""
    return log_prior(np.exp(_normalised(log_proba - np.log(prior))))


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


def outputs(heads: ClassHeads, log_proba: Logs) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The two calibrated outputs from log-probabilities (n, k) as trained: classes (n, k) and tumour (n,), which is the
    sum over the tumour classes."""
    config, tumour = heads.config, heads.is_tumour.cpu().numpy()
    logits = _shifted(heads, log_proba)
    return outcomes(
        logits,
        tumour,
        tumour_logit=tumour_odds(logits, tumour) if tumour.any() and not tumour.all() else None,
        temperature=config.temperature,
        tumour_temperature=config.tumour_temperature,
        scheme=config.scheme,
    )


def class_logits(heads: ClassHeads, log_proba: Logs) -> NDArray[np.float64]:
    """(n, k) class logits, calibrated, from log-probabilities (n, k) as trained; the shares of the classes included."""
    return _shifted(heads, log_proba) / heads.config.temperature


def calibrate(
    heads: ClassHeads, log_proba: Logs, codes: NDArray[np.int64], shares: NDArray[np.float64]
) -> dict[str, float]:
    """Fit the temperatures of the two outputs on held-out cells; the calibration errors before and after.

    ``log_proba`` (n, k) are as trained; the heads' shift must be set. Classes count by their ``shares`` (k,) in tissue,
    not in the labels. Without cells, temperatures are 1: what was measured to be near at 5 labels a class.
    """
    joint = heads.config.scheme == "joint"
    heads.set(temperature=1.0, tumour_temperature=1.0)
    if not len(codes):
        return {}
    before = _errors(heads, log_proba, codes)
    weight = shares[codes] / np.bincount(codes, minlength=len(shares))[codes]
    logits, tumour = _shifted(heads, log_proba), heads.is_tumour.cpu().numpy()
    both = tumour.any() and not tumour.all()
    if both and not joint:
        # The other side's classes are the tumour output's to rule out.
        within = np.where(tumour[codes][:, None] == tumour, logits, _LOWEST)
        temperature = class_temperature(within, codes, weight, cautious=_CAUTIOUS)
        odds = tumour_odds(logits, tumour)
    else:
        temperature = class_temperature(logits, codes, weight, cautious=_CAUTIOUS)
        odds = tumour_odds(logits / temperature, tumour) if both else np.zeros(len(codes))
    heads.set(temperature=temperature, tumour_temperature=tumour_temperature(odds, tumour[codes], weight))
    return {**{f"{k}_before": v for k, v in before.items()}, **_errors(heads, log_proba, codes)}


def cross_fitted(
    heads: ClassHeads,
    log_proba: Logs,
    codes: NDArray[np.int64],
    shares: NDArray[np.float64],
    groups: NDArray[np.int64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """:func:`outputs` of held-out cells whose temperatures were not fitted on them, but on the other half of the
    ``groups`` (m,) that they lie in; so that calibration is not judged on what it was fitted to."""
    proba, tumour = np.zeros(log_proba.shape), np.zeros(len(codes))
    odd = np.unique(groups, return_inverse=True)[1] % 2 == 1
    before = heads.config
    for side in (odd, ~odd):
        if side.any():
            calibrate(heads, log_proba[~side], codes[~side], shares)
            proba[side], tumour[side] = outputs(heads, log_proba[side])
    heads.config = before
    return proba, tumour


def _shifted(heads: ClassHeads, log_proba: Logs) -> NDArray[np.float64]:
    shift = np.asarray(heads.config.log_shift) if heads.config.log_shift else 0.0
    return _normalised(np.asarray(log_proba, dtype=np.float64) + shift)


def _errors(heads: ClassHeads, log_proba: Logs, codes: NDArray[np.int64]) -> dict[str, float]:
    proba, tumour = outputs(heads, log_proba)
    errors = {"calibration_error": expected_calibration_error(np.clip(proba.max(1), 0, 1), proba.argmax(1) == codes)}
    is_tumour = heads.is_tumour.cpu().numpy()
    if is_tumour.any():
        sure = np.clip(np.maximum(tumour, 1 - tumour), 0, 1)
        errors["tumour_calibration_error"] = expected_calibration_error(sure, (tumour >= _CALL) == is_tumour[codes])
    return errors


def _normalised(logs: Logs) -> NDArray[np.float64]:
    """Rows of log-probabilities that add up to 1."""
    high = np.maximum(np.asarray(logs, dtype=np.float64), _LOWEST)
    high = high - high.max(1, keepdims=True)
    return np.asarray(high - np.log(np.exp(high).sum(1, keepdims=True)))
