"""What the encoder is given of a table."""

from __future__ import annotations

import numpy as np
from anndata import AnnData

from stplm import keys
from stplm.nn.tissue import TissueConfig
from stplm.tasks.cells import prepare_cells, table_columns, table_genes

CONFIG = TissueConfig()


def test_only_genes_the_model_knows_are_taken(few: AnnData) -> None:
    genes = list(few.var[keys.ENSEMBL_ID])
    model_genes = ["ENSG99999999999", *reversed(genes[10:60])]
    cells = prepare_cells(few, model_genes, CONFIG)
    assert cells.counts.shape == (300, 50)
    assert [model_genes[r] for r in cells.rows] == genes[10:60]
    assert np.array_equal(cells.dense(slice(0, 5)), few.X[:5, 10:60].toarray())


def test_a_gene_that_is_there_twice_counts_once(few: AnnData) -> None:
    ids = few.var[keys.ENSEMBL_ID].astype(str).to_numpy()
    ids[5] = ids[2]
    few.var[keys.ENSEMBL_ID] = ids
    found = table_genes(few)
    assert found[5] == ""
    assert found[2] == ids[2]
    assert len(set(found[found != ""])) == 312


def test_what_has_no_id_is_known_by_its_name(few: AnnData) -> None:
    ids, names = np.array(few.var[keys.ENSEMBL_ID], dtype=object), np.array(few.var_names, dtype=object)  # copies
    for column, name in {3: "HPV16_E6", 7: "NegControlProbe_00042", 9: "BLANK_0007", 12: "HPV16_E6"}.items():
        names[column], ids[column] = name, ""
    few.var = few.var.set_axis(names).assign(**{keys.ENSEMBL_ID: ids})
    found = table_columns(few)
    assert list(found[[3, 7, 9, 12]]) == ["HPV16_E6", "", "", ""], "controls are no genes, and a name counts once"
    assert np.array_equal(np.delete(found, [3, 7, 9, 12]), np.delete(ids, [3, 7, 9, 12]))
    cells = prepare_cells(few, ["HPV16_E6", ids[0]], CONFIG)
    assert np.array_equal(cells.dense(slice(None)), few.X[:, [0, 3]].toarray())


def test_neighbours_are_near_others_with_weights_that_add_up_to_one(few: AnnData) -> None:
    few.obsm[keys.SPATIAL][0] -= 9000
    cells = prepare_cells(few, list(few.var[keys.ENSEMBL_ID]), CONFIG)
    assert cells.xy is not None
    assert cells.neighbours is not None
    assert cells.weights is not None
    assert cells.neighbours.shape == (300, 12)
    assert (cells.weights[0] == 0).all()
    np.testing.assert_allclose(cells.weights[1:].sum(1), 1, rtol=1e-5)
    real = cells.weights > 0
    rows = np.repeat(np.arange(300), 12).reshape(300, 12)[real]
    distance = np.linalg.norm(cells.xy[rows] - cells.xy[cells.neighbours[real]], axis=1)
    assert distance.max() <= CONFIG.neighbour_radius
    assert (cells.neighbours[real] != rows).all()
    # Nearer weighs more.
    assert (np.diff(cells.weights, axis=1) <= 1e-7).all()
