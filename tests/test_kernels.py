"""How kernels share the cores with torch."""

from __future__ import annotations

import os
import subprocess
import sys

_PROGRAM = """
import numpy as np, torch
from stplm.spatial.graph import neighbour_graph
torch.set_num_threads(1)
assert torch.get_num_threads() == 1
neighbour_graph(np.random.default_rng(0).random((2000, 2)) * 200, k=3)
print(torch.get_num_threads())
"""


def test_parallel_loops_leave_torch_its_threads() -> None:
    """In a process of its own, since numba starts its threads once; with more of them than torch has."""
    wanted = {name: value for name, value in os.environ.items() if not name.endswith("NUM_THREADS")}
    ran = subprocess.run(
        [sys.executable, "-c", _PROGRAM], capture_output=True, text=True, env={**wanted, "NUMBA_NUM_THREADS": "2"}
    )
    assert ran.stdout.split() == ["1"], ran.stderr
