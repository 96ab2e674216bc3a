"""The demo section, read and embedded once; one thread."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pytest
import torch
from anndata import AnnData

import stplm

if TYPE_CHECKING:
    from distributed import Client

    from stplm.tasks.classifier import Classifier


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def _demo(demo_path: Path) -> AnnData:
    return stplm.cell_table(stplm.read_section(demo_path, images=False, labels=False))


@pytest.fixture(scope="session")
def _demo_embedded(_demo: AnnData) -> AnnData:
    return stplm.embed(_demo.copy(), clusters=0)


@pytest.fixture
def table(_demo: AnnData) -> AnnData:
    """The demo section's cells: 1,135 cells, 313 genes."""
    return _demo.copy()


@pytest.fixture
def few(_demo: AnnData) -> AnnData:
    """300 neighbouring cells of it, the leftmost."""
    leftmost = _demo.obsm["spatial"][:, 0].argsort(kind="stable")[:300]
    return _demo[sorted(leftmost)].copy()


@pytest.fixture
def embedded(_demo_embedded: AnnData) -> AnnData:
    """The demo section's cells with the bundled model's vectors."""
    return _demo_embedded.copy()


@pytest.fixture(scope="session")
def _seeds(_demo: AnnData) -> pd.Series:
    return stplm.seed_labels(_demo, per_class=8)


@pytest.fixture
def seeds(_seeds: pd.Series) -> pd.Series:
    """Eight or fewer labels a class, by cell id, None elsewhere."""
    return _seeds.copy()


@pytest.fixture(scope="session")
def classifier(_demo_embedded: AnnData, _seeds: pd.Series) -> Classifier:
    """Fitted to these labels; nothing changes one."""
    return stplm.fit_classifier(_demo_embedded.copy(), _seeds)


@pytest.fixture(scope="session")
def client() -> Iterator[Client]:
    """Of a scheduler with two worker processes of one thread."""
    from forked import two_workers

    with two_workers() as client:
        yield client
