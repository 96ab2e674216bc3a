"""Fixtures shared by all tests: where the real data and the demo section lie."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real sections (``STPLM_SHARED_DATA`` or ``../shared/data``); the test is skipped without it."""
    path = Path(os.environ.get("STPLM_SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not path.is_dir():
        pytest.skip(f"real sections not found at {path}")
    return path


@pytest.fixture(scope="session")
def demo_path() -> Path:
    """The demo section that ships with the project."""
    return ROOT / "resources" / "demo_section"
