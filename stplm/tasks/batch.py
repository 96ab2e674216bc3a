"""One classifier on many sections: read, embed, call, write; a folder a section, and what is done is not done again.

A section's folder is made beside and renamed when it is whole, with ``done.json`` in it: what was applied to which file
and what came out. A run that was killed, or got more sections, goes on with those whose marker is missing or of another
classifier, section or setting. One section's failure is put on record and the next one's turn comes.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stplm import keys
from stplm.errors import ModelError
from stplm.io.staged import make_folder, staged_folder
from stplm.models import DEFAULT, Model, load_model
from stplm.progress import Progress, no_progress
from stplm.tasks.classifier import Classifier
from stplm.tasks.finished import MARKER, OUTPUTS, SUMMARY, finished, what_is_wanted, write_marker
from stplm.tasks.section_runs import PARTS, SectionRun, run_sections, sections_in
from stplm.tasks.shares import Shares

if TYPE_CHECKING:
    from anndata import AnnData

_READ, _WORKED = 5, 85

Work = Callable[["AnnData", Progress], object]
"""Puts a prediction into a cell table."""


def apply_to_sections(
    paths: Iterable[str | Path],
    out: str | Path,
    classifier: Classifier | Model | str | Path,
    *,
    resume: bool = True,
    on_change: Callable[[int, SectionRun], object] | None = None,
    progress: Progress = no_progress,
    **options: Any,
) -> list[SectionRun]:
    """:func:`apply_to_section` on one after the other, each into a folder of its own in ``out``.

    Parameters
    ----------
    paths
        Sections, as :func:`stplm.read_section` takes them.
    resume
        Leave out what is done already. Otherwise everything is done again, and earlier output replaced.
    on_change
        Told a section's place in the list and its state, when it begins and when it ends.
    progress
        Counts hundredths of a section.
    **options
        As :func:`apply_to_section` takes them.

    Returns
    -------
    Each section's outcome, in order. A section that failed has ``state`` "failed" and its error; the others go on.

    Raises
    ------
    ModelError
        There is no such classifier, or it was fitted on another model's vectors: before any section is begun.
    ExportError
        ``out`` cannot be made.
    Cancelled
        When ``progress`` raises it. What was done stays.
    """
    head = open_classifier(classifier)
    check_fit(head, options.get("model", DEFAULT), options.get("embedding") or {})

    def one(run: SectionRun, tell: Progress) -> SectionRun:
        return apply_to_section(run.section, run.folder, head, resume=resume, progress=tell, **options)

    return run_sections(sections_in(paths, out), one, on_change=on_change, progress=progress)


def apply_to_section(
    path: str | Path,
    folder: str | Path,
    classifier: Classifier | Model | str | Path,
    *,
    model: str | Path | Model = DEFAULT,
    embedding: Mapping[str, Any] | None = None,
    shares: Shares = "section",
    device: str = "auto",
    exports: Sequence[str] = ("h5ad",),
    report: bool = True,
    colours: Mapping[str, str] | None = None,
    resume: bool = True,
    progress: Progress = no_progress,
) -> SectionRun:
    """Read a section, embed it where the classifier needs that, call every cell, and write it all into a folder.

    Parameters
    ----------
    path
        A section, as :func:`stplm.read_section` takes it.
    folder
        What to make: ``cells.h5ad``, ``cell_groups.csv``, ``cells.geojson``, ``section.zarr`` (those of ``exports``),
        ``summary.html`` (with ``report``) and ``done.json``.
    classifier
        A few-shot head or a fine-tuned model, or the folder of either.
    model, embedding
        For a few-shot head: the model that it was fitted on, and what else :func:`stplm.embed` is given.
    shares
        "section": the classes' shares are estimated anew from this section's cells (label shift); "fitted": those of
        the section that was learnt from.
    colours
        ``{class: "#RRGGBB"}`` for exports and summary.
    resume
        Do nothing where the folder's marker says that just this was done already.
    progress
        Counts hundredths.

    Raises
    ------
    StplmError
        Whatever is wrong with the section, the classifier or the place; then nothing is there that was not before.
    Cancelled
        When ``progress`` raises it.
    """
    import stplm

    head = open_classifier(classifier)
    settings = {"clusters": 0, "adapt": False, **(embedding or {}), "device": device}

    def work(table: AnnData, tell: Progress) -> None:
        if isinstance(head, Classifier):
            stplm.embed(table, model, **settings, progress=tell)
            stplm.predict(table, head, shares=shares)
        else:
            from stplm.tasks.apply import apply_heads

            apply_heads(table, head, shares=shares, device=device, progress=tell)

    about: dict[str, Any] = {"classifier": identity(head), "shares": shares}
    if isinstance(head, Classifier):
        about |= {"model": load_model(model).fingerprint(), "embedding": {**settings, "device": ""}}
    return process_section(
        path,
        folder,
        work,
        about,
        exports=exports,
        report=report,
        colours=colours,
        resume=resume,
        progress=progress,
    )


def process_section(
    path: str | Path,
    folder: str | Path,
    work: Work,
    about: Mapping[str, Any],
    *,
    exports: Sequence[str] = ("h5ad",),
    report: bool = True,
    colours: Mapping[str, str] | None = None,
    resume: bool = True,
    whole: bool | None = None,
    progress: Progress = no_progress,
) -> SectionRun:
    """What :func:`apply_to_section` does, for any way of working on cells.

    ``work(table, progress)`` puts a prediction into the cell table, as :func:`stplm.predict` does, or whatever else.
    ``about``: plain values that tell this work from other work; with the section and the outputs they decide what is
    done already. ``whole``: read images and masks too; by default where the outputs need them.
    """
    import stplm
    from stplm.report.summary import write_summary

    path, folder, began = Path(path), Path(folder), time.monotonic()
    wanted = what_is_wanted(path, about, exports=exports, report=report, colours=colours)
    progress(0, PARTS)
    if resume and (found := finished(folder, wanted)) is not None:
        progress(PARTS, PARTS)
        return replace(found, section=path, folder=folder, state="skipped")
    if whole is None:
        whole = report or "zarr" in exports
    section = stplm.read_section(path, images=whole, labels=whole, polygons="geojson" in exports)
    table = stplm.cell_table(section)
    progress(_READ, PARTS)

    def tell(done: int, total: int) -> None:
        progress(_READ + (_WORKED - _READ) * done // max(total, 1), PARTS)

    work(table, tell)
    make_folder(folder.parent)
    with staged_folder(folder, mark=MARKER) as stage:
        stage.mkdir()
        for i, what in enumerate(exports):
            progress(_WORKED + (PARTS - _WORKED) * i // (len(exports) + 1), PARTS)
            given = {"colours": dict(colours or {})} if what in ("explorer", "geojson") else {}
            stplm.export(section, stage / OUTPUTS[what], what=what, **given)
        if report:
            write_summary(section, stage / SUMMARY, colours=colours)
        outcome = SectionRun(path, folder, "done", **_counted(table), seconds=round(time.monotonic() - began, 1))
        write_marker(stage, wanted, outcome)
        progress(PARTS - 1, PARTS)
    progress(PARTS, PARTS)
    return outcome


def open_classifier(classifier: Classifier | Model | str | Path) -> Classifier | Model:
    """A few-shot head or a fine-tuned model, from the folder of either. Raises ModelError."""
    if isinstance(classifier, Classifier):
        return classifier
    if not isinstance(classifier, Model) and (Path(classifier) / "classifier.json").is_file():
        return Classifier.load(classifier)
    model = load_model(classifier)
    if model.heads is None:
        raise ModelError(
            "This model has not learned any classes.",
            found=model.name,
            expected="a fine-tuned model, or a few-shot classifier",
            mend="Fine-tune it on labels first, or save a classifier.",
        )
    return model


def check_fit(classifier: Classifier | Model, model: str | Path | Model, embedding: Mapping[str, Any]) -> None:
    """Raise ModelError where a few-shot head was fitted on other vectors than these sections will have."""
    if not isinstance(classifier, Classifier) or not (fitted := classifier.info.get("embedding")):
        return
    if embedding.get("adapt"):
        raise ModelError(
            "A few-shot classifier goes with one model, and adapting makes another one of each section.",
            mend="Embed without adapting, or fine-tune: a fine-tuned model brings its own vectors.",
        )
    if (found := load_model(model).fingerprint()) != fitted:
        raise ModelError(
            "The classifier was fitted on the vectors of another model.",
            found=found[:12],
            expected=str(fitted)[:12],
            mend="Give the model that the cells were embedded with when it was fitted. If that was adapted to the "
            "section, embed the section without adapting and classify again.",
        )


def identity(classifier: Classifier | Model) -> str:
    """SHA-256 of all that decides what a classifier says."""
    digest = hashlib.sha256()
    if isinstance(classifier, Classifier):
        arrays = {n: getattr(classifier, n) for n in ("dense", "level", "bias", "log_prior")}
        for part in (classifier.tumour_head, classifier.unknown):
            arrays |= {} if part is None else part.to_arrays()
        plain: dict[str, Any] = {"about": classifier.to_dict(), "genes": classifier.genes}
    else:
        heads = classifier.heads
        assert heads is not None
        arrays = {name: value.cpu().numpy() for name, value in heads.state_dict().items()}
        plain = {"encoder": classifier.fingerprint(), "heads": heads.config.to_dict()}
    for name in sorted(arrays):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(arrays[name]).tobytes())
    digest.update(json.dumps(plain, sort_keys=True, default=str).encode())
    return digest.hexdigest()


def _counted(table: AnnData) -> dict[str, Any]:
    found: dict[str, Any] = {"cells": int(table.n_obs)}
    if keys.CLASS in table.obs:
        column = table.obs[keys.CLASS]
        found["classes"] = {str(name): int(n) for name, n in column.value_counts(sort=False).items()}
        found["unassigned"] = int(column.isna().sum())
    if keys.TUMOUR in table.obs:
        found["tumour"] = float((table.obs[keys.TUMOUR].to_numpy(dtype=np.float64) >= 0.5).mean())
    if keys.UNKNOWN in table.obs:
        found["unknown"] = float((table.obs[keys.UNKNOWN].to_numpy(dtype=np.float64) > keys.STRANGE).mean())
    return found
