"""The cache of compiled loops: processes that fill it at one time do not spoil it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

_MODULE = """
from stplm.compiled import compiled

@compiled()
def doubled(x):
    return 2 * x[0]
"""


@pytest.fixture
def process(tmp_path: Path) -> Any:
    """Imports one file anew, as another process would: a function that has compiled nothing yet."""
    path = tmp_path / "loops.py"
    path.write_text(_MODULE)

    def start() -> Any:
        spec = importlib.util.spec_from_file_location("loops", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.doubled

    return start


WHOLE, BROKEN = np.array([3, 0]), np.array([1.5, 0.0])


def test_what_one_process_compiled_another_reads(process: Any) -> None:
    assert process()(WHOLE) == 6
    later = process()
    assert later(WHOLE) == 6
    assert sum(later.stats.cache_hits.values()) == 1


def test_two_types_at_one_time_get_a_file_each(process: Any, tmp_path: Path) -> None:
    one, other = process(), process()
    assert one(WHOLE) == 6
    files = other._cache._cache_file
    files._load_index = dict  # it looked before the first had written
    assert other(BROKEN) == 3.0
    del files._load_index
    assert len(list(tmp_path.rglob("*.nbc"))) == 2
    later = process()
    assert later(BROKEN) == 3.0
    assert later(WHOLE) == 6
    assert sum(later.stats.cache_hits.values()) == 1  # what is missing from the list is compiled once more
