"""Opening a section in napari: ours; against spatialdata-io and napari-spatialdata. Each in a window of its own."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.rows import Row
from benchmarks.sections import Sections
from benchmarks.speed.window import SCREEN

ROOT = Path(__file__).resolve().parents[2]
NAME = "opening in napari, until image and cells are drawn"
LONGEST_S = 600


def measure(sections: Sections, sizes: tuple[int, ...]) -> list[Row]:
    """A row of the largest size; without figures where there is no display, or one of the two does not get there."""
    cells = max(sizes)
    if shutil.which("xvfb-run") is None:
        return [Row(NAME, cells, None, None, "s", note="Needs a display of its own: xvfb-run is not there.")]
    path = sections.bundle(cells, images=True)
    ours, theirs = opened(path, "ours"), opened(path, "theirs")
    note = (
        "From the wish to open until the frame that shows image and label image; ours has every cell clickable and "
        "coloured by then, napari-spatialdata one colour a label. Memory is what the process holds then."
    )
    if ours is None or theirs is None:
        note += f" {'Ours' if ours is None else 'napari-spatialdata'} did not get there in {LONGEST_S} s."
    return [Row(NAME, cells, ours and ours[0], theirs and theirs[0], "s", peak_mb=ours and ours[1], note=note)]


def opened(path: Path, way: str) -> tuple[float, float] | None:
    """Seconds and MB; None where it fails or takes too long."""
    script = [sys.executable, "-m", "benchmarks.reference.opening", str(path), way]
    command = ["xvfb-run", "-a", "-s", SCREEN, *script]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LONGEST_S, check=True)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        sys.stderr.write(f"{way}: {error}\n")
        return None
    found = json.loads(done.stdout.splitlines()[-1])
    return float(found["seconds"]), float(found["mb"])
