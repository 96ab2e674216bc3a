"""A section classified on the disk gets the calls that it gets in memory."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import stplm
from stplm import cli, keys
from stplm.errors import Cancelled, LabelError, ModelError
from stplm.io.export import write_h5ad
from stplm.io.table_file import TableFile
from stplm.tasks import features, features_file
from stplm.tasks.classify_file import classify_file, labelled_rows


@pytest.fixture
def stored(embedded: AnnData, seeds: pd.Series, tmp_path: Path) -> Path:
    embedded.obs["clicked"] = pd.Categorical(seeds)
    return write_h5ad(embedded, tmp_path / "cells.h5ad")


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "_CHUNK", 256)
    monkeypatch.setattr(features_file, "ROWS", 256)


def _assert_same(out: Path, table: AnnData, classifier: stplm.Classifier) -> None:
    found = ad.read_h5ad(out)
    expected = stplm.predict(table, classifier)
    assert list(found.obs[keys.CLASS].cat.categories) == classifier.classes
    assert found.obs[keys.CLASS].astype(object).equals(expected.obs[keys.CLASS].astype(object))
    for name in (keys.CONFIDENCE, keys.TUMOUR, keys.UNKNOWN):
        np.testing.assert_array_equal(found.obs[name], expected.obs[name])
    np.testing.assert_array_equal(found.obsm[keys.PROBA], expected.obsm[keys.PROBA])
    note, wanted = (t.uns[keys.UNS][keys.UNS_PREDICTION] for t in (found, expected))
    assert set(note) == set(wanted)
    for name in wanted:
        np.testing.assert_array_equal(note[name], wanted[name])


@pytest.mark.parametrize("scheme", ["joint", "hierarchical"])
def test_the_calls_are_those_of_memory(
    stored: Path, seeds: pd.Series, tmp_path: Path, small_blocks: None, scheme: str
) -> None:
    table = ad.read_h5ad(stored)
    counts = table.X.tolil()
    counts[[3, 700]] = 0
    table.X = counts.tocsr().astype(np.int32)
    write_h5ad(table, stored)
    labels = seeds.drop(table.obs_names[[3, 700]])
    seen: list[int] = []
    out = classify_file(stored, tmp_path / "out", labels, scheme=scheme, progress=lambda done, total: seen.append(done))
    assert seen == sorted(seen)
    assert seen[-1] == 4 * table.n_obs
    _assert_same(out, table, stplm.fit_classifier(table, labels, scheme=scheme))


def test_seeds_and_columns_label_as_in_memory(stored: Path, small_blocks: None) -> None:
    table = ad.read_h5ad(stored)
    by_column = stplm.fit_classifier(table, "clicked")
    classify_file(stored, stored, "clicked")
    _assert_same(stored, table.copy(), by_column)
    classify_file(stored, stored)
    _assert_same(stored, table, stplm.fit_classifier(table, stplm.seed_labels(table), seeded=True))


def test_labels_that_do_not_fit_say_so(stored: Path, small_blocks: None) -> None:
    before = stored.read_bytes()
    ids = ad.read_h5ad(stored).obs_names
    for labels, words in (
        ({"nobody": "a", ids[0]: "b"}, "not in this section"),
        ("nothing", "no column"),
        ({ids[0]: "a"}, "two classes"),
        ({ids[0]: " ", ids[1]: None}, "two classes"),
        (pd.Series(["a", "b"], index=[ids[0]] * 2), "two labels"),
    ):
        with pytest.raises(LabelError, match=words):
            classify_file(stored, stored, labels)
    with TableFile(stored) as table:
        rows, names = labelled_rows(table, {ids[9]: "b", ids[2]: "a"})
    assert (rows.tolist(), names.tolist()) == ([2, 9], ["a", "b"])

    def stop(done: int, total: int) -> None:
        if done > 0.8 * total:
            raise Cancelled

    with pytest.raises(Cancelled):
        classify_file(stored, stored, progress=stop)
    assert stored.read_bytes() == before
    assert len(list(stored.parent.iterdir())) == 1


def test_cells_must_be_embedded(table: AnnData, tmp_path: Path) -> None:
    path = write_h5ad(table, tmp_path / "cells.h5ad")
    with pytest.raises(ModelError, match="not embedded"):
        classify_file(path, tmp_path / "out.h5ad")


def test_the_command_embeds_first(table: AnnData, tmp_path: Path) -> None:
    path, out = write_h5ad(table, tmp_path / "cells.h5ad"), tmp_path / "out.h5ad"
    assert cli.main(["classify", str(path), "--out", str(out)]) == 0
    found = ad.read_h5ad(out)
    stplm.embed(table)
    _assert_same(out, table, stplm.fit_classifier(table, stplm.seed_labels(table), seeded=True))
    assert list(found.obs[keys.CLUSTER]) == list(table.obs[keys.CLUSTER])
