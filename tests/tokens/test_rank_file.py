"""Tokens of a table on the disk are the bytes that encoding it in memory saves."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np
import pytest

import stplm
from stplm.errors import Cancelled, ExportError
from stplm.io.cell_table import cell_table
from stplm.io.export import write_h5ad
from stplm.tokens import rank_file
from stplm.tokens.rank_file import rank_encode_file


@pytest.fixture
def stored(demo_path: Path, tmp_path: Path) -> Path:
    table = cell_table(stplm.read_section(demo_path, images=False, labels=False))
    return write_h5ad(table, tmp_path / "cells.h5ad")


@pytest.mark.parametrize("mode", ["stplm", "geneformer-v2"])
def test_the_folder_is_that_of_memory(stored: Path, tmp_path: Path, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rank_file, "ROWS", 300)
    stplm.rank_encode(ad.read_h5ad(stored), mode=mode).save(tmp_path / "whole")
    tokens = rank_encode_file(stored, tmp_path / "pieces", mode=mode)
    names = sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert sorted(path.name for path in (tmp_path / "pieces").iterdir()) == names
    for name in names:
        assert (tmp_path / "pieces" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert isinstance(tokens.ids, np.memmap)


def test_nothing_is_left_of_a_run_that_is_stopped(stored: Path, tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        rank_encode_file(stored, tmp_path / "tokens", progress=stop)
    assert [path.name for path in tmp_path.iterdir()] == ["cells.h5ad"]
    with pytest.raises(ExportError, match="something else"):
        rank_encode_file(stored, tmp_path)
