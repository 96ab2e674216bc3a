"""Attributions: what is said of a gene is what deleting it by hand does, and markers speak for their classes."""

from __future__ import annotations

from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData
from scipy import sparse

import stplm
from stplm import keys
from stplm.errors import Cancelled, LabelError, ModelError, SectionError
from stplm.models import Model, build_encoder
from stplm.nn.heads import ClassHeads, HeadsConfig
from stplm.tasks.apply import apply_heads
from stplm.tasks.cells import table_genes
from stplm.tasks.classifier import Classifier
from stplm.tasks.features import cell_features

TOLERANCE = 2e-5
"""Natural units of log-odds: scores add up in float32."""


@pytest.fixture(scope="module")
def classified(_demo_embedded: AnnData, _seeds: pd.Series) -> tuple[AnnData, Classifier]:
    table = _demo_embedded.copy()
    classifier = stplm.fit_classifier(table, _seeds, seeded=True)
    return stplm.predict(table, classifier), classifier


def _log_odds(classifier: Classifier, table: AnnData, of: str, against: str | None = None) -> np.ndarray:
    """Of an embedded table's cells, from the definition."""
    logits = classifier.logits(cell_features(table))
    proba = np.exp(logits - logits.max(1, keepdims=True))
    proba /= proba.sum(1, keepdims=True)
    own = proba[:, classifier.classes.index(of)]
    other = 1 - own if against is None else proba[:, classifier.classes.index(against)]
    return np.log(own / other)


def _without_each_gene(table: AnnData, row: int) -> tuple[AnnData, np.ndarray]:
    """The cell as it is, then without one gene after the other; and the columns of these genes."""
    cell = table.X[row].toarray().ravel()
    genes = np.flatnonzero(cell)
    variants = np.tile(cell, (len(genes) + 1, 1))
    variants[np.arange(1, len(variants)), genes] = 0
    made = anndata.AnnData(variants.astype(np.int32), var=table.var.copy())
    made.obs_names = [f"v{i}" for i in range(len(variants))]
    return stplm.embed(made, clusters=0), genes


@pytest.mark.parametrize("against", [None, "B cell"])
def test_it_is_what_deleting_a_gene_by_hand_does(classified: tuple[AnnData, Classifier], against: str | None) -> None:
    table, classifier = classified
    few = np.flatnonzero(table.obs[keys.CLASS].isin(["Tumour", "T cell", "Macrophage"]))[::90]
    found = stplm.attribute(table, classifier, few, against=against)
    for row in few:
        name = str(table.obs[keys.CLASS].iloc[row])
        variants, genes = _without_each_gene(table, row)
        odds = _log_odds(classifier, variants, name, against)
        mine = found[found["cell"] == table.obs_names[row]].set_index("gene").loc[table.var_names[genes]]
        np.testing.assert_allclose(mine["attribution"], odds[0] - odds[1:], atol=TOLERANCE)
        np.testing.assert_allclose(mine["log_odds"], odds[0], atol=TOLERANCE)
        np.testing.assert_array_equal(mine["counts"], table.X[row].toarray().ravel()[genes])
        assert set(mine["of"]) == {name}


def test_with_gene_tokens_the_neighbours_stay(table: AnnData) -> None:
    near = np.argsort(np.hypot(*(table.obsm["spatial"] - table.obsm["spatial"][200]).T))[:24]
    table = table[near].copy()
    stplm.embed(table, "rank-breast", clusters=0)
    classifier = stplm.fit_classifier(table, {c: "AB"[i % 2] for i, c in enumerate(table.obs_names[:8])})
    found = stplm.attribute(table, classifier, [3], "rank-breast", of="A")
    assert len(found) == (table.X[3] > 0).sum()
    before = _log_odds(classifier, table, "A")[3]
    for _, gene in found.iloc[[0, 5, -1]].iterrows():
        edited = table.copy()
        counts = edited.X.toarray()
        counts[3, edited.var_names.get_loc(gene["gene"])] = 0
        edited.X = sparse.csr_matrix(counts)
        after = _log_odds(classifier, stplm.embed(edited, "rank-breast", clusters=0), "A")[3]
        assert gene["attribution"] == pytest.approx(before - after, abs=5e-4)


