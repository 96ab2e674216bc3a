"""Rank value encoding of many sections: in line, in processes of this machine, or on a Dask cluster."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from stplm.io.laid_out import as_table_file
from stplm.io.staged import make_folder
from stplm.progress import Progress, no_progress
from stplm.tasks.finished import finished, what_is_wanted, write_marker
from stplm.tasks.scheduler import Unit, open_pool
from stplm.tasks.section_runs import PARTS, SectionRun, sections_in
from stplm.tasks.section_stages import Stage, Stages, run_stages


def tokenize_sections(
    paths: Iterable[str | Path],
    out: str | Path,
    *,
    mode: str = "stplm",
    medians: str | Path | None = None,
    scheduler: str | None = None,
    workers: int | None = None,
    resume: bool = True,
    on_change: Callable[[int, SectionRun], object] | None = None,
    progress: Progress = no_progress,
) -> list[SectionRun]:
    """:func:`stplm.rank_encode` on many sections, each into a folder of its own in ``out``.

    ``mode``, ``medians``: as :func:`stplm.rank_encode` takes them. A folder is what ``RankTokens.load`` reads, with
    ``done.json`` in it. The other parameters, outcome and errors are those of
    :func:`stplm.tasks.embed_sections.embed_sections`.
    """
    out = make_folder(out).resolve()
    table = Path(medians) if medians is not None else None
    about: dict[str, Any] = {"task": "tokenize", "mode": mode, "medians": medians}
    if table is not None and table.is_file():
        about["medians"] = hashlib.sha256(table.read_bytes()).hexdigest()
        medians = table.resolve()

    def stages(run: SectionRun) -> Stages:
        given = (run.section.resolve(), run.folder, mode, medians, about, resume)
        (outcome,) = yield Stage([Unit(tokenize_section, given)], PARTS)
        assert isinstance(outcome, SectionRun)
        return replace(outcome, section=run.section)

    with open_pool(scheduler, workers) as pool:
        return run_stages(sections_in(paths, out), stages, pool, on_change=on_change, progress=progress)


def tokenize_section(
    section: Path, folder: Path, mode: str, medians: str | Path | None, about: dict[str, Any], resume: bool
) -> SectionRun:
    """One of them. ``about``: what tells this work from other work. Raises StplmError."""
    import stplm
    from stplm.tokens.rank_file import rank_encode_file

    began = time.monotonic()
    wanted = what_is_wanted(section, about, exports=(), report=False)
    if resume and (found := finished(folder, wanted)) is not None:
        return replace(found, section=section, folder=folder, state="skipped")
    with as_table_file(section, folder) as file:
        if file is not None:
            tokens = rank_encode_file(file, folder, mode=mode, medians=medians)
        else:
            table = stplm.cell_table(stplm.read_section(section, images=False, labels=False))
            tokens = stplm.rank_encode(table, mode=mode, medians=medians)
            tokens.save(folder)
    outcome = SectionRun(section, folder, "done", len(tokens), seconds=round(time.monotonic() - began, 1))
    write_marker(folder, wanted, outcome)  # last: half a marker is none
    return outcome
