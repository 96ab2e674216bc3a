"""The search: honest splits, early stopping, budget, resume; with a fine-tuning whose score is known beforehand."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from anndata import AnnData
from scipy.spatial.distance import cdist

from stplm.cli_finetune import FinetuneRecipe
from stplm.cli_tune import add_tune
from stplm.errors import Cancelled, StplmError
from stplm.tasks import finetune as finetune_module
from stplm.tasks import tune_scores, tune_search
from stplm.tasks.finetune_config import FinetuneConfig
from stplm.tasks.recipes import read_recipe
from stplm.tasks.tune import tune, write_config
from stplm.tasks.tune_space import Range

SPACE = {"learning_rate": Range(1e-5, 1e-1, log=True), "frozen_layers": Range(0, 3), "schedule": ["cosine", "linear"]}
EPOCHS = 6
BASE = FinetuneConfig(epochs=EPOCHS, learning_rate=1e-4, block=100.0)


class Clock:
    """Time that passes only as fine-tuning says."""

    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


class Quick:
    """Stands for ``finetune``: best at a learning rate of 1e-2, better without neighbours, a second an epoch."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.calls, self.after_epoch = clock, [], lambda n: None

    def __call__(
        self, model: Any, tables: Any, labels: Any, config: FinetuneConfig, *, holdout: Any, on_epoch: Any, **_: Any
    ) -> Any:
        best = 0.9 - 0.1 * abs(np.log10(config.learning_rate) + 2) + 0.02 * (not config.neighbours)
        self.calls.append({"config": config, "labels": labels, "holdout": holdout, "epochs": 0, "ended": False})
        for epoch in range(1, config.epochs + 1):
            self.clock.time += 1
            self.calls[-1]["epochs"] = epoch
            self.after_epoch(sum(c["epochs"] for c in self.calls))
            on_epoch(epoch, {"macro_f1": best * epoch / config.epochs})
        self.calls[-1]["ended"] = True
        return Stub(config, best)


class Stub:
    """Stands for a fine-tuned model."""

    def __init__(self, config: FinetuneConfig, score: float) -> None:
        self.config, self.provenance = config, {"finetune": {"scores": {"macro_f1": score}}}

    def save(self, folder: Path, overwrite: bool) -> None:
        folder.mkdir(parents=True, exist_ok=overwrite)
        (folder / "rate.json").write_text(json.dumps([self.config.learning_rate]))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Quick:
    clock = Clock()
    quick = Quick(clock)
    monkeypatch.setattr(finetune_module, "finetune", quick)
    monkeypatch.setattr(tune_search, "now", clock)
    monkeypatch.setattr(tune_scores, "HeadBaseline", Guess)
    monkeypatch.setattr(tune_scores, "model_calls", lambda model, tables, device: np.full(tables[0].n_obs, "A", object))
    monkeypatch.setattr(tune_search, "load_model", lambda folder: folder)
    return quick


class Guess:
    """Stands for the few-shot head."""

    def __init__(self, *_: Any) -> None: ...

    def calls(self, labels: Any, seed: int) -> Any:
        return np.where([n is None for n in labels], "A", labels)


@pytest.fixture
def labels(table: AnnData) -> pd.Series:
    """Three classes all over the section, on every third cell."""
    names = np.random.default_rng(0).choice(["A", "B", "C"], table.n_obs).astype(object)
    names[np.arange(table.n_obs) % 3 > 0] = None
    return pd.Series(names, index=table.obs_names)


def search(table: AnnData, labels: pd.Series, **more: Any) -> Any:
    return tune("default", table, labels, **{"config": BASE, "space": SPACE, "budget": 1000, "trials": 25, **more})


def test_finds_the_best_settings_and_reports_defaults_neighbours_and_head(table, labels, quick) -> None:
    tuned = search(table, labels)
    assert 1e-3 < tuned.config.learning_rate < 1e-1
    assert tuned.config.epochs == EPOCHS
    assert list(tuned.trials["kind"][:3]) == ["few-shot head", "defaults", "no neighbours"]
    assert quick.calls[0]["config"].neighbours
    assert not quick.calls[1]["config"].neighbours
    assert set(tuned.search_scores) == set(tuned.scores) == {"tuned", "defaults", "no neighbours", "few-shot head"}
    assert tuned.search_scores["tuned"] == max(tuned.trials["score"][1:])
    assert tuned.search_scores["no neighbours"] == pytest.approx(0.72)
    assert tuned.search_scores["tuned"] > tuned.search_scores["no neighbours"] > tuned.search_scores["defaults"]
    states = tuned.trials["state"].value_counts()
    assert states["pruned"] > 0
    assert sum(c["epochs"] for c in quick.calls) < 0.8 * 25 * EPOCHS


def test_cells_held_back_are_seen_by_no_trial_and_splits_are_a_buffer_apart(table, labels, quick, monkeypatch) -> None:
    scored = []
    monkeypatch.setattr(tune_scores, "macro_f1", lambda truth, called, cells: scored.append(cells) or 0.5)
    search(table, labels, trials=3)
    xy = table.obsm["spatial"]
    call = quick.calls[0]
    seen = ~np.equal(call["labels"], None)
    test = call["holdout"] & seen
    train = seen & ~test
    held_back = scored[-1]
    assert held_back.sum() > 20
    assert not (held_back & seen).any()
    assert cdist(xy[held_back], xy[seen]).min() > BASE.buffer
    assert cdist(xy[test], xy[train]).min() > BASE.buffer
    assert all((c["holdout"] == call["holdout"]).all() for c in quick.calls)