def _tuned(table: AnnData, preset: str, *, neighbours: bool) -> Model:
    """A model whose heads say something of every cell, untrained."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        genes = [g for g in table_genes(table) if g]
        if preset == "tissue":
            model = stplm.load_model()
        else:
            sizes = {"layers": 1, "hidden": 16, "heads": 2, "feed_forward": 16, "max_length": 400}
            model = Model(build_encoder(preset, genes, sizes).eval(), "small", preset=preset)
        config = HeadsConfig(
            model.dim, ("Tumour", "Immune", "Stromal"), ("Tumour",), genes=tuple(genes[:40]), neighbours=neighbours
        )
        model.heads = ClassHeads(config).eval()
        model.heads.set(temperature=1.4)
        with torch.no_grad():
            for name in ("types", "tumour", "skip"):
                getattr(model.heads, name).weight.normal_(std=0.3)
    return model


@pytest.mark.parametrize(("preset", "neighbours"), [("tissue", True), ("tissue", False), ("rank", True)])
def test_a_fine_tuned_model_is_asked_by_its_own_heads(table: AnnData, preset: str, neighbours: bool) -> None:
    model, cell = _tuned(table, preset, neighbours=neighbours), 300
    found = stplm.attribute(table, model, [cell], of="Tumour").set_index("gene")
    assert len(found) == (table.X[cell] > 0).sum()

    def odds(cells: AnnData) -> float:
        tumour = float(apply_heads(cells, model).obs[keys.TUMOUR].iloc[cell])
        return float(np.log(tumour / (1 - tumour)))

    before = odds(table.copy())
    assert found["log_odds"].iloc[0] == pytest.approx(before, abs=1e-4)
    expected = {}
    for gene in (*found.index[:3], found.index[-1]):
        edited = table.copy()
        counts = edited.X.tolil()
        counts[cell, edited.var_names.get_loc(gene)] = 0
        edited.X = counts.tocsr()
        expected[gene] = before - odds(edited)
    given = found.loc[list(expected), "attribution"].to_numpy()
    assert np.abs(given).max() > 0.01
    assert np.abs(given - list(expected.values())).max() < 0.02 * np.abs(given).max()


def test_a_fine_tuned_folder_will_do_and_another_model_will_not(table: AnnData, tmp_path: Path) -> None:
    model = _tuned(table, "tissue", neighbours=True)
    folder = model.save(tmp_path / "tuned")
    found = stplm.attribute(table, folder, [7, 11])
    assert set(found["of"]) <= {"Tumour", "Immune", "Stromal"}
    pd.testing.assert_frame_equal(found, stplm.attribute(table, model, [7, 11]))
    with pytest.raises(ModelError, match="its own vectors"):
        stplm.attribute(table, folder, [0], "rank-breast")


def test_markers_speak_for_their_class(classified: tuple[AnnData, Classifier]) -> None:
    table, classifier = classified
    for name, genes in {"Tumour": ["EPCAM", "KRT7", "KRT8"], "T cell": ["CD3E", "CD3D", "TRAC"]}.items():
        mask = (table.obs[keys.CLASS] == name).to_numpy()
        found = stplm.attribute(table, classifier, mask)
        mean = found.groupby("gene", observed=True)["attribution"].mean()
        assert (mean[genes] > 0.05).all()
        assert (mean[genes] > mean.quantile(0.8)).all(), "and more than most"
        first = found[found["gene"].isin(genes)]["attribution"]
        assert (first > 0).mean() > 0.95


def test_a_cell_by_itself_says_what_it_says_among_all(classified: tuple[AnnData, Classifier]) -> None:
    table, classifier = classified
    alone = table[[700]].copy()
    logits = classifier.logits(cell_features(alone))
    np.testing.assert_allclose(logits, classifier.logits(cell_features(table))[[700]], atol=TOLERANCE)
    one = stplm.attribute(alone, classifier, [0])
    all_of_them = stplm.attribute(table, classifier, np.arange(650, 750))
    mine = all_of_them[all_of_them["cell"] == table.obs_names[700]].set_index("gene")
    np.testing.assert_allclose(one["attribution"], mine.loc[one["gene"], "attribution"], atol=TOLERANCE)
    pd.testing.assert_frame_equal(one, stplm.attribute(alone, classifier, [0]))


def test_a_saved_classifier_and_unknown_genes_will_do(classified: tuple[AnnData, Classifier], tmp_path: Path) -> None:
    table, classifier = classified
    folder = classifier.save(tmp_path / "head")
    named = table[:3].copy()
    extra = anndata.AnnData(np.full((3, 1), 4, np.int32), obs=named.obs[[]], var=pd.DataFrame(index=["NOT-A-GENE"]))
    joined = anndata.concat([named, extra], axis=1)
    joined.uns = dict(named.uns)
    found = stplm.attribute(joined, folder, joined.obs_names[:1], of="Stromal")
    assert list(found["cell"].unique()) == [table.obs_names[0]]
    assert list(found["attribution"]) == sorted(found["attribution"], reverse=True)
    assert "NOT-A-GENE" in set(found["gene"]), "it counts for the depth"


def test_a_cell_without_counts_has_no_row(classified: tuple[AnnData, Classifier]) -> None:
    table, classifier = classified
    cells = table[:2].copy()
    cells.X = sparse.csr_matrix(cells.X.toarray() * np.array([[0], [1]], np.int32))
    assert set(stplm.attribute(cells, classifier, [0, 1])["cell"]) == {table.obs_names[1]}
    assert len(stplm.attribute(cells, classifier, [0])) == 0


def test_refusals_say_what_to_do(classified: tuple[AnnData, Classifier]) -> None:
    table, classifier = classified
    with pytest.raises(LabelError, match="Tumor"):
        stplm.attribute(table, classifier, [0], of="Tumor")
    with pytest.raises(LabelError, match="itself"):
        stplm.attribute(table, classifier, [0], of="Tumour", against="Tumour")
    with pytest.raises(SectionError, match="No cell"):
        stplm.attribute(table, classifier, [])
    with pytest.raises(ModelError, match="another model"):
        stplm.attribute(table, classifier, [0], "rank-breast")
    with pytest.raises(ModelError, match="not learned any classes"):
        stplm.attribute(table, stplm.load_model(), [0])

    def stop(done: int, total: int) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        stplm.attribute(table, classifier, [0], progress=stop)
