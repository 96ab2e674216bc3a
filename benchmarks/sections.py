"""Simulated sections that speed is measured on: made once, kept under ``build/benchmarks/sections``.

Cells are drawn from real profiles (:mod:`stplm.simulation`). To make them anew, delete the folder.
"""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anndata import AnnData

import stplm
from stplm.simulation import simulate_section

FOLDER = Path(__file__).resolve().parents[1] / "build" / "benchmarks" / "sections"
SMALL, MULTI, LARGE = "breast", "hMulti", "hPrime5K"
"""Panels: the 313 genes of the shipped profiles, which the bundled models know; 10x's 377 and 5,001 genes."""
PANELS: Mapping[str, dict[str, Any]] = {
    SMALL: {},
    MULTI: {"panel": MULTI},
    LARGE: {"panel": LARGE, "median_counts": 400.0},
}
"""What :func:`stplm.simulation.simulate_section` is asked for. A cell of 5,001 genes has 400 counts in the median."""
GENES = {SMALL: 313, MULTI: 377, LARGE: 5001}
COARSE = 0.85
"""µm a pixel where no image is asked for: masks of the whole section, a sixteenth of the room."""


@dataclass(frozen=True)
class Sections:
    """Sections by size and panel. Several processes may ask at once: one makes a section, the others wait."""

    folder: Path = field(default=FOLDER)

    def bundle(self, cells: int, panel: str = SMALL, *, images: bool = False, transcripts: bool = False) -> Path:
        """The folder of a simulated Xenium bundle, ``truth.parquet`` in it.

        With ``images``, masks and DAPI have the instrument's 0.2125 µm a pixel; a million cells take 850 s to draw.
        With ``transcripts``, every counted one is a row of ``transcripts.parquet``: for 100,000 cells at most.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{panel}-{cells}{'-images' if images else ''}{'-transcripts' if transcripts else ''}"
        with (self.folder / f".{path.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.is_dir():
                part = path.with_name(f".{path.name}.part")
                shutil.rmtree(part, ignore_errors=True)
                detail: dict[str, Any] = {} if images else {"image": False, "pixel_size": COARSE}
                simulate_section(part, cells=cells, transcripts=transcripts, **PANELS[panel], **detail)
                part.rename(path)
        return path

    def table(self, cells: int, panel: str = SMALL) -> AnnData:
        """The canonical cell table of a section, read anew: what is written into it stays with the caller."""
        return stplm.cell_table(stplm.read_section(self.bundle(cells, panel), images=False, labels=False))