def test_same_seed_same_file_and_finetune_can_read_it(table, labels, quick, tmp_path) -> None:
    texts = []
    for name in ("a.yaml", "b.yaml"):
        write_config(search(table, labels, trials=6), tmp_path / name)
        texts.append((tmp_path / name).read_bytes())
    assert texts[0] == texts[1]
    assert b"never saw: tuned" in texts[0]
    assert FinetuneConfig(**yaml.safe_load(texts[0])) == search(table, labels, trials=6).config
    assert (
        search(table, labels, trials=6, seed=5).trials["learning_rate"][5]
        != search(table, labels, trials=6).trials["learning_rate"][5]
    )


def test_the_budget_stops_a_trial_between_epochs_and_keeps_the_best(table, labels, quick) -> None:
    tuned = search(table, labels, budget=2.5 * EPOCHS, trials=None)
    assert quick.clock.time <= 2.5 * EPOCHS
    assert list(tuned.trials["state"]) == ["complete", "complete", "complete", "stopped"]
    assert 0 < quick.calls[-1]["epochs"] < EPOCHS
    # What ended in time counts. Without neighbours it is a little better, by less than chance on so few cells.
    assert tuned.search_scores["no neighbours"] > tuned.search_scores["tuned"] == tuned.search_scores["defaults"]
    assert tuned.config == BASE
    assert "not clearly better" in tuned.reason
    hurried = search(table, labels, budget=2, trials=None)
    assert hurried.config == BASE
    assert "No trial ended" in hurried.reason
    assert "tuned" not in hurried.scores


def test_goes_on_after_a_kill_and_refuses_another_task(table, labels, quick, tmp_path) -> None:
    class Killed(BaseException): ...

    def kill(epochs: int) -> None:
        if epochs == 2 * EPOCHS + 2:
            raise Killed

    quick.after_epoch = kill
    with pytest.raises(Killed):
        search(table, labels, storage=tmp_path / "search")
    cut_short = quick.calls[2]["config"]
    tuned = search(table, labels, storage=tmp_path / "search", trials=5)
    assert [c["config"] for c in quick.calls[3:4]] == [cut_short]
    assert len(quick.calls) == 6
    assert list(tuned.trials["state"]).count("stopped") == 1
    # Models of trials from before the kill are still there to be scored.
    assert set(tuned.scores) == {"tuned", "defaults", "no neighbours", "few-shot head"}
    lines = (tmp_path / "search" / "journal.jsonl").read_text().splitlines()
    assert all(isinstance(json.loads(line), dict) for line in lines)
    with pytest.raises(StplmError, match="another labels"):
        search(table, labels.replace("A", "B2"), storage=tmp_path / "search")


def test_cross_validation_scores_each_fold(table, labels, quick) -> None:
    search(table, labels, folds=3, trials=1)
    held = [c["holdout"] & ~np.equal(c["labels"], None) for c in quick.calls]
    assert len(held) == 3
    assert not (held[0] & held[1]).any()


def test_cancel_and_what_is_missing(table, labels, quick, monkeypatch) -> None:
    def cancel(done: int, total: int) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        search(table, labels, progress=cancel)
    with pytest.raises(ValueError, match="no field 'rate'"):
        search(table, labels, space={"rate": [1]})
    del table.obsm["spatial"]
    with pytest.raises(StplmError, match="without positions"):
        search(table, labels)
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(StplmError, match=r"stplm-napari\[train\]"):
        search(table, labels)


def test_optuna_stays_silent_and_is_left_as_it_was(table, labels, quick, capfd) -> None:
    optuna = pytest.importorskip("optuna")
    before = optuna.logging.get_verbosity()
    search(table, labels, trials=3)
    assert optuna.logging.get_verbosity() == before
    assert "rial" not in capfd.readouterr().err


def test_real_fine_tuning_on_two_sections_from_the_command_line(table, tmp_path, capsys) -> None:
    epcam = table.X[:, table.var_names == "EPCAM"].toarray().ravel()
    names = np.where(epcam > 3, "high", "low").astype(object)
    names[np.arange(table.n_obs) % 5 > 0] = np.nan
    table.obs["type"] = names
    sections = [tmp_path / "left.h5ad", tmp_path / "right.h5ad"]
    left = table.obsm["spatial"][:, 0] < np.median(table.obsm["spatial"][:, 0])
    for path, half in zip(sections, (left, ~left), strict=True):
        table[half].copy().write_h5ad(path)
    start, out = tmp_path / "start.yaml", tmp_path / "settings.yaml"
    start.write_text("epochs: 2\nblock: 100.0\n")
    parser = argparse.ArgumentParser()
    add_tune(parser.add_subparsers())
    words = ["tune", *sections, "--labels", "type", "--budget", "2m", "--trials", "2"]
    words += ["--config", start, "--tumour-classes", "high", "--out", out]
    arguments = parser.parse_args(list(map(str, words)))
    arguments.run(arguments)
    said = capsys.readouterr().out
    assert "few-shot head" in said
    assert "no neighbours" in said
    assert "never saw" in said
    recipe = read_recipe(out, FinetuneRecipe)
    assert (recipe.epochs, recipe.block, recipe.tumour_classes) == (2, 100.0, ("high",))
    assert recipe.settings().refit
