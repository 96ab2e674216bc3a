"""Perturbation as a user calls it: which cells and genes, what is measured, what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import stplm
from stplm import keys
from stplm.errors import Cancelled, ExportError, GeneError, LabelError, ModelError, SectionError, StplmError
from stplm.tasks.classifier import Classifier
from stplm.tasks.perturb_result import Perturbation

NO_PROGRESS = {"nulls": 0, "spatial": False}


@pytest.fixture(scope="module")
def classified(_demo_embedded: AnnData, _seeds: pd.Series) -> tuple[AnnData, Classifier]:
    table = _demo_embedded.copy()
    classifier = stplm.fit_classifier(table, _seeds, seeded=True)
    return stplm.predict(table, classifier), classifier


def _of(table: AnnData, name: str) -> np.ndarray:
    return (table.obs[keys.CLASS] == name).to_numpy()


def test_deleting_markers_moves_the_class_away_and_neighbours_less_with_distance(
    classified: tuple[AnnData, Classifier],
) -> None:
    table, classifier = classified
    tumour = _of(table, "Tumour")
    found = stplm.perturb(
        table,
        genes={"epithelial": ["EPCAM", "KRT7", "KRT8", "CDH1", "GATA3", "FOXA1", "TACSTD2"]},
        cells=tumour,
        start="Tumour",
        classifier=classifier,
    )
    row = found.genes.iloc[0]
    assert row["genes"] == "epithelial"
    assert 0 < row["detections"] <= tumour.sum()
    assert row["from_start"] > 0
    assert row["tumour"] < 0
    assert row["class: Tumour"] == pytest.approx(row["own_class"], abs=1e-6)
    assert not row["within_noise"]
    assert row["fdr"] < 0.01
    assert found.rings is not None
    near, far = found.rings.iloc[0], found.rings.iloc[-2]
    assert near["shift"] > 3 * far["shift"]
    response = found.response["epithelial"]
    assert not np.isin(response.cells, np.flatnonzero(np.isfinite(found.per_cell("epithelial")))).any()


def test_of_many_cells_some_are_taken_at_random(table: AnnData) -> None:
    cells = np.arange(0, table.n_obs, 2)
    some, others, all_of_them = (
        stplm.perturb(table, genes=["EPCAM", "LUM"], cells=cells, max_cells=most, seed=seed, **NO_PROGRESS)
        for most, seed in ((100, 0), (100, 1), (10**6, 0))
    )
    assert some.info["cells"] == others.info["cells"] == 100
    assert all_of_them.info["cells"] == len(cells)
    for gene in ("EPCAM", "LUM"):
        here, there = (np.flatnonzero(np.isfinite(found.per_cell(gene))) for found in (some, others))
        assert not np.array_equal(here, there)
        assert np.isin(here, cells).all()
        np.testing.assert_array_equal(some.per_cell(gene)[here], all_of_them.per_cell(gene)[here])
    with pytest.raises(SectionError, match="No cell would be left"):
        stplm.perturb(table, genes=["EPCAM"], max_cells=0)


def test_raised_lineage_genes_lead_to_the_goal(classified: tuple[AnnData, Classifier]) -> None:
    table, classifier = classified
    found = stplm.perturb(
        table,
        genes={"T": ["CD3E", "CD3D", "TRAC", "IL7R"], "luminal": ["EPCAM", "KRT8", "GATA3", "FOXA1"]},
        mode="overexpress",
        cells=_of(table, "Tumour"),
        goal="T cell",
        classifier=classifier,
        **NO_PROGRESS,
    ).genes.set_index("genes")
    assert found.loc["T", "to_goal"] > 0.02
    assert found.loc["T", "class: T cell"] > 0.02
    assert abs(found.loc["luminal", "to_goal"]) < found.loc["T", "to_goal"]


def test_a_screen_has_a_row_for_every_gene_and_a_variant_for_every_expressed_one(few: AnnData) -> None:
    found = stplm.perturb(few, cells=np.arange(40), seed=1)
    assert list(found.genes["genes"]) == list(few.var_names)
    expressed = np.asarray((few.X[:40] > 0).sum(0)).ravel()
    np.testing.assert_array_equal(found.genes["detections"], expressed)
    assert len(found.variants()) == expressed.sum()
    tested = found.genes["p_value"].notna()
    assert (found.genes.loc[tested, "fdr"] >= found.genes.loc[tested, "p_value"] - 1e-12).all()
    one = found.genes.sort_values("detections").iloc[-1]["genes"]
    values = found.per_cell(one)
    assert np.isnan(values[40:]).all()
    assert np.nanmean(values) == pytest.approx(found.genes.set_index("genes").loc[one, "shift"], rel=1e-5)


def test_the_same_seed_gives_the_same_table(few: AnnData) -> None:
    tables = [stplm.perturb(few, genes=["EPCAM", "LUM"], nulls=5).genes for _ in range(2)]
    pd.testing.assert_frame_equal(*tables)


def test_random_loss_is_within_noise_and_a_lost_lineage_is_not(classified: tuple[AnnData, Classifier]) -> None:
    table, _ = classified
    found = stplm.perturb(table, cells=_of(table, "T cell"), nulls=0, spatial=False).genes.set_index("genes")
    assert not found.loc["CD3E", "within_noise"]
    often = found[found["detections"] >= 20]
    assert 0 < often["within_noise"].sum() < len(often)
    assert (often.loc[often["within_noise"], "shift"] <= often.loc[often["within_noise"], "noise"]).all()


@pytest.mark.parametrize("mode", ["overexpress", "inhibit", "activate"])
def test_every_mode_moves_cells(few: AnnData, mode: str) -> None:
    found = stplm.perturb(few, genes=["KRT8"], mode=mode, **NO_PROGRESS).genes.iloc[0]
    assert found["detections"] == (300 if mode == "overexpress" else int((few[:, "KRT8"].X > 0).sum()))
    assert found["shift"] > 0


def test_groups_and_pairs(few: AnnData) -> None:
    three = ["EPCAM", "KRT8", "LUM"]
    pairs = stplm.perturb(few, genes=three, combine="pairs", **NO_PROGRESS).genes
    assert list(pairs["genes"]) == ["EPCAM + KRT8", "EPCAM + LUM", "KRT8 + LUM"]
    together = stplm.perturb(few, genes=three, combine="together", **NO_PROGRESS).genes
    assert len(together) == 1
    any_of = int((few[:, three].X.sum(1) > 0).sum())
    assert together["detections"][0] == any_of
    assert together["dose"][0] > pairs["dose"].min()


def test_a_gradient_screen_runs_twice_the_top_and_keeps_the_strongest(table: AnnData) -> None:
    cells = np.arange(500)
    exact = stplm.perturb(table, cells=cells, **NO_PROGRESS).genes
    often = exact[exact["detections"] >= 30].sort_values("shift", ascending=False)
    found = stplm.perturb(table, cells=cells, top=30, **NO_PROGRESS)
    assert len(found.genes) == 60
    assert len(set(often["genes"][:10]) & set(found.genes["genes"])) >= 9
    assert len(found.info["screened"]) >= len(often)


def test_a_run_that_was_stopped_goes_on_and_ends_the_same(table: AnnData, tmp_path: Path) -> None:
    from stplm.tasks import perturb_vectors

    assert perturb_vectors.VariantEncoder.block == 1024  # 1,135 cells: two parts
    out = tmp_path / "run"

    def stop(done: int, total: int) -> None:
        if (out / "parts" / "part-00000.parquet").is_file():
            raise Cancelled

    with pytest.raises(Cancelled):
        stplm.perturb(table, genes=["EPCAM", "LUM"], out=out, progress=stop, **NO_PROGRESS)
    kept = (out / "parts" / "part-00000.parquet").stat().st_mtime_ns
    assert not (out / "parts" / "part-00001.parquet").exists()
    with pytest.raises(StplmError, match="not a finished perturbation"):
        Perturbation.load(out)
    resumed = stplm.perturb(table, genes=["EPCAM", "LUM"], out=out, **NO_PROGRESS)
    assert (out / "parts" / "part-00000.parquet").stat().st_mtime_ns == kept
    whole = stplm.perturb(table, genes=["EPCAM", "LUM"], **NO_PROGRESS)
    pd.testing.assert_frame_equal(resumed.genes, whole.genes)
    loaded = Perturbation.load(out)
    np.testing.assert_array_equal(loaded.per_cell("LUM"), whole.per_cell("LUM"))
    with pytest.raises(ExportError, match="another perturbation"):
        stplm.perturb(table, genes=["KRT8"], out=out, **NO_PROGRESS)


def test_what_is_saved_reads_back(few: AnnData, tmp_path: Path) -> None:
    found = stplm.perturb(few, genes=["EPCAM"], nulls=3)
    read = Perturbation.load(found.save(tmp_path / "kept"))
    pd.testing.assert_frame_equal(read.genes, found.genes)
    pd.testing.assert_frame_equal(read.rings, found.rings)
    np.testing.assert_array_equal(read.response_per_cell("EPCAM"), found.response_per_cell("EPCAM"))
    assert read.info["effect"] == "shift"


def test_the_table_stays_as_it_is(few: AnnData) -> None:
    before = few.copy()
    stplm.perturb(few, genes=["EPCAM"], **NO_PROGRESS)
    assert (few.X != before.X).nnz == 0
    assert list(few.obs) == list(before.obs)
    assert not few.obsm.keys() - before.obsm.keys()


def test_where_all_cells_are_perturbed_nobody_is_around(few: AnnData) -> None:
    found = stplm.perturb(few, genes=["ERBB2"], mode="overexpress", nulls=0)
    assert found.rings is not None
    assert len(found.rings) == 0
    assert np.isnan(found.response_per_cell("ERBB2")).all()


def test_progress_reaches_its_total(few: AnnData) -> None:
    seen: list[tuple[int, int]] = []
    stplm.perturb(few, genes=["EPCAM"], nulls=3, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1][0] == seen[-1][1] > 0
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_refusals_say_what_to_do(few: AnnData, classified: tuple[AnnData, Classifier]) -> None:
    with pytest.raises(GeneError, match="EPCAN") as wrong:
        stplm.perturb(few, genes=["EPCAN"])
    assert "EPCAM" in str(wrong.value)
    with pytest.raises(StplmError, match="overexpress"):
        stplm.perturb(few, genes=["EPCAM"], mode="remove")
    with pytest.raises(SectionError, match="No cell was chosen"):
        stplm.perturb(few, genes=["EPCAM"], cells=np.zeros(few.n_obs, dtype=bool))
    with pytest.raises(LabelError, match="none"):
        stplm.perturb(few, genes=["EPCAM"], goal="Tumour")
    table, classifier = classified
    with pytest.raises(LabelError, match="Tumor"):
        stplm.perturb(table, genes=["EPCAM"], goal="Tumor")
    with pytest.raises(StplmError, match="gene tokens"):
        stplm.perturb(few, genes=["EPCAM"], measure="cls")
    with pytest.raises(ModelError, match="another model"):
        stplm.perturb(table, "rank-breast", genes=["EPCAM"], cells=[0], classifier=classifier, **NO_PROGRESS)
    with pytest.raises(StplmError, match="Only deletions"):
        stplm.perturb(few, mode="activate", top=5, **NO_PROGRESS)


def test_without_positions_there_are_no_neighbours(few: AnnData) -> None:
    del few.obsm[keys.SPATIAL]
    assert stplm.perturb(few, genes=["EPCAM"], nulls=0).rings is None
    with pytest.raises(SectionError, match="no positions"):
        stplm.perturb(few, genes=["EPCAM"], nulls=0, spatial=True)
