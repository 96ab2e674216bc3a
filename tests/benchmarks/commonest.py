"""A peer that calls every cell by the commonest label, writes down each draw, and fails at the seed it is told to."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

SETTINGS: dict[str, Any] = {}


def prepare(table: Any, folder: Path) -> Any:
    (folder / "cells").write_text(str(table.n_obs), encoding="utf-8")
    return table, folder


def predict(prepared: Any, labels: Any, seed: int) -> Any:
    table, folder = prepared
    if os.environ.get("FAIL_AT") == str(seed):
        raise ValueError(f"no luck with seed {seed}")
    with (folder / "seeds").open("a", encoding="utf-8") as file:
        file.write(f"{seed} ")
    return np.full(table.n_obs, Counter(name for name in labels if name is not None).most_common(1)[0][0])
