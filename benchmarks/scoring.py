"""Run every method on the same draws of labels and score it on the same cells."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import balanced_accuracy_score, f1_score

from benchmarks import ours
from benchmarks.methods import Method
from benchmarks.peers import environment, jobs
from benchmarks.protocol import ClassSet
from stplm import keys
from stplm.evaluation.calibration import expected_calibration_error

Score = dict[str, float]


@dataclass
class Row:
    """A method's scores: one dict a draw, by labels a class; why any is missing; seconds spent once on the section."""

    name: str
    scores: dict[str, list[Score]] = field(default_factory=dict)
    reason: str = ""
    once: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def compare(
    methods: list[Method],
    class_set: ClassSet,
    shots: list[int | None],
    seeds: int,
    cache: Path = jobs.CACHE,
    python: Callable[[], Path] = environment.python,
    first_seed: int = 0,
) -> list[Row]:
    """A row for every method, whether it could be run or not; draws of labels are numbered from ``first_seed``."""
    rows = []
    for method in methods:
        draws = [(k, first_seed + i) for k in shots for i in range(_seeds(method, class_set, seeds) if k else 1)]
        if method.peer:
            row = _peer_row(method, class_set, draws, cache, python)
        else:
            row = _own_row(method, class_set, draws, cache)
        means = "  ".join(f"{k} {np.mean([s['macro_f1'] for s in found]):.3f}" for k, found in row.scores.items())
        print(f"{class_set.name:7s}{row.name:56s}{means}  {row.reason}", flush=True)
        rows.append(row)
    return rows


def _seeds(method: Method, class_set: ClassSet, seeds: int) -> int:
    return min(seeds, method.peer.max_seeds.get(class_set.name, seeds)) if method.peer else seeds


def _own_row(method: Method, class_set: ClassSet, draws: list[tuple[int | None, int]], cache: Path) -> Row:
    assert method.predictor
    row, known = Row(method.name), class_set.table.copy()
    if method.vectors:
        row.once = ours.embed_once(known, method.vectors, cache)
    for shots, seed in draws:
        table, labels = known.copy(), class_set.labels(shots, seed)
        start = time.process_time()
        called = np.asarray(method.predictor(table, labels, seed)).astype(str)
        seconds = time.process_time() - start
        confidence = table.obs[keys.CONFIDENCE].to_numpy() if keys.CONFIDENCE in table.obs else None
        row.scores.setdefault(_title(shots), []).append(_score(class_set, called, seconds, seed, confidence))
    return row


def _peer_row(
    method: Method,
    class_set: ClassSet,
    draws: list[tuple[int | None, int]],
    cache: Path,
    python: Callable[[], Path],
) -> Row:
    assert method.peer
    shown = [jobs.Draw(class_set.labels(shots, seed), seed) for shots, seed in draws]
    found = jobs.predict(method.peer, class_set.table, shown, cache, python)
    row = Row(method.name, reason=found.reason, once=found.once)
    for (shots, seed), prediction in zip(draws, found.predictions, strict=True):
        if prediction:
            score = _score(class_set, prediction.called, prediction.seconds, seed)
            row.scores.setdefault(_title(shots), []).append(score)
    return row


def _score(
    class_set: ClassSet, called: np.ndarray, seconds: float, seed: int, confidence: np.ndarray | None = None
) -> Score:
    true, said = class_set.truth[class_set.right].astype(str), called[class_set.right]
    score = {
        "macro_f1": f1_score(true, said, average="macro", zero_division=0),
        "balanced_accuracy": balanced_accuracy_score(true, said),
        "tumour_f1": f1_score(np.isin(true, class_set.tumour), np.isin(said, class_set.tumour), zero_division=0),
        "seconds": seconds,
    }
    if confidence is not None:
        score["calibration_error"] = expected_calibration_error(confidence[class_set.right], said == true)
    return {"seed": seed, **{name: round(float(value), 4) for name, value in score.items()}}


def _title(shots: int | None) -> str:
    return str(shots or "all")
