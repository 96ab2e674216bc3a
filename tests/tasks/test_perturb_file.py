"""A perturbation of a table that stays on the disk is the one that memory gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import stplm
from stplm import keys
from stplm.errors import SectionError
from stplm.io.cell_table import counts_matrix
from stplm.io.export import write_h5ad
from stplm.io.table_file import TableFile
from stplm.tasks import cells_file, perturb_statistics
from stplm.tasks.cells import prepare_cells
from stplm.tasks.cells_file import FileRows
from stplm.tasks.checkpoints import fingerprint
from stplm.tasks.perturb_bag import BagVariants
from stplm.tasks.perturb_cells import studied

SOME = np.arange(1, 900, 6)


@pytest.fixture(scope="module")
def classified(_demo_embedded: AnnData, classifier: stplm.Classifier) -> tuple[AnnData, stplm.Classifier]:
    return stplm.predict(_demo_embedded.copy(), classifier), classifier


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells_file, "ROWS", 100)
    monkeypatch.setattr(cells_file, "_GAP", 200)
    monkeypatch.setattr(cells_file, "_MOST", 3000)
    monkeypatch.setattr(perturb_statistics, "_BLOCK", 70)


def test_any_rows_are_those_of_memory(table: AnnData, tmp_path: Path, small_blocks: None) -> None:
    path, whole = write_h5ad(table, tmp_path / "cells.h5ad"), counts_matrix(table)
    random = np.random.default_rng(0)
    columns = np.sort(random.choice(table.n_vars, 90, replace=False))
    wanted: list[Any] = [
        slice(13, 700),
        random.permutation(table.n_obs)[:300],
        np.array([5, 5, 900, 2, 2]),
        np.zeros(0, dtype=np.int64),
        random.random(table.n_obs) < 0.3,
        np.arange(table.n_obs),
    ]
    with TableFile(path) as file:
        for rows, expected in ((FileRows(file.counts), whole), (FileRows(file.counts, columns), whole[:, columns])):
            assert rows.shape == expected.shape
            for cells in wanted:
                found = rows[cells]
                assert found.dtype == np.float32
                np.testing.assert_array_equal(found.toarray(), expected[cells].toarray())


@pytest.mark.parametrize("model", ["tissue-breast", "rank-breast"])
def test_the_same_section_has_the_same_fingerprint(
    table: AnnData, tmp_path: Path, small_blocks: None, model: str
) -> None:
    encoder = stplm.load_model(model).encoder
    table = table[:, 20:].copy()
    path = write_h5ad(table, tmp_path / "cells.h5ad")
    with studied(path) as section:
        assert fingerprint(section.cells(encoder, near=False)) == fingerprint(
            prepare_cells(table, encoder.genes, encoder.config)
        )


@pytest.mark.parametrize(
    "options",
    [
        {"cells": SOME, "nulls": 5},
        {"cells": SOME, "top": 5},
        {"genes": ["EPCAM", "CD3E"], "mode": "overexpress", "cells": SOME},
        {"genes": {"two": ["LUM", "KRT8"]}, "mode": "inhibit", "spatial": True},
    ],
)
def test_every_number_is_that_of_memory(
    classified: tuple[AnnData, stplm.Classifier], tmp_path: Path, small_blocks: None, options: dict[str, Any]
) -> None:
    table, classifier = classified
    goal = str(table.obs[keys.CLASS].cat.categories[0])
    expected = stplm.perturb(table, classifier=classifier, goal=goal, **options)
    path, head = write_h5ad(table, tmp_path / "cells.h5ad"), classifier.save(tmp_path / "head")
    found = stplm.perturb(path, classifier=head, goal=goal, out=tmp_path / "out", **options)
    pd.testing.assert_frame_equal(found.genes, expected.genes)
    name = found.genes["genes"][0]
    np.testing.assert_array_equal(found.per_cell(name), expected.per_cell(name))
    assert found.info.get("screened") == expected.info.get("screened")
    assert (found.rings is None) == (expected.rings is None)
    if found.rings is not None:
        pd.testing.assert_frame_equal(found.rings, expected.rings)
    assert found.info["run"] == expected.info["run"], "a run that was begun on either goes on with the other"


def test_a_screen_of_gene_tokens_reads_the_file(table: AnnData, tmp_path: Path, small_blocks: None) -> None:
    path = write_h5ad(table, tmp_path / "cells.h5ad")
    options: dict[str, Any] = {"cells": np.arange(0, 24, 2), "top": 4, "nulls": 0}
    expected = stplm.perturb(table, "rank-breast", **options)
    found = stplm.perturb(path, "rank-breast", **options)
    pd.testing.assert_frame_equal(found.genes, expected.genes)


def test_counts_are_not_read_whole(table: AnnData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_h5ad(table, tmp_path / "cells.h5ad")
    monkeypatch.setattr(perturb_statistics, "_BLOCK", 64)
    monkeypatch.setattr(cells_file, "ROWS", 64)
    most: list[int] = []
    read = FileRows.__getitem__

    def watched(self: FileRows, cells: Any) -> Any:
        most.append((found := read(self, cells)).shape[0])
        return found

    monkeypatch.setattr(FileRows, "__getitem__", watched)
    monkeypatch.setattr(BagVariants, "block", 64)
    stplm.perturb(path, nulls=0, spatial=False, genes=["EPCAM"], keep_vectors=0)
    assert sum(most) > table.n_obs
    assert max(most) == 300, "the cells that noise is measured on"


def test_another_h5ad_is_refused(tmp_path: Path) -> None:
    AnnData(np.ones((3, 2), dtype=np.float32)).write_h5ad(tmp_path / "other.h5ad")
    with pytest.raises(SectionError, match="cell table of ours"):
        stplm.perturb(tmp_path / "other.h5ad")
