"""The few-shot protocol on real labelled cells: no worse than the better of its baselines on the same draws."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import f1_score

from stplm import keys
from stplm.evaluation.calibration import expected_calibration_error


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    path = Path(__file__).resolve().parents[2] / "benchmarks" / "annotation.py"
    spec = importlib.util.spec_from_file_location("annotation_benchmark", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def protocol(benchmark: ModuleType, shared_data: Path) -> Any:
    path = shared_data.parent / "protocols" / "fewshot.py"
    if not path.is_file():
        pytest.skip(f"no protocol at {path}")
    return benchmark.protocol.load_protocol(path)


@pytest.mark.real
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_at_least_level_with_the_better_baseline(benchmark: ModuleType, protocol: Any) -> None:
    table, truth, left, right = protocol.load()
    true = truth[right].astype(str)
    for shots in (5, 10):
        scores: dict[str, list[float]] = {"ours": [], "logistic": [], "pca": []}
        errors = []
        for seed in range(2):
            labels, ours = protocol.draw(truth, left, shots, seed), table.copy()
            called = {
                "ours": benchmark.stplm_default(ours, labels, seed),
                "logistic": protocol.logistic(table.copy(), labels, seed),
                "pca": protocol.pca_logistic(table.copy(), labels, seed),
            }
            for name, classes in called.items():
                scores[name].append(f1_score(true, np.asarray(classes)[right].astype(str), average="macro"))
            confidence = ours.obs[keys.CONFIDENCE].to_numpy()[right]
            errors.append(expected_calibration_error(confidence, called["ours"][right] == true))
        mean = {name: np.mean(values) for name, values in scores.items()}
        assert mean["ours"] >= max(mean["logistic"], mean["pca"]), mean
        assert np.mean(errors) < 0.12


@pytest.mark.real
def test_the_predictor_is_what_the_protocol_asks_for(benchmark: ModuleType, protocol: Any) -> None:
    table, truth, left, _ = protocol.load()
    labels = protocol.draw(truth, left, 2, 0)
    called = benchmark.stplm_default(table.copy(), labels, 0)
    again = benchmark.stplm_default(table.copy(), labels, 0)
    assert called.shape == (table.n_obs,)
    assert set(called) <= set(truth[left])
    assert np.array_equal(called, again)
