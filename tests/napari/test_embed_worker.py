"""What the worker does to embed: counts stay in the file, vectors go back in a file, the result is the engine's."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np
import pytest

import stplm
from stplm import keys
from stplm.io.cell_table import cell_table
from stplm_napari import tasks
from stplm_napari.results import Result


@pytest.mark.parametrize("canonical", [True, False])
def test_the_result_is_that_of_embedding_in_memory(demo_path: Path, tmp_path: Path, canonical: bool) -> None:
    table = cell_table(stplm.read_section(demo_path, images=False, labels=False))[:300].copy()
    if not canonical:
        table.X = table.X.astype(np.float32).toarray()
    with ad.settings.override(allow_write_nullable_strings=True):
        table.write_h5ad(tmp_path / "table.h5ad")
    seen: list[int] = []
    params = {"model": "default", "adapt": False, "neighbours": True, "seed": 1}
    tasks.embed_in_folder(tmp_path, params, lambda done, total: seen.append(done))
    result = Result.load(tmp_path)
    stplm.embed(table, seed=1)
    assert result.obsm[keys.X_STPLM].tobytes() == table.obsm[keys.X_STPLM].tobytes()
    assert list(result.obs[keys.CLUSTER]) == list(table.obs[keys.CLUSTER])
    assert result.uns[keys.UNS_EMBEDDING]["sha256"] == table.uns[keys.UNS][keys.UNS_EMBEDDING]["sha256"]
    assert seen[-1] == 300
    assert (tmp_path / "vectors.npy").is_file() == canonical
