"""The few-shot protocol on real labelled cells: no worse than the better of its baselines on the same draws."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest


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
    return benchmark.load_protocol(path)


@pytest.mark.real
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_at_least_level_with_the_better_baseline(benchmark: ModuleType, protocol: Any) -> None:
    methods = {"STPLM": benchmark.stplm_default, "logistic": protocol.logistic, "pca": protocol.pca_logistic}
    scores = benchmark.compare(protocol, methods, [5, 10], seeds=2)
    mean = {
        name: {k: np.mean([row["macro_f1"] for row in rows]) for k, rows in by_shots.items()}
        for name, by_shots in scores.items()
    }
    for k in ("5", "10"):
        assert mean["STPLM"][k] >= max(mean["logistic"][k], mean["pca"][k]), mean
    assert np.mean([row["calibration_error"] for row in scores["STPLM"]["10"]]) < 0.12
    assert max(row["seconds"] for row in scores["STPLM"]["5"]) < 5


@pytest.mark.real
def test_the_predictor_is_what_the_protocol_asks_for(benchmark: ModuleType, protocol: Any) -> None:
    table, truth, left, _ = protocol.load()
    labels = protocol.draw(truth, left, 2, 0)
    called = benchmark.stplm_default(table.copy(), labels, 0)
    again = benchmark.stplm_default(table.copy(), labels, 0)
    assert called.shape == (table.n_obs,)
    assert set(called) <= set(truth[left])
    assert np.array_equal(called, again)
