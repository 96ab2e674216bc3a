"""The interactive loop in a real window (benchmarks/interactive.py), on a display of its own by xvfb-run."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.rows import Row
from benchmarks.sections import Sections

ROOT = Path(__file__).resolve().parents[2]
SCREEN = "-screen 0 1600x1000x24"
SMALLEST = 100_000
"""A lasso takes 100,000 cells; and there is nothing to measure in a window of few."""


def measure(sections: Sections, sizes: tuple[int, ...]) -> list[Row]:
    """Rows of the largest size alone: a run takes minutes."""
    cells = max(sizes)
    if cells < SMALLEST:
        return []
    if shutil.which("xvfb-run") is None:
        why = "Needs a display of its own: xvfb-run is not there."
        return [Row("window: opened to first picture", cells, None, None, "s", note=why)]
    section = sections.bundle(cells, images=True)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "interactive.json"
        kept = sections.folder / f"{section.name}-vectors.npz"
        script = [sys.executable, "benchmarks/interactive.py", "--section", str(section), "--out", str(out)]
        script += ["--vectors", str(kept)]
        subprocess.run(["xvfb-run", "-a", "-s", SCREEN, *script], cwd=ROOT, check=True)
        found = json.loads(out.read_text(encoding="utf-8"))
    return [as_row(row) for row in found]


def as_row(found: dict[str, object]) -> Row:
    """A row of interactive.py as one of ours."""
    bar, unit, ours = found["bar"], str(found["unit"]), found["ours"]
    cpu = found.get("cpu")
    more = unit.endswith("/s")
    return Row(
        f"window: {found['name']}",
        int(str(found["cells"])),
        float(str(ours)),
        None if found["reference"] is None else float(str(found["reference"])),
        unit,
        peak_mb=None if found["peak_mb"] is None else float(str(found["peak_mb"])),
        agrees=None if found["agrees"] is None else bool(found["agrees"]),
        bar="" if bar is None else f"{'≥' if more else '≤'} {float(str(bar)):,g} {unit}",
        met=None if bar is None else (float(str(ours)) >= float(str(bar))) == more,
        note="" if cpu is None else "Processor time beside the clock: see docs/interactive.md.",
    )
