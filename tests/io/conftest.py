"""Bundles to break: copies of the demo section."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest


@pytest.fixture
def bundle(demo_path: Path, tmp_path: Path) -> Path:
    """A copy of the demo section (without transcripts) that a test may damage."""
    target = tmp_path / "outs"
    shutil.copytree(demo_path, target, ignore=shutil.ignore_patterns("transcripts.parquet"))
    return target


@pytest.fixture
def edit_cells(bundle: Path) -> Callable[[Callable[[pd.DataFrame], pd.DataFrame]], None]:
    """Rewrite cells.parquet of ``bundle`` through a function."""

    def edit(change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
        path = bundle / "cells.parquet"
        change(pd.read_parquet(path)).to_parquet(path, index=False)

    return edit
