"""``stplm simulate``: a synthetic section, as a bundle or as a cell table alone."""

from __future__ import annotations

import argparse
from typing import Any

from stplm.cli_common import positive, progress_bar, say


def add_simulate(tasks: Any) -> None:
    """Add the command to the subparsers of ``stplm``."""
    about = "Write a synthetic Xenium bundle with known truth"
    sub = tasks.add_parser("simulate", help=about, description=about)
    sub.set_defaults(run=_simulate)
    sub.add_argument("out")
    sub.add_argument("--cells", type=positive, default=10_000)
    sub.add_argument("--genes", type=positive)
    sub.add_argument("--panel", help="genes of a 10x panel instead, e.g. hMulti (377) or hPrime5K (5,001)")
    sub.add_argument("--table", action="store_true", help="the cell table alone, as .h5ad: for millions of cells")
    sub.add_argument("--no-image", action="store_true", help="leave the DAPI image out")
    sub.add_argument("--seed", type=int, default=0)


def _simulate(arguments: argparse.Namespace) -> None:
    what: dict[str, Any] = {name: getattr(arguments, name) for name in ("cells", "genes", "panel", "seed")}
    if arguments.table:
        from stplm.simulation_table import simulate_table

        path = simulate_table(arguments.out, **what, progress=progress_bar("cells"))
    else:
        from stplm.simulation import simulate_section

        path = simulate_section(arguments.out, **what, image=not arguments.no_image, progress=progress_bar("steps"))
    say(f"Wrote {path}")
