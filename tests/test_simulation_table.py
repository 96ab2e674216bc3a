"""A simulated cell table holds the cells of the bundle of the same seed."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np
import pytest

import stplm
from stplm import cli, keys
from stplm.errors import ExportError
from stplm.io.cell_table import is_canonical
from stplm.simulation import simulate_section
from stplm.simulation_table import CLASS, simulate_table


def test_the_cells_are_those_of_the_bundle(tmp_path: Path) -> None:
    bundle = simulate_section(tmp_path / "bundle", cells=400, image=False)
    expected = stplm.cell_table(stplm.read_section(bundle, images=False, labels=False))
    table = ad.read_h5ad(simulate_table(tmp_path / "table.h5ad", cells=400))
    assert is_canonical(table)
    assert list(table.obs_names) == list(expected.obs_names)
    assert (table.X != expected.X).nnz == 0
    np.testing.assert_allclose(table.obsm[keys.SPATIAL], expected.obsm[keys.SPATIAL])
    assert table.obs[CLASS].nunique() > 5


def test_the_command_writes_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "cells.h5ad"
    assert cli.main(["simulate", str(path), "--cells", "50", "--genes", "60", "--table"]) == 0
    assert ad.read_h5ad(path).shape == (50, 60)
    with pytest.raises(ExportError, match="exists"):
        simulate_table(path, cells=50)
