"""Embed many sections in pieces: in line, in processes of this machine, or on a Dask cluster."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Literal

from stplm.io.staged import make_folder
from stplm.models import DEFAULT, load_model
from stplm.progress import Progress, no_progress
from stplm.tasks import encode
from stplm.tasks.embed_parts import merge, own_part, prepare, tissue_part
from stplm.tasks.embed_plan import Embedding
from stplm.tasks.scheduler import Unit, open_pool
from stplm.tasks.section_runs import PARTS, SectionRun, sections_in
from stplm.tasks.section_stages import Stage, Stages, run_stages

_READ, _MERGED = 10, 15
"""Hundredths of a section that reading and writing it take."""


def embed_sections(
    paths: Iterable[str | Path],
    out: str | Path,
    model: str | Path = DEFAULT,
    *,
    adapt: bool = False,
    neighbours: bool = True,
    device: str = "auto",
    dtype: str = "float32",
    seed: int = 0,
    clusters: int = 12,
    what: Literal["h5ad", "zarr"] = "h5ad",
    scheduler: str | None = None,
    workers: int | None = None,
    resume: bool = True,
    on_change: Callable[[int, SectionRun], object] | None = None,
    progress: Progress = no_progress,
) -> list[SectionRun]:
    """:func:`stplm.embed` on many sections, each into a folder of its own in ``out``, in pieces that are kept.

    Parameters
    ----------
    paths
        Sections, as :func:`stplm.read_section` takes them.
    model
        A bundled model's name or a model folder.
    adapt
        Adapt the model to each section, which makes another one of each; never done unasked.
    neighbours, device, dtype, seed, clusters
        As :func:`stplm.embed` takes them; ``device`` is chosen where the work is done.
    what
        "h5ad": ``cells.h5ad``; "zarr": the whole section as ``section.zarr``.
    scheduler, workers
        Where the pieces are done (:func:`stplm.tasks.scheduler.open_pool`); with neither, here, one after the other.
    resume
        Leave out sections and pieces that are done already, by whatever run. Otherwise everything is done again.
    on_change
        Told a section's place in the list and its state, when it begins and when it ends.
    progress
        Counts hundredths of a section.

    Returns
    -------
    Each section's outcome, in order. A section that failed has ``state`` "failed" and its error; the others go on. The
    vectors are those of :func:`stplm.embed`, byte for byte where the machines are of a kind.

    Raises
    ------
    ModelError
        There is no such model.
    ExportError
        ``out`` cannot be made.
    StplmError
        No scheduler answers, or it goes away.
    Cancelled
        When ``progress`` raises it. Pieces that were done stay.
    """
    loaded = load_model(model)
    place = str(Path(model).resolve()) if Path(model).is_dir() else str(model)
    how = Embedding(
        place,
        loaded.fingerprint(),
        encode.BLOCK,
        encode.BAND_CELLS,
        adapt=adapt,
        neighbours=neighbours,
        device=device,
        dtype=dtype,
        seed=seed,
        clusters=clusters,
        what=what,
    )
    tissue = int((PARTS - _READ - _MERGED) * (1 - loaded.encoder.own_time))
    out = make_folder(out).resolve()

    def stages(run: SectionRun) -> Stages:
        began = time.monotonic()
        section = run.section.resolve()
        (plan,) = yield Stage([Unit(prepare, (section, run.folder, how, resume))], _READ)
        if isinstance(plan, SectionRun):
            return replace(plan, section=run.section)
        placed = PARTS - _MERGED
        yield Stage([Unit(own_part, (plan, i, how)) for i in range(plan.blocks)], placed - tissue)
        yield Stage([Unit(tissue_part, (plan, i, how)) for i in range(plan.bands)], placed)
        (outcome,) = yield Stage([Unit(merge, (section, run.folder, plan, how))], PARTS)
        assert isinstance(outcome, SectionRun)
        return replace(outcome, section=run.section, seconds=round(time.monotonic() - began, 1))

    with open_pool(scheduler, workers) as pool:
        return run_stages(sections_in(paths, out), stages, pool, on_change=on_change, progress=progress)
