"""Few-shot typing: what labels may be, what is refused, what a prediction promises."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData, read_h5ad
from spatialdata import SpatialData
from spatialdata.models import TableModel

import stplm
from stplm import keys
from stplm.errors import LabelError, ModelError
from stplm.tasks.classifier import Classifier


def _arrays(classifier: Classifier) -> bytes:
    arrays = (classifier.dense, classifier.level, classifier.bias, classifier.log_prior)
    return b"".join(a.tobytes() for a in arrays) + str(classifier.to_dict()).encode()


def _predictions(table: AnnData) -> tuple[list[str], np.ndarray]:
    return list(table.obs[keys.CLASS].astype(str)), table.obsm[keys.PROBA]


def test_what_is_written(embedded: AnnData, seeds: pd.Series) -> None:
    classifier = stplm.fit_classifier(embedded, seeds, seeded=True)
    table = stplm.predict(embedded, classifier)
    assert table is embedded
    classes = sorted(seeds.dropna().unique())
    proba, note = table.obsm[keys.PROBA], table.uns[keys.UNS][keys.UNS_PREDICTION]
    assert list(table.obs[keys.CLASS].cat.categories) == classes == note["classes"]
    assert proba.shape == (1135, len(classes))
    assert proba.dtype == table.obs[keys.CONFIDENCE].dtype == table.obs[keys.TUMOUR].dtype == np.float32
    np.testing.assert_allclose(proba.sum(1), 1, atol=1e-5)
    assert np.array_equal(table.obs[keys.CONFIDENCE], proba.max(1))
    assert np.array_equal(table.obs[keys.TUMOUR], proba[:, classes.index("Tumour")])
    assert note["tumour_classes"] == ["Tumour"]
    assert note["model"] == "tissue-breast"
    assert note["seeded"] is True
    assert note["n_labels"] == int(seeds.notna().sum())
    # What it was told, it repeats.
    known = seeds.notna().to_numpy()
    assert (table.obs[keys.CLASS].astype(str)[known] == seeds[known]).mean() > 0.95


def test_the_same_seed_gives_the_same_bytes(embedded: AnnData, seeds: pd.Series) -> None:
    one, again = (stplm.fit_classifier(embedded.copy(), seeds, seed=3) for _ in range(2))
    assert _arrays(one) == _arrays(again)
    tables = [stplm.predict(embedded.copy(), c) for c in (one, again)]
    assert tables[0].obsm[keys.PROBA].tobytes() == tables[1].obsm[keys.PROBA].tobytes()


def test_labels_in_any_form_say_the_same(embedded: AnnData, seeds: pd.Series) -> None:
    embedded.obs["mine"] = pd.Categorical(seeds)
    forms = [
        seeds,
        seeds.dropna().sample(frac=1, random_state=0),
        seeds.astype(object).where(seeds.notna(), np.nan),
        "mine",
        seeds.dropna().to_dict(),
        list(seeds),
        seeds.to_numpy(),
        seeds.where(seeds.notna(), "  "),
    ]
    assert len({_arrays(stplm.fit_classifier(embedded, form)) for form in forms}) == 1


def test_class_names_may_be_numbers(embedded: AnnData, seeds: pd.Series) -> None:
    codes = seeds.map({"Tumour": 1, "Stromal": 2, "T cell": 3})
    classifier = stplm.fit_classifier(embedded, codes)
    assert classifier.classes == ["1.0", "2.0", "3.0"]
    assert classifier.tumour_classes == []


@pytest.mark.parametrize("per_class", [1, 2, 5])
def test_two_classes_and_few_labels(embedded: AnnData, seeds: pd.Series, per_class: int) -> None:
    two = pd.concat([seeds[seeds == name].head(per_class) for name in ("Tumour", "Stromal")])
    table = stplm.predict(embedded, stplm.fit_classifier(embedded, two))
    proba = table.obsm[keys.PROBA]
    assert np.isfinite(proba).all()
    others = seeds.drop(two.index)
    for name in ("Tumour", "Stromal"):
        cells = others.index[others == name]
        assert (table.obs.loc[cells, keys.CLASS] == name).mean() > 0.8


def test_one_label_for_each_class(embedded: AnnData, seeds: pd.Series) -> None:
    one = seeds.dropna().groupby(seeds.dropna()).head(1)
    table = stplm.predict(embedded, stplm.fit_classifier(embedded, one))
    rest = seeds.dropna().drop(one.index)
    assert (table.obs[keys.CLASS].astype(str)[rest.index] == rest).mean() > 0.8


def test_it_answers_within_a_second(embedded: AnnData, seeds: pd.Series) -> None:
    import time

    stplm.fit_classifier(embedded, seeds)
    start = time.process_time()
    stplm.fit_classifier(embedded, seeds)
    assert time.process_time() - start < 1.0


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({}, "no label"),
        ({0: "Tumour", 1: "Tumour"}, "2 labels, all 'Tumour'"),
    ],
)
def test_fewer_than_two_classes(embedded: AnnData, labels: dict[int, str], message: str) -> None:
    series = pd.Series({embedded.obs_names[i]: name for i, name in labels.items()}, dtype=object)
    with pytest.raises(LabelError, match=f"(?s)two classes.*{message}"):
        stplm.fit_classifier(embedded, series)


def test_labels_that_cannot_be_used(embedded: AnnData, seeds: pd.Series) -> None:
    with pytest.raises(LabelError, match=rf"(?s)not in this section.*2 of {seeds.notna().sum() + 2}"):
        stplm.fit_classifier(embedded, pd.concat([seeds, pd.Series({"x-1": "Tumour", "y-1": "Stromal"})]))
    with pytest.raises(LabelError, match="no column 'kind'"):
        stplm.fit_classifier(embedded, "kind")
    with pytest.raises(LabelError, match="two labels"):
        stplm.fit_classifier(embedded, pd.concat([seeds, seeds.dropna().head(1)]))
    with pytest.raises(LabelError, match="one label a cell"):
        stplm.fit_classifier(embedded, ["Tumour", "Stromal"])
    with pytest.raises(LabelError, match="no labelled cell"):
        stplm.fit_classifier(embedded, seeds, tumour_classes=["Melanoma"])


def test_unlabelled_rows_of_strangers_do_not_matter(embedded: AnnData, seeds: pd.Series) -> None:
    more = pd.concat([seeds, pd.Series({"x-1": None}, dtype=object)])
    assert _arrays(stplm.fit_classifier(embedded, more)) == _arrays(stplm.fit_classifier(embedded, seeds))


def test_cells_that_are_not_embedded(table: AnnData, embedded: AnnData, seeds: pd.Series) -> None:
    with pytest.raises(ModelError, match="not embedded"):
        stplm.fit_classifier(table, seeds)
    classifier = stplm.fit_classifier(embedded, seeds)
    with pytest.raises(ModelError):
        stplm.predict(table, classifier)
    assert keys.CLASS not in table.obs


def test_cells_embedded_with_another_model(embedded: AnnData, few: AnnData, seeds: pd.Series) -> None:
    classifier = stplm.fit_classifier(embedded, seeds)
    stplm.embed(few, stplm.adapt(few, steps=1), clusters=0)
    with pytest.raises(ModelError, match="another model"):
        stplm.predict(few, classifier)
    assert keys.CLASS not in few.obs


def test_vectors_without_their_note_can_be_used(embedded: AnnData, seeds: pd.Series) -> None:
    """As after a trip through a tool that keeps obsm and drops uns."""
    embedded.uns.clear()
    stplm.predict(embedded, stplm.fit_classifier(embedded, seeds))
    assert embedded.uns[keys.UNS][keys.UNS_PREDICTION]["model"] == "unknown"


def test_seeded_labels_promise_less(embedded: AnnData, seeds: pd.Series) -> None:
    """Seeds are a class's clearest cells: what is learned from them must not look as sure as a person's labels."""
    by_hand, seeded = (
        stplm.predict(embedded.copy(), stplm.fit_classifier(embedded, seeds, seeded=s)) for s in (False, True)
    )
    assert (by_hand.obs[keys.CLASS] == seeded.obs[keys.CLASS]).mean() > 0.8
    assert seeded.obs[keys.CONFIDENCE].mean() < by_hand.obs[keys.CONFIDENCE].mean() - 0.03
    assert seeded.uns[keys.UNS][keys.UNS_PREDICTION]["seeded"] is True


def test_cells_without_counts_have_no_class(embedded: AnnData, seeds: pd.Series) -> None:
    empty = [i for i in range(60) if seeds.iloc[i] is None][:5]
    counts = embedded.X.tolil()
    counts[empty] = 0
    embedded.X = counts.tocsr()
    stplm.embed(embedded, clusters=0)
    stplm.predict(embedded, stplm.fit_classifier(embedded, seeds))
    assert embedded.obs[keys.CLASS].iloc[empty].isna().all()
    assert (embedded.obs[keys.CONFIDENCE].iloc[empty] == 0).all()
    assert embedded.obs[keys.TUMOUR].iloc[empty].isna().all()
    assert embedded.obs[keys.CLASS].notna().sum() == 1135 - 5
    np.testing.assert_allclose(embedded.obsm[keys.PROBA].sum(1), 1, atol=1e-5)


def test_fewer_counts_mean_less_confidence(embedded: AnnData, seeds: pd.Series) -> None:
    """The same cells, thinned to about six counts each."""
    classifier = stplm.fit_classifier(embedded, seeds, seeded=True)
    faint = embedded.copy()
    random = np.random.default_rng(0)
    faint.X.data = random.binomial(faint.X.data.astype(int), 0.04).astype(faint.X.dtype)
    faint.X.eliminate_zeros()
    stplm.embed(faint, clusters=0)
    clear, unclear = (stplm.predict(t, classifier).obs[keys.CONFIDENCE] for t in (embedded, faint))
    assert unclear.median() < 0.75 * clear.median()


def test_a_cell_is_predicted_alone_as_among_others(embedded: AnnData, seeds: pd.Series) -> None:
    classifier = stplm.fit_classifier(embedded, seeds)
    alone = stplm.predict(embedded[700:703].copy(), classifier)
    stplm.predict(embedded, classifier)
    np.testing.assert_allclose(alone.obsm[keys.PROBA], embedded.obsm[keys.PROBA][700:703], atol=1e-6)


def test_genes_in_another_order_predict_the_same(embedded: AnnData, table: AnnData, seeds: pd.Series) -> None:
    classifier = stplm.fit_classifier(embedded, seeds)
    mixed = table[:, np.random.default_rng(0).permutation(table.n_vars)].copy()
    stplm.predict(stplm.embed(mixed, clusters=0), classifier)
    stplm.predict(embedded, classifier)
    assert _predictions(mixed)[0] == _predictions(embedded)[0]
    np.testing.assert_allclose(_predictions(mixed)[1], _predictions(embedded)[1], atol=1e-4)


def test_a_panel_with_fewer_genes_is_predicted(embedded: AnnData, table: AnnData, seeds: pd.Series) -> None:
    classifier = stplm.fit_classifier(embedded, seeds)
    part = stplm.predict(stplm.embed(table[:, ::2].copy(), clusters=0), classifier)
    stplm.predict(embedded, classifier)
    agree = part.obs[keys.CLASS].astype(str).to_numpy() == embedded.obs[keys.CLASS].astype(str).to_numpy()
    assert agree.mean() > 0.7


def test_who_is_tumour_can_be_said(embedded: AnnData, seeds: pd.Series) -> None:
    classifier = stplm.fit_classifier(embedded, seeds, tumour_classes=["Tumour", "Myoepithelial"])
    stplm.predict(embedded, classifier)
    places = [classifier.classes.index(c) for c in ("Tumour", "Myoepithelial")]
    np.testing.assert_allclose(embedded.obs[keys.TUMOUR], embedded.obsm[keys.PROBA][:, places].sum(1), atol=1e-6)
    none = stplm.predict(embedded, stplm.fit_classifier(embedded, seeds, tumour_classes=[]))
    assert (none.obs[keys.TUMOUR] == 0).all()


def test_a_prediction_survives_h5ad_and_can_be_made_again(embedded: AnnData, seeds: pd.Series, tmp_path: Path) -> None:
    classifier = stplm.fit_classifier(embedded, seeds)
    stplm.predict(embedded, classifier)
    embedded.write_h5ad(tmp_path / "cells.h5ad")
    back = read_h5ad(tmp_path / "cells.h5ad")
    assert _predictions(back)[0] == _predictions(embedded)[0]
    again = stplm.predict(back, stplm.fit_classifier(back, seeds))
    assert _predictions(again)[1].tobytes() == _predictions(embedded)[1].tobytes()


def test_a_class_may_have_any_name(embedded: AnnData, seeds: pd.Series, tmp_path: Path) -> None:
    names = {"Tumour": 'T/NK, "odd"', "Stromal": ".", "T cell": "__x", "Mast": "/", "B cell": "Tumör"}
    classes = sorted(names.values())
    stplm.predict(embedded, stplm.fit_classifier(embedded, seeds.map(names)))
    section = SpatialData(tables={"table": TableModel.parse(embedded)})
    for path in (tmp_path / "a.h5ad", tmp_path / "a.zarr"):
        back = stplm.cell_table(stplm.read_section(stplm.export(section, path)))
        note = back.uns[keys.UNS][keys.UNS_PREDICTION]
        assert _predictions(back)[0] == _predictions(embedded)[0]
        assert list(note["classes"]) == classes
        of_each = [sum(names.get(seed) == name for seed in seeds.dropna()) for name in classes]
        assert list(note["labels_by_class"]) == of_each


def test_a_section_does_as_well_as_its_table(demo_path: Path) -> None:
    section = stplm.read_section(demo_path, images=False, labels=False)
    stplm.embed(section, clusters=0)
    labels = stplm.seed_labels(section)
    table = stplm.predict(section, stplm.fit_classifier(section, labels, seeded=True))
    assert table is stplm.cell_table(section)
    assert keys.CLASS in table.obs


def test_cells_of_a_class_without_labels_are_the_strange_ones(
    embedded: AnnData, seeds: pd.Series, tmp_path: Path
) -> None:
    every = stplm.seed_labels(embedded, per_class=40)
    stplm.predict(embedded, stplm.fit_classifier(embedded, seeds[seeds != "Tumour"]))
    unknown = embedded.obs[keys.UNKNOWN].to_numpy()
    assert unknown.dtype == np.float32
    assert ((unknown >= 0) & (unknown <= 1)).all()
    tumour = (every == "Tumour").to_numpy()
    assert np.median(unknown[tumour]) > np.quantile(unknown[every.notna().to_numpy() & ~tumour], 0.8)


def test_the_hierarchical_scheme_survives_its_folder(embedded: AnnData, seeds: pd.Series, tmp_path: Path) -> None:
    classifier = stplm.fit_classifier(embedded, seeds, scheme="hierarchical")
    stplm.predict(embedded, Classifier.load(classifier.save(tmp_path / "head")))
    tumour, unknown = (embedded.obs[key].to_numpy() for key in (keys.TUMOUR, keys.UNKNOWN))
    proba = embedded.obsm[keys.PROBA]
    np.testing.assert_allclose(tumour, proba[:, classifier.classes.index("Tumour")], atol=1e-5)
    stplm.predict(embedded, classifier)
    assert np.array_equal(unknown, embedded.obs[keys.UNKNOWN])
    stplm.predict(embedded, stplm.fit_classifier(embedded, seeds))
    assert np.abs(tumour - embedded.obs[keys.TUMOUR]).max() > 0.01
    with pytest.raises(LabelError, match="scheme"):
        stplm.fit_classifier(embedded, seeds, scheme="both")  # type: ignore[arg-type]
