"""Sections that benchmarks measure on."""

from __future__ import annotations

import os
from pathlib import Path

import anndata as ad
from anndata import AnnData

import stplm

ROOT = Path(__file__).resolve().parents[2]


def labelled_section() -> AnnData:
    """The annotated breast section, 17,136 cells; from ``STPLM_SHARED_DATA`` or ``../shared/data``."""
    data = Path(os.environ.get("STPLM_SHARED_DATA", ROOT.parent / "shared" / "data"))
    path = data / "xenium_breast_17k" / "rep1_17136.h5ad"
    if not path.is_file():
        raise SystemExit(f"The labelled section was not found at {path}.")
    table: AnnData = stplm.cell_table(ad.read_h5ad(path))
    return table
