"""The marker in a section's output folder: what was made of which section by what, so that it is not made again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stplm.errors import ExportError
from stplm.io.staged import restore_interrupted
from stplm.models import versions
from stplm.tasks.section_runs import SectionRun

MARKER, SUMMARY = "done.json", "summary.html"
OUTPUTS = {"h5ad": "cells.h5ad", "explorer": "cell_groups.csv", "geojson": "cells.geojson", "zarr": "section.zarr"}
"""What each format of :func:`stplm.export` is called in a section's folder."""
_FORMAT = 1


def what_is_wanted(
    path: str | Path,
    about: Mapping[str, Any],
    *,
    exports: Sequence[str] = ("h5ad",),
    report: bool = True,
    colours: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """What the marker of a finished section says besides the outcome, in plain values. Raises ExportError."""
    if unknown := sorted(set(exports) - set(OUTPUTS)):
        raise ExportError("Unknown export format.", found=unknown[0], expected=", ".join(OUTPUTS))
    return {
        "format": _FORMAT,
        "source": _source(Path(path)),
        "about": json.loads(json.dumps(dict(about))),
        "outputs": sorted([*exports, *(["summary"] if report else [])]),
        "colours": dict(colours or {}),
    }


def finished(folder: str | Path, wanted: Mapping[str, Any]) -> SectionRun | None:
    """The outcome in a folder whose marker says all of ``wanted``; None where it does not, or is not whole."""
    restore_interrupted(folder)
    try:
        marker = json.loads((Path(folder) / MARKER).read_text(encoding="utf-8"))
        if any(marker.get(key) != value for key, value in wanted.items()):
            return None
        names = [SUMMARY if what == "summary" else OUTPUTS[what] for what in marker["outputs"]]
        whole = all((Path(folder) / name).exists() for name in names)
        return SectionRun.from_json(marker["result"]) if whole else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_marker(folder: Path, wanted: Mapping[str, Any], outcome: SectionRun) -> None:
    """Say in a folder what was made there. A folder that may be read meanwhile is to be staged."""
    marker = {**wanted, "result": outcome.to_json(), "versions": versions()}
    (folder / MARKER).write_text(json.dumps(marker, indent=1) + "\n", encoding="utf-8")


def _source(path: Path) -> list[Any]:
    """Tells one state of a section from another by its files' names, sizes and times, without reading them."""
    files = sorted(path.iterdir()) if path.is_dir() else [path] if path.exists() else []
    return [str(path.resolve()), [[f.name, f.stat().st_size, f.stat().st_mtime_ns] for f in files if f.is_file()]]
