"""The fine-tuned model against the few-shot head, on the same held-out cells; and runs that end early."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from numpy.typing import NDArray

import stplm
from stplm.tasks.compare import FEW_SHOT, TUNED, Comparison, HeldOut, compare, comparison
from stplm.tasks.finetune import finetune
from stplm.tasks.finetune_config import FinetuneConfig, settings, settings_table
from stplm.tasks.finetune_watch import REFIT, SELECT, read_history

QUICK = FinetuneConfig(epochs=2, batch=32, patch=32, block=50.0, buffer=15.0, neighbours=False, checkpoint_every=2)


@pytest.fixture(scope="module")
def labels(_demo_embedded: AnnData) -> pd.Series:
    """The few-shot head's surest calls: many labels, of three classes."""
    seeds = stplm.seed_labels(_demo_embedded, per_class=8)
    called = stplm.predict(_demo_embedded.copy(), stplm.fit_classifier(_demo_embedded, seeds))
    names = called.obs["stplm_class"].astype(object)
    sure = (called.obs["stplm_confidence"] > 0.8) & names.isin(["Tumour", "Stromal", "Macrophage"])
    return names.where(sure, None)


def held_out(codes: NDArray[Any], right: float, seed: int, squares: int = 40) -> HeldOut:
    """A model that calls each cell right with that probability, else the next class."""
    random = np.random.default_rng(seed)
    called = np.where(random.random(len(codes)) < right, codes, (codes + 1) % 3)
    proba = np.where(np.eye(3, dtype=bool)[called], 0.9, 0.05)
    none = np.zeros(len(codes), dtype=bool)
    square = np.arange(len(codes)) * squares // len(codes)
    return HeldOut(
        ["Tumour", "T cell", "B cell"],
        ["Tumour"],
        [none],
        [~none],
        [np.array(["x"] * len(codes), dtype=object)],
        codes,
        proba,
        proba[:, 0],
        square,
    )


def test_a_clear_difference_is_said_and_chance_is_called_chance() -> None:
    codes = np.random.default_rng(0).integers(0, 3, 1200)
    good, poor, same = (held_out(codes, right, seed) for right, seed in ((0.95, 1), (0.8, 2), (0.95, 4)))
    found = comparison(good, poor.proba, poor.tumour)
    assert found.better == TUNED
    assert 0.1 < found.low < found.difference < found.high < 0.2
    assert found.p_value < 1e-6
    assert "better beyond noise" in found.in_words()
    assert comparison(poor, good.proba, good.tumour).better == FEW_SHOT
    even = comparison(good, same.proba, same.tumour)
    assert even.within_noise
    assert even.better == ""
    assert even.p_value > 0.05
    assert even.in_words().startswith("Within noise")
    assert found.resampled == "squares"
    assert comparison(held_out(codes, 0.95, 1, squares=4), poor.proba, poor.tumour).resampled == "cells"
    assert Comparison.from_json(found.to_json()) == found


def test_scores_are_those_of_the_cells() -> None:
    from sklearn.metrics import balanced_accuracy_score, confusion_matrix, f1_score

    codes = np.random.default_rng(0).integers(0, 3, 300)
    ours, theirs = held_out(codes, 0.9, 1), held_out(codes, 0.7, 2)
    found = comparison(ours, theirs.proba, theirs.tumour)
    for scores, of in ((found.tuned, ours), (found.few_shot, theirs)):
        called = of.proba.argmax(1)
        assert scores.macro_f1 == pytest.approx(f1_score(codes, called, average="macro"))
        assert scores.balanced_accuracy == pytest.approx(balanced_accuracy_score(codes, called))
        assert scores.tumour_f1 == pytest.approx(f1_score(codes == 0, called == 0))
        assert scores.calibration_error == pytest.approx(abs(0.9 - (called == codes).mean()))
        assert scores.confusion == confusion_matrix(codes, called).tolist()
    assert found.difference == pytest.approx(found.tuned.macro_f1 - found.few_shot.macro_f1)


def test_cells_of_one_square_are_no_independent_evidence() -> None:
    """All of a model's lead lies in one square: drawing squares, it may be chance; drawing cells, it could not."""
    codes = np.random.default_rng(0).integers(0, 3, 1200)
    base = held_out(codes, 0.9, 1, squares=12)
    lead = base.proba.copy()
    lead[base.squares == 0] = np.where(np.eye(3, dtype=bool)[codes[base.squares == 0]], 0.9, 0.05)
    ahead = replace(base, proba=lead)
    assert comparison(ahead, base.proba, base.tumour).low == 0.0
    assert comparison(replace(ahead, squares=np.arange(1200)), base.proba, base.tumour).low > 0.0


