"""What the tests of pages share."""

from __future__ import annotations

import pytest

from stplm.report import summary


@pytest.fixture
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures of few points, for tests that do not look at them."""
    monkeypatch.setattr(summary, "_DPI", 40)
