"""The report of a section, written in the worker process or by a script. No Qt."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stplm import keys
from stplm.progress import Progress, no_progress
from stplm_napari.handover import hand_over
from stplm_napari.perturb_tasks import variable
from stplm_napari.script import writes

if TYPE_CHECKING:
    from anndata import AnnData

    from stplm_napari.process import WorkerProcess
    from stplm_napari.script import Beside

_TABLE = "table.h5ad"


def report(table: AnnData, params: Mapping[str, Any]) -> Path:
    """``stplm.report.report.write_report`` of a cell table, with the images of the section at ``params["section"]``.

    Other ``params``: path, and truth, held_out, perturbations, steps, colours, extra, overwrite, for the engine.
    """
    import stplm
    from stplm.errors import SectionError
    from stplm.report.report import write_report

    given = dict(params)
    place, section = given.pop("section"), table
    if place is not None and Path(place).exists():
        with contextlib.suppress(SectionError):  # a file that holds cells alone has no images to show
            read = stplm.read_section(place)
            read.tables[keys.TABLE] = table
            section = read
    return write_report(section, given.pop("path"), **given)


def report_in_worker(
    table: AnnData, params: Mapping[str, Any], folder: Path, worker: WorkerProcess, progress: Progress = no_progress
) -> Path:
    """:func:`report` in the worker: what it draws with takes long to load. Returns the file."""
    hand_over(table, folder / _TABLE)
    worker.call("stplm_napari.report_tasks:report_in_folder", folder, params, progress)
    return Path(params["path"])


def report_in_folder(folder: Path, params: Mapping[str, Any], progress: Progress) -> None:
    """What the worker does for :func:`report_in_worker`."""
    import anndata

    report(anndata.read_h5ad(folder / _TABLE), params)


@writes("report", "The report")
def _report(params: Mapping[str, Any], beside: Beside) -> list[str]:
    kept = {k: v for k, v in params.items() if k not in ("section", "path", "steps", "overwrite", "perturbations")}
    given = "".join(f", {name}={value!r}" for name, value in kept.items() if value)
    if names := params.get("perturbations"):
        given += f", perturbations=[{', '.join(map(variable, names))}]"
    return [
        "from stplm.report.report import write_report",
        "OUT.mkdir(exist_ok=True)",
        f"write_report(section, OUT / {Path(params['path']).name!r}{given})",
    ]
