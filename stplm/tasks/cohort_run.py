"""What a recipe says, done to many sections: here, in processes of this machine, or on a Dask cluster.

The work on each section, what is done already and what happens to failures is :mod:`stplm.tasks.batch`'s.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stplm.errors import LabelError
from stplm.io.staged import make_folder, staged_file
from stplm.progress import Progress, no_progress
from stplm.tasks.batch import apply_to_section, check_fit, open_classifier, process_section
from stplm.tasks.cohort import ClassifyRecipe, EmbedRecipe, RunRecipe
from stplm.tasks.scheduler import Unit, open_pool
from stplm.tasks.section_runs import PARTS, SectionRun, run_sections, sections_in
from stplm.tasks.section_stages import Stage, Stages, run_stages

if TYPE_CHECKING:
    from anndata import AnnData

    from stplm.models import Model
    from stplm.tasks.classifier import Classifier

OVERVIEW = "sections.csv"
"""What came out of each section, in the output folder."""


def run_recipe(
    recipe: RunRecipe,
    sections: Sequence[str | Path],
    out: str | Path,
    *,
    scheduler: str | None = None,
    workers: int | None = None,
    resume: bool = True,
    on_change: Callable[[int, SectionRun], object] | None = None,
    progress: Progress = no_progress,
) -> list[SectionRun]:
    """Do what a recipe says to every section; each gets a folder in ``out``, and ``sections.csv`` tells of all.

    ``scheduler`` and ``workers`` say who does it (:func:`stplm.tasks.scheduler.open_pool`), a section each; with
    neither, it is done here, one after the other. The other parameters and the outcome are those of
    :func:`stplm.tasks.batch.apply_to_sections`: what is done already is left out, a section that fails is put on record
    and the next one's turn comes.

    Raises
    ------
    StplmError
        The classifier or the labels cannot be read, ``out`` cannot be made, or no scheduler answers: before any section
        is begun; or the scheduler goes away.
    Cancelled
        When ``progress`` raises it. What was done stays.
    """
    out = make_folder(out)
    job, head = _Job.of(recipe, resume), None
    if recipe.classify.classifier is not None:
        head = open_classifier(recipe.classify.classifier)
        check_fit(head, recipe.embed.model, job.embedding())
    if scheduler is None and workers is None:

        def one(run: SectionRun, tell: Progress) -> SectionRun:
            return do_section(run.section, run.folder, job, head, tell)

        runs = run_sections(sections_in(sections, out), one, on_change=on_change, progress=progress)
    else:

        def stages(run: SectionRun) -> Stages:
            (outcome,) = yield Stage([Unit(do_section, (run.section.resolve(), run.folder.resolve(), job))], PARTS)
            assert isinstance(outcome, SectionRun)
            return replace(outcome, section=run.section, folder=run.folder)

        with open_pool(scheduler, workers) as pool:
            runs = run_stages(sections_in(sections, out), stages, pool, on_change=on_change, progress=progress)
    _write_overview(runs, out / OVERVIEW)
    return runs


@dataclass(frozen=True)
class _Job:
    """A recipe as a worker takes it, paths in full. ``about``: what tells its work from other work."""

    recipe: RunRecipe
    about: dict[str, Any]
    resume: bool

    @classmethod
    def of(cls, recipe: RunRecipe, resume: bool) -> _Job:
        how, embed = recipe.classify, recipe.embed
        about = {} if how.classifier is not None else {"embed": _vectors_of(embed), "classify": _about(how)}
        classifier, labels = (path and path.resolve() for path in (how.classifier, how.labels))
        model = str(Path(embed.model).resolve()) if Path(embed.model).is_dir() else embed.model
        full = replace(
            recipe, classify=replace(how, classifier=classifier, labels=labels), embed=replace(embed, model=model)
        )
        return cls(full, about, resume)

    def embedding(self) -> dict[str, Any]:
        """What :func:`stplm.embed` is given beside model and device."""
        return {name: value for name, value in _vectors_of(self.recipe.embed).items() if name != "model"}


def do_section(
    section: Path,
    folder: Path,
    job: _Job,
    head: Classifier | Model | None = None,
    progress: Progress = no_progress,
) -> SectionRun:
    """Do what a recipe says to one section. ``head``: its classifier, where it is loaded already. Raises StplmError."""
    recipe = job.recipe
    common: dict[str, Any] = {
        "exports": recipe.exports,
        "report": recipe.report,
        "colours": recipe.colours,
        "resume": job.resume,
        "progress": progress,
    }
    if recipe.classify.classifier is None:
        return process_section(section, folder, partial(_call_cells, recipe), job.about, **common)
    return apply_to_section(
        section,
        folder,
        head or recipe.classify.classifier,
        model=recipe.embed.model,
        embedding=job.embedding(),
        shares=recipe.classify.shares,
        device=recipe.embed.device,
        **common,
    )


def _vectors_of(embed: EmbedRecipe) -> dict[str, Any]:
    """What decides on a cell's vector."""
    return {name: value for name, value in asdict(embed).items() if name != "device"}


def _call_cells(recipe: RunRecipe, table: AnnData, progress: Progress) -> None:
    import stplm

    how = recipe.classify
    stplm.embed(table, **asdict(recipe.embed), clusters=0, progress=progress)
    labels: Any = how.column
    if how.profiles is not None:
        labels = stplm.seed_labels(table, profiles=how.profiles, per_class=how.per_class, seed=how.seed)
    elif how.labels is not None:
        labels = _labels_in(table, how.labels)
    seeded = how.profiles is not None
    classifier = stplm.fit_classifier(table, labels, tumour_classes=how.tumour_classes, seeded=seeded, seed=how.seed)
    stplm.predict(table, classifier)


def _labels_in(table: AnnData, path: Path) -> Any:
    """Those of a file's labels whose cells are here."""
    from stplm.io.label_csv import read_label_csv

    labels = read_label_csv(path)
    labels = labels[labels.index.isin(table.obs_names)]
    if not len(labels):
        raise LabelError("None of the labelled cells is in this section.", where=path)
    return labels


def _about(how: ClassifyRecipe) -> dict[str, Any]:
    """What decides on the outcome, as plain values."""
    found = {name: value for name, value in asdict(how).items() if name != "labels"}
    if how.labels is not None:
        found["labels"] = hashlib.sha256(how.labels.read_bytes()).hexdigest()
    return found


def _write_overview(runs: Sequence[SectionRun], path: Path) -> None:
    names = list(dict.fromkeys(name for run in runs for name in run.classes))
    with staged_file(path) as stage, stage.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(["section", "folder", "state", "cells", "tumour", "unknown", "seconds", "error", *names])
        for run in runs:
            shares = ["" if share is None else f"{share:.4f}" for share in (run.tumour, run.unknown)]
            problem = "" if run.error is None else run.error.problem
            about = [run.section, run.folder.name, run.state, run.cells, *shares, run.seconds, problem]
            writer.writerow([*about, *(run.classes.get(name, 0) for name in names)])
