"""Suggested cells: which they are on made-up sections, and that they save labels on a real one."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import stplm
from stplm import keys
from stplm.errors import LabelError, ModelError

KINDS, EACH = 4, 150
NAMES = ["Tumour", "Stromal", "T cell", "B cell"]


@pytest.fixture
def table() -> Any:
    """600 cells of four kinds apart in the embedding, each all over a square millimetre."""
    random = np.random.default_rng(0)
    kind = np.repeat(np.arange(KINDS), EACH)
    vectors = 6 * np.eye(KINDS, 8)[kind] + random.normal(0, 1, (len(kind), 8))
    made = anndata.AnnData(
        sp.csr_matrix((len(kind), 3), dtype=np.int32),
        obs=pd.DataFrame({keys.N_COUNTS: 100, "kind": kind}, index=[f"c{i}" for i in range(len(kind))]),
    )
    made.obsm[keys.X_STPLM] = vectors.astype(np.float32)
    made.obsm[keys.SPATIAL] = random.random((len(kind), 2)) * 1000
    return made


def call(table: Any, proba: np.ndarray, names: list[str]) -> None:
    """Write a prediction into the table, as ``stplm.predict`` does."""
    table.obsm[keys.PROBA] = proba.astype(np.float32)
    table.obs[keys.CLASS] = pd.Categorical.from_codes(proba.argmax(1), names)
    table.uns[keys.UNS] = {keys.UNS_PREDICTION: {"classes": names}}


def sure_of_two(table: Any) -> np.ndarray:
    """Kinds 0 and 1 are known, kinds 2 and 3 are called as kind 1."""
    proba = np.full((table.n_obs, 2), 0.02)
    proba[np.arange(table.n_obs), np.minimum(table.obs["kind"], 1)] = 0.98
    return proba


def test_without_labels_each_kind_of_cell_is_among_the_first(table: Any) -> None:
    found = stplm.suggest(table, n=6)
    assert set(table.obs["kind"].iloc[found["row"]]) == set(range(KINDS))
    assert (found["kind"] == "typical").all()
    assert found["class"].isna().all()
    assert list(table.obs_names[found["row"]]) == list(found.index)


def test_labels_of_one_class_leave_the_other_kinds_to_ask_about(table: Any) -> None:
    found = stplm.suggest(table, labels={f"c{i}": "Tumour" for i in range(10)}, n=3)
    assert 0 not in set(table.obs["kind"].iloc[found["row"]])


def test_a_kind_that_nobody_labelled_comes_before_known_ones(table: Any) -> None:
    call(table, sure_of_two(table), NAMES[:2])
    table.obs[keys.UNKNOWN] = np.where(table.obs["kind"] == 3, 0.99, 0.3).astype(np.float32)
    labels = {f"c{i}": NAMES[table.obs["kind"].iloc[i]] for i in (0, 1, 2, EACH, EACH + 1, EACH + 2)}
    found = stplm.suggest(table, labels=labels, n=4)
    kinds = table.obs["kind"].iloc[found["row"]].to_numpy()
    assert set(kinds) == {2, 3}
    assert kinds[0] == 3
    assert set(found["reason"]) <= {"no label among cells like this", "unlike anything labelled"}


def test_cells_that_look_strange_among_labelled_ones_come_first(table: Any) -> None:
    call(table, sure_of_two(table), NAMES[:2])
    table.obs[keys.UNKNOWN] = np.where(np.arange(table.n_obs) % 50 == 0, 0.99, 0.3).astype(np.float32)
    labels = {f"c{i}": NAMES[min(table.obs["kind"].iloc[i], 1)] for i in range(1, table.n_obs, 7)}
    found = stplm.suggest(table, labels=labels, n=3)
    assert (found["row"] % 50 == 0).all()
    assert set(found["reason"]) == {"unlike anything labelled"}


def test_most_of_the_section_is_asked_about_though_the_model_is_sure_of_it(table: Any) -> None:
    """Sure of the wrong thing: three kinds in four are called as one of two that are labelled, and not strange."""
    most = table.obs["kind"].to_numpy() > 0
    proba = np.where(most[:, None], [0.98, 0.02], [0.55, 0.45])
    call(table, proba, NAMES[:2])
    table.obs[keys.UNKNOWN] = np.float32(0.5)
    labels = {f"c{i}": NAMES[i % 2] for i in range(8)}
    found = stplm.suggest(table, labels=labels, n=5)
    assert set(table.obs["kind"].iloc[found["row"]]) >= {1, 2, 3}
    away = found[most[found["row"].astype(int)]]
    assert set(away["reason"]) == {"no label among cells like this"}


def test_two_cells_asked_about_are_not_alike(table: Any) -> None:
    """However much the model wants to know of one kind, cells with a label beside them teach less."""
    table.obsm[keys.X_STPLM][1:20] = table.obsm[keys.X_STPLM][0]
    call(table, np.where(np.arange(table.n_obs)[:, None] < 20, [0.5, 0.5], [0.95, 0.05]), NAMES[:2])
    found = stplm.suggest(table, labels={"c30": "Tumour", "c200": "Stromal"}, n=30)
    assert sum(found["row"] < 20) <= 1


def test_one_cell_is_suggested_where_there_is_only_one(table: Any) -> None:
    assert list(stplm.suggest(table, within=[7])["row"]) == [7]


def test_the_reason_names_the_two_classes_that_the_model_wavers_between(table: Any) -> None:
    proba = sure_of_two(table)
    proba[5] = [0.52, 0.48]
    call(table, proba, NAMES[:2])
    labels = {f"c{i}": NAMES[min(table.obs["kind"].iloc[i], 1)] for i in range(0, table.n_obs, 7)}
    found = stplm.suggest(table, labels=labels, n=1).iloc[0]
    assert (found["row"], found["kind"]) == (5, "between")
    assert found["reason"] == "between Tumour and Stromal (0.52 / 0.48)"
    assert (found["class"], found["second"]) == ("Tumour", "Stromal")
    assert found["confidence"] == pytest.approx(0.52)


def test_what_has_an_answer_is_not_asked_again(table: Any) -> None:
    first = stplm.suggest(table, n=10)
    labels, skip = {first.index[0]: "Tumour"}, first["row"].iloc[1:4].tolist()
    again = stplm.suggest(table, labels=labels, skip=skip, n=50)
    assert not {first.index[0], *first.index[1:4]} & set(again.index)


def test_faint_cells_and_cells_outside_are_left_out_and_none_are_close(table: Any) -> None:
    table.obs.loc[table.obs["kind"] == 2, keys.N_COUNTS] = 5
    within = table.obsm[keys.SPATIAL][:, 0] < 500
    found = stplm.suggest(table, n=40, within=within, apart_um=60)
    places = table.obsm[keys.SPATIAL][found["row"]]
    assert len(found) > 10
    assert (places[:, 0] < 500).all()
    assert 2 not in set(table.obs["kind"].iloc[found["row"]])
    apart = np.hypot(*(places[:, None] - places[None]).transpose(2, 0, 1))
    assert apart[~np.eye(len(places), dtype=bool)].min() >= 60


def test_the_same_question_has_the_same_answer(table: Any) -> None:
    call(table, sure_of_two(table), NAMES[:2])
    one, other = (stplm.suggest(table, labels={"c1": "Tumour", "c200": "Stromal"}) for _ in range(2))
    pd.testing.assert_frame_equal(one, other)
    assert one["score"].is_monotonic_decreasing
    assert stplm.suggest(table)["score"].is_monotonic_decreasing


def test_nothing_left_is_an_empty_table(table: Any) -> None:
    labels = dict.fromkeys(table.obs_names, "Tumour")
    assert len(stplm.suggest(table, labels=labels)) == 0
    assert len(stplm.suggest(table, n=0)) == 0


def test_a_section_without_positions_has_suggestions_too(table: Any) -> None:
    del table.obsm[keys.SPATIAL]
    assert len(stplm.suggest(table, n=5)) == 5


def test_what_is_wrong_is_said(table: Any) -> None:
    with pytest.raises(LabelError, match="not in this section"):
        stplm.suggest(table, labels={"elsewhere": "Tumour"})
    del table.obsm[keys.X_STPLM]
    with pytest.raises(ModelError, match="not embedded"):
        stplm.suggest(table)


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    path = Path(__file__).resolve().parents[2] / "benchmarks" / "suggestions.py"
    spec = importlib.util.spec_from_file_location("suggestions_benchmark", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.real
def test_half_the_labels_of_random_picking(benchmark: ModuleType, shared_data: Path) -> None:
    path = shared_data.parent / "protocols" / "fewshot.py"
    if not path.is_file():
        pytest.skip(f"no protocol at {path}")
    play = benchmark.Play(benchmark.protocol.coarse(benchmark.protocol.load_protocol(path)))
    random, suggested, questions = [], [], []
    for seed in range(2):
        play.start(benchmark.N_RANDOM, seed)
        random.append([point.macro_f1 for point in play.run(benchmark.at_random(seed), [40, 80])])
        play.start(benchmark.N_RANDOM, seed)
        reached = play.run(benchmark.suggested(at_once=10), [20, 40])
        suggested.append([point.macro_f1 for point in reached])
        questions.append(reached[-1].questions)
    assert (np.mean(suggested, axis=0) >= np.mean(random, axis=0)).all(), (suggested, random)
    assert np.mean(questions) <= 60  # cells without an answer are part of the work
