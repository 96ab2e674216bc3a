"""From features to what a linear head says of every cell, in one pass on all cores: a million cells in a tenth of a
second or two.

Sums run in float32, what follows them in float64. It says the same as :func:`stplm.tasks.outcome.outcomes` (a test
looks), which stays the definition and serves the fine-tuned heads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stplm.compiled import compiled
from stplm.kernels import in_blocks, one_thread
from stplm.tasks.outcome import CERTAIN

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from stplm.scheme import Scheme

_LANES = 16
"""Classes that are summed together: as many as fit the registers. The kernels spell the number out, or it would not be
a constant to the compiler."""
_BLOCK = 8192
ScoreBlock = Callable[[int, int, NDArray[np.float32]], None]


def linear_scores(
    own: NDArray[np.float32],
    fit: NDArray[np.float32],
    level: csr_matrix,
    dense_weights: NDArray[np.floating],
    level_weights: NDArray[np.floating],
    bias: NDArray[np.floating],
) -> NDArray[np.float32]:
    """(n, k) float32: what the columns of ``own``, ``fit`` and ``level`` add up to, without joining or copying any.

    Parameters
    ----------
    own, fit, level
        Blocks of :class:`stplm.tasks.features.Features`, (n, d1), (n, d2) and (n, n_genes).
    dense_weights, level_weights
        (k, d1 + d2) and (k, n_genes).
    bias
        (k,)
    """
    score = block_scores(own, fit, level, dense_weights, level_weights, bias)
    scores = np.empty((level.shape[0], lanes_for(len(bias))), dtype=np.float32)
    with one_thread():
        in_blocks(lambda start, stop: score(start, stop, scores[start:stop]), len(scores), _BLOCK)
    return scores[:, : len(bias)]


def block_scores(
    own: NDArray[np.float32],
    fit: NDArray[np.float32],
    level: csr_matrix,
    dense_weights: NDArray[np.floating],
    level_weights: NDArray[np.floating],
    bias: NDArray[np.floating],
) -> ScoreBlock:
    """:func:`linear_scores` of a stretch of rows: ``score(start, stop, out)`` fills ``out`` (stop - start,
    ``lanes_for(k)``) float32, whose first k columns are the scores. Any thread may call it, within ``one_thread()``."""
    of_dense, of_level, start_at = _lanes(dense_weights), _lanes(level_weights), _lanes(np.asarray(bias)[:, None])[0]
    of_own, of_fit = of_dense[: own.shape[1]], of_dense[own.shape[1] :]

    def score(start: int, stop: int, out: NDArray[np.float32]) -> None:
        np.matmul(own[start:stop], of_own, out=out)
        out += fit[start:stop] @ of_fit
        out += start_at
        _add_sparse(level.indptr, level.indices, level.data, of_level, out, start, stop)

    return score


def lanes_for(k: int) -> int:
    """Columns of the room that ``k`` scores a cell are summed in."""
    return -(-k // _LANES) * _LANES


def score_outcomes(
    scores: NDArray[np.float32] | ScoreBlock,
    depth: NDArray[np.float64],
    is_tumour: NDArray[np.bool_],
    *,
    fade_counts: float,
    log_prior: NDArray[np.float64],
    prior_weight: float,
    temperature: float,
    tumour_temperature: float,
    share_odds: float,
    scheme: Scheme,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Class probabilities (n, n_classes) and tumour probability (n,), both float32.

    Parameters
    ----------
    scores
        (n, n_classes) at equal shares, before fading; or (n, n_classes + 1), the last the binary head's log-odds. Or
        what makes them, of :func:`block_scores`: then they are used where they are made, and take no room.
    depth
        (n,) counts. Without any, a cell gets the shares themselves.
    is_tumour, log_prior
        (n_classes,)
    fade_counts
        Counts at which a cell's evidence weighs half.
    prior_weight, share_odds
        How much the class shares count, and the log-odds of the tumour classes' share.
    temperature, tumour_temperature, scheme
        See :func:`stplm.tasks.outcome.outcomes`.
    """
    side = np.asarray(is_tumour, dtype=bool)
    k, n = len(side), len(depth)
    proba, tumour = np.empty((n, k), dtype=np.float32), np.empty(n, dtype=np.float32)
    kind = _ONE_SIDE if side.all() or not side.any() else _HIERARCHICAL if scheme == "hierarchical" else _JOINT
    if kind == _HIERARCHICAL and not callable(scores) and scores.shape[1] != k + 1:
        raise ValueError("the hierarchical scheme needs the binary head's log-odds")
    prior = np.asarray(log_prior, dtype=np.float64)
    numbers = np.array([fade_counts, prior_weight, temperature, tumour_temperature, share_odds], dtype=np.float64)

    def say(start: int, stop: int) -> None:
        if callable(scores):
            part = np.empty((stop - start, width), dtype=np.float32)
            scores(start, stop, part)
        else:
            part = scores[start:stop]
        _outcomes(part, depth, side, prior, numbers, kind, proba, tumour, start, stop)

    width = lanes_for(k + (kind == _HIERARCHICAL))
    with one_thread():
        in_blocks(say, n, _BLOCK)
    return proba, tumour


def most_probable(proba: NDArray[np.floating]) -> tuple[NDArray[np.int16], NDArray[np.float32]]:
    """Of probabilities (n, k): the place (n,) of the highest of each row, the first where level, and its value."""
    code, value = np.empty(len(proba), dtype=np.int16), np.empty(len(proba), dtype=np.float32)
    in_blocks(lambda start, stop: _most_probable(proba, code, value, start, stop), len(proba))
    return code, value


