"""Screens of gene tokens: what a race runs is what a perturbation gives, and the best genes come out of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData

import stplm
from stplm.errors import Cancelled
from stplm.models import Model, build_encoder
from stplm.tasks import perturb_screen
from stplm.tasks.cells import prepare_cells, table_genes
from stplm.tasks.perturb_lab import build_lab
from stplm.tasks.perturb_race import FIRST, Race
from stplm.tasks.perturb_result import Perturbation
from stplm.tasks.perturb_run import Lab
from stplm.tasks.perturb_screen import Screened, screen
from stplm.tasks.perturb_sets import GeneSets, gene_sets
from stplm.tasks.perturb_store import MemoryStore

QUICK: dict[str, Any] = {"nulls": 0, "spatial": False}
CELLS = np.arange(0, 300, 2)
TOP = 6


@pytest.fixture(scope="module")
def model(_demo_embedded: AnnData) -> Model:
    genes = [g for g in table_genes(_demo_embedded) if g]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        sizes = {"layers": 2, "hidden": 32, "heads": 2, "feed_forward": 32, "max_length": 400}
        encoder = build_encoder("rank", genes, sizes).eval()
        with torch.no_grad():
            encoder.gene_embedding.normal_()
    return Model(encoder, "small", preset="rank")


@pytest.fixture(scope="module")
def exact(_demo_embedded: AnnData, model: Model) -> Perturbation:
    return stplm.perturb(_demo_embedded, model, cells=CELLS, **QUICK)


def _lab(table: AnnData, model: Model) -> tuple[Lab, GeneSets]:
    cells = prepare_cells(table, model.encoder.genes, model.encoder.config)
    nothing = dict.fromkeys(("goal", "start", "states", "classifier"))
    options: dict[str, Any] = {"mode": "delete", "measure": "cell", "dtype": "float32", "seed": 0}
    lab = build_lab(table, model, cells, CELLS, **options, **nothing)
    return lab, gene_sets(table, lab.known, "all")


def test_the_best_genes_come_out_and_are_run_in_all_cells(table: AnnData, model: Model, exact: Perturbation) -> None:
    found = stplm.perturb(table, model, cells=CELLS, top=TOP, **QUICK)
    assert len(found.genes) == TOP
    often = exact.genes[exact.genes["detections"] >= 10].sort_values("shift", ascending=False)
    assert len(set(often["genes"][:TOP]) & set(found.genes["genes"])) >= TOP - 2, "of genes that hardly differ"
    assert found.genes["shift"].min() > often["shift"].quantile(0.8)
    same = exact.genes.set_index("genes").loc[found.genes["genes"], ["detections", "shift"]]
    np.testing.assert_array_equal(found.genes["detections"], same["detections"])
    np.testing.assert_allclose(found.genes["shift"], same["shift"], rtol=1e-4)
    screened, run = found.info["screened"], found.info["screened_cells"]
    assert list(screened) == list(run)
    assert all(run[name] >= FIRST for name in found.genes["genes"])
    detections = exact.genes.set_index("genes")["detections"]
    assert all(n <= detections[name] for name, n in run.items())
    assert sum(run.values()) < 0.8 * detections.sum()
    for name in found.genes["genes"]:
        np.testing.assert_allclose(found.per_cell(name), exact.per_cell(name), atol=1e-6)
    again = stplm.perturb(table, model, cells=CELLS, top=TOP, **QUICK)
    pd.testing.assert_frame_equal(again.genes, found.genes)
    assert again.info["screened"] == screened


def test_a_race_runs_what_a_perturbation_runs(table: AnnData, model: Model, exact: Perturbation) -> None:
    lab, sets = _lab(table, model)
    order = np.random.default_rng(0).permutation(CELLS)
    steps: list[int] = []
    race = Race(lab, order, sets, "shift", steps.append)
    genes = np.flatnonzero(race.cells > 5)[[3, 40, 80]]
    race.run(genes, 3)
    race.run(genes, 5)
    assert sum(steps) == sum(len(v) for v in race.found) == 15
    for gene in genes:
        values = exact.per_cell(sets.names[gene])
        first = order[np.isfinite(values[order])][:5]
        np.testing.assert_allclose(sorted(race.found[gene]), sorted(values[first]), atol=1e-6)
    race.run(genes, 10_000)
    mean, error = race.means()
    means = exact.genes.set_index("genes")["shift"]
    np.testing.assert_allclose(mean[genes], means[[sets.names[g] for g in genes]], rtol=1e-4)
    np.testing.assert_array_equal(error[genes], 0)
    others = np.setdiff1d(np.arange(len(sets)), genes)
    assert np.isinf(error[others]).all()


def test_a_race_with_wide_limits_finds_the_exact_best(table: AnnData, model: Model, exact: Perturbation) -> None:
    lab, sets = _lab(table, model)
    race = Race(lab, np.random.default_rng(1).permutation(CELLS), sets, "shift")
    often = np.flatnonzero(race.cells >= 10)
    found = race.winners(often, TOP, z=50.0, most=10_000)
    best = exact.genes.iloc[often].sort_values("shift", ascending=False)["genes"][:TOP]
    assert [sets.names[i] for i in found] == list(best)
    known = race.known(found)
    assert len(known.keys) == race.cells[found].sum()
    assert (np.diff(known.keys) > 0).all()
    assert (np.diff(known.cells) > 0).all()


def test_a_run_that_goes_on_does_not_screen_again(
    table: AnnData, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"

    def stop(done: int, total: int) -> None:
        if (out / "screened.json").is_file():
            raise Cancelled

    with pytest.raises(Cancelled):
        stplm.perturb(table, model, cells=CELLS, top=TOP, out=out, progress=stop, **QUICK)
    kept = Screened.of((out / "screened.json").read_text(encoding="utf-8"))
    monkeypatch.setattr(perturb_screen, "screen", lambda *_, **__: pytest.fail("screened again"))
    found = stplm.perturb(table, model, cells=CELLS, top=TOP, out=out, **QUICK)
    assert len(found.genes) == len(kept.kept) == TOP
    assert Perturbation.load(out).info["screened_cells"] == found.info["screened_cells"]


def test_what_is_written_reads_back() -> None:
    found = Screened(np.array([1, 2]), np.array([np.nan, 0.5, 0.25]), np.array([0, 4, 0]))
    read = Screened.of(found.to_json())
    np.testing.assert_array_equal(read.effects, found.effects)
    np.testing.assert_array_equal(read.cells, found.cells)
    np.testing.assert_array_equal(read.kept, found.kept)


def test_fewer_genes_than_wanted_are_all_kept(table: AnnData, model: Model) -> None:
    lab, sets = _lab(table, model)
    few = sets.take(np.arange(5))
    found = screen(lab, CELLS, few, "shift", 20)
    expressed = np.asarray((table.X[CELLS][:, lab.known[:5]] > 0).sum(0)).ravel()
    assert set(found.kept) <= set(np.flatnonzero(expressed > 0))


def test_variants_beyond_what_memory_holds_are_kept_all_the_same(table: AnnData, tmp_path: Path) -> None:
    whole = stplm.perturb(table, genes=["EPCAM", "LUM", "KRT8"], **QUICK)
    store = MemoryStore(most=300)
    for part, frames in enumerate(_parts(whole)):
        store.put(part, *frames)
        assert store.has(part)
    assert not store.has(9)
    pd.testing.assert_frame_equal(pd.concat(store.variants(), ignore_index=True), whole.variants())
    few = pd.concat(store.variants(["cell", "shift"], 1), ignore_index=True)
    np.testing.assert_array_equal(few["shift"], whole.variants("LUM")["shift"])
    whole.store = store
    read = Perturbation.load(whole.save(tmp_path / "kept"))
    pd.testing.assert_frame_equal(read.variants(), whole.variants())


def _parts(found: Perturbation) -> list[tuple[pd.DataFrame, pd.DataFrame]]:
    """A perturbation's variants in four parts."""
    frame, sums = found.variants(), pd.concat(found.store.sums())
    return [(frame.iloc[rows].reset_index(drop=True), sums) for rows in np.array_split(np.arange(len(frame)), 4)]