def test_both_learn_from_the_same_cells_and_are_scored_on_the_same_others(
    embedded: AnnData, labels: pd.Series, tmp_path: Path
) -> None:
    caught: list[HeldOut] = []
    tuned = finetune("default", embedded, labels, QUICK, on_held_out=caught.append, history=tmp_path / "history.jsonl")
    [held] = caught
    note = tuned.provenance["finetune"]
    [train], [test] = held.train, held.test
    assert not (train & test).any()
    assert test.sum() == len(held.codes) == note["held_out_cells"]
    assert set(embedded.obs_names[train | test]) <= set(labels.dropna().index)
    before = embedded.obs.columns.tolist()
    found = compare(held, [embedded], "default")
    assert embedded.obs.columns.tolist() == before
    assert (found.cells, found.learnt_from) == (test.sum(), train.sum())
    assert found.tuned.macro_f1 == pytest.approx(note["scores"]["macro_f1"], abs=0.05)
    # Few-shot by hand, from the training cells alone.
    by_hand = stplm.predict(embedded.copy(), stplm.fit_classifier(embedded, labels.where(train)))
    called = by_hand.obs["stplm_class"].astype(str).to_numpy()[test]
    from sklearn.metrics import f1_score

    names = np.array(held.classes)
    assert found.few_shot.macro_f1 == pytest.approx(f1_score(names[held.codes], called, average="macro"))

    told = read_history(tmp_path / "history.jsonl")
    scores = [t for t in told if "scores" in t and t["stage"] == SELECT]
    assert [t["epoch"] for t in scores] == [0, 1, 2]
    assert scores[-1]["scores"]["macro_f1"] == pytest.approx(note["history"][-1]["macro_f1"], abs=1e-6)
    assert any("loss" in t for t in told)
    assert {t["stage"] for t in told} == {SELECT, REFIT} or note["best_epoch"] == 0


def test_a_run_that_is_stopped_keeps_the_best_so_far_and_can_be_had_again(
    embedded: AnnData, labels: pd.Series, tmp_path: Path
) -> None:
    config = replace(QUICK, epochs=4)
    steps = list[int]()

    def stop() -> bool:
        steps.append(1)
        return len(steps) > 20

    history = tmp_path / "history.jsonl"
    run: dict[str, Any] = {"checkpoint": tmp_path / "run", "history": history}
    tuned = finetune("default", embedded, labels, config, stop=stop, **run)
    note = tuned.provenance["finetune"]
    assert note["stopped_at"] == 20
    assert not note["refit"]
    assert 1 <= len(note["history"]) <= 4
    assert note["best_epoch"] == int(np.argmax([h["macro_f1"] for h in note["history"]]))

    def weights(model: Any) -> list[bytes]:
        return [p.numpy().tobytes() for p in [*model.encoder.state_dict().values(), *model.heads.state_dict().values()]]

    again = finetune("default", embedded, labels, replace(config, refit=False), stop_after=20)
    assert weights(again) == weights(tuned)
    # The checkpoint is there: the best so far once more, without training; then the rest of the run.
    at_once = finetune("default", embedded, labels, config, stop=lambda: True, resume=True, **run)
    assert weights(at_once) == weights(tuned)
    rest = finetune("default", embedded, labels, replace(config, minutes=60.0), resume=True, **run)
    assert rest.provenance["finetune"]["stopped_at"] is None
    assert weights(rest) == weights(finetune("default", embedded, labels, config))
    epochs = [t["epoch"] for t in read_history(history) if "scores" in t and t["stage"] == SELECT]
    assert epochs == list(range(len(rest.provenance["finetune"]["history"])))


def test_a_budget_that_is_spent_ends_the_run(embedded: AnnData, labels: pd.Series) -> None:
    tuned = finetune("default", embedded, labels, replace(QUICK, epochs=50, minutes=1e-6))
    note = tuned.provenance["finetune"]
    assert note["stopped_at"] == 0
    assert len(note["history"]) == 1
    assert note["scores"]["macro_f1"] > 0.5


def test_every_setting_has_words_and_limits() -> None:
    for name, setting in settings().items():
        assert setting.label
        assert setting.help.endswith(".")
        assert isinstance(setting.default, setting.kind) or setting.kind is float
        assert setting.unit or setting.kind in (bool, str) or name == "seed"
    with pytest.raises(ValueError, match="holdout_share must be under 1"):
        FinetuneConfig(holdout_share=1.0)
    with pytest.raises(ValueError, match="learning_rate must be above 0"):
        FinetuneConfig(learning_rate=0.0)
    with pytest.raises(ValueError, match="loss must be one of balanced"):
        FinetuneConfig(loss="hinge")  # type: ignore[arg-type]


def test_the_documentation_has_the_settings_as_they_are() -> None:
    page = Path(__file__).parents[2] / "docs" / "finetuning.md"
    assert settings_table() in page.read_text(encoding="utf-8")