def weigh_counts(counts: csr_matrix, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, k) float64: counts (n, n_genes) of any number type @ weights (k, n_genes), transposed."""
    out = np.empty((counts.shape[0], len(weights)), dtype=np.float64)
    lanes = np.ascontiguousarray(np.asarray(weights, dtype=np.float64).T)

    def weigh(start: int, stop: int) -> None:
        _weigh(counts.indptr, counts.indices, counts.data, lanes, out, start, stop)

    in_blocks(weigh, len(out))
    return out


def log_levels(counts: csr_matrix, target: float, depth: NDArray[np.float64]) -> NDArray[np.float32]:
    """log(1 + count * target / depth) of every stored count, float32, in the order of ``counts.data``."""
    out = np.empty(len(counts.data), dtype=np.float32)

    def take(start: int, stop: int) -> None:
        _log_levels(counts.indptr, counts.data, target, depth, out, start, stop)

    in_blocks(take, counts.shape[0])
    return out


_ONE_SIDE, _JOINT, _HIERARCHICAL = 0, 1, 2


def _lanes(weights: NDArray[np.floating]) -> NDArray[np.float32]:
    """(k, n) as (n, k) float32 with zero columns up to whole lanes."""
    k, n = weights.shape
    made = np.zeros((n, -(-k // _LANES) * _LANES), dtype=np.float32)
    made[:, :k] = weights.T
    return made


# The kernels take a stretch of rows and let go of the interpreter's lock.


@compiled(nogil=True, fastmath=True)
def _add_sparse(indptr: Any, indices: Any, data: Any, weights: Any, scores: Any, start: int, stop: int) -> None:
    for lane in range(0, weights.shape[1], 16):
        for row in range(start, stop):
            sums = scores[row - start, lane : lane + 16]
            place, end = indptr[row], indptr[row + 1]
            while place + 3 < end:
                x0, x1, x2, x3 = data[place], data[place + 1], data[place + 2], data[place + 3]
                w0 = weights[indices[place], lane : lane + 16]
                w1 = weights[indices[place + 1], lane : lane + 16]
                w2 = weights[indices[place + 2], lane : lane + 16]
                w3 = weights[indices[place + 3], lane : lane + 16]
                for i in range(16):
                    sums[i] += x0 * w0[i] + x1 * w1[i] + x2 * w2[i] + x3 * w3[i]
                place += 4
            while place < end:
                x0 = data[place]
                w0 = weights[indices[place], lane : lane + 16]
                for i in range(16):
                    sums[i] += x0 * w0[i]
                place += 1


@compiled(nogil=True)
def _outcomes(
    scores: Any,
    depth: Any,
    side: Any,
    prior: Any,
    numbers: Any,
    kind: int,
    proba: Any,
    tumour: Any,
    start: int,
    stop: int,
) -> None:
    fade_counts, prior_weight, share_odds = numbers[0], numbers[1], numbers[4]
    k = len(side)
    z = np.empty(k, dtype=np.float64)
    for row in range(start, stop):
        empty = depth[row] <= 0
        fade = 0.0 if empty else depth[row] / (depth[row] + fade_counts)
        weight = 1.0 if empty else prior_weight
        temperature = 1.0 if empty else numbers[2]
        tumour_temperature = 1.0 if empty else numbers[3]
        top = -np.inf, -np.inf
        for i in range(k):
            z[i] = (scores[row - start, i] * fade + weight * prior[i]) / temperature
            top = (max(top[0], z[i]), top[1]) if kind == 0 or side[i] else (top[0], max(top[1], z[i]))
        total = 0.0, 0.0
        for i in range(k):
            if kind == 0 or side[i]:
                z[i] = np.exp(z[i] - top[0])
                total = total[0] + z[i], total[1]
            else:
                z[i] = np.exp(z[i] - top[1])
                total = total[0], total[1] + z[i]
        if kind == 0:
            tumour[row] = 1.0 if side[0] else 0.0
            for i in range(k):
                proba[row, i] = z[i] / total[0]
            continue
        if kind == 1:
            odds = top[0] + np.log(total[0]) - top[1] - np.log(total[1])
        else:
            odds = scores[row - start, k] * fade + weight * share_odds
        share = 1.0 / (1.0 + np.exp(-min(max(odds / tumour_temperature, -CERTAIN), CERTAIN)))
        tumour[row] = share
        for i in range(k):
            proba[row, i] = z[i] / total[0] * share if side[i] else z[i] / total[1] * (1.0 - share)


@compiled(nogil=True)
def _most_probable(proba: Any, code: Any, value: Any, start: int, stop: int) -> None:
    for row in range(start, stop):
        best = 0
        for i in range(1, proba.shape[1]):
            if proba[row, i] > proba[row, best]:
                best = i
        code[row], value[row] = best, proba[row, best]


@compiled(nogil=True)
def _weigh(indptr: Any, indices: Any, data: Any, weights: Any, out: Any, start: int, stop: int) -> None:
    k = weights.shape[1]
    for row in range(start, stop):
        for i in range(k):
            out[row, i] = 0.0
        for place in range(indptr[row], indptr[row + 1]):
            x, gene = float(data[place]), indices[place]
            for i in range(k):
                out[row, i] += x * weights[gene, i]


@compiled(nogil=True)
def _log_levels(indptr: Any, data: Any, target: float, depth: Any, out: Any, start: int, stop: int) -> None:
    for row in range(start, stop):
        scale = target / max(depth[row], 1.0)
        for place in range(indptr[row], indptr[row + 1]):
            out[place] = np.log1p(float(data[place]) * scale)
