"""A recipe for many sections: what was done to one of them, in a YAML file, done to the others without a window.

The work on each section, what is done already and what happens to failures is :mod:`stplm.tasks.batch`'s.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml

from stplm.errors import LabelError
from stplm.io.staged import make_folder, staged_file
from stplm.progress import Progress, no_progress
from stplm.tasks.batch import apply_to_sections, process_section
from stplm.tasks.recipes import RecipeError, expand, read_recipe
from stplm.tasks.section_runs import SectionRun, run_sections, sections_in

if TYPE_CHECKING:
    from anndata import AnnData

OVERVIEW = "sections.csv"
"""What came out of each section, in the output folder."""
_FORMAT = 1
_HEAD = """# What was done to a section in STPLM, for others: stplm run {name} --sections 'cohort/*' --out results
# Paths are relative to this file. https://yaml.org
"""
_SUFFIXES = frozenset({".h5ad", ".loom", ".zarr", ".h5", ".hdf5", ".xenium"})


@dataclass(frozen=True)
class EmbedRecipe:
    """As :func:`stplm.embed` takes them. ``model``: a bundled name or a folder."""

    model: str = "default"
    adapt: bool = False
    neighbours: bool = True
    seed: int = 0
    device: str = "auto"


@dataclass(frozen=True)
class ClassifyRecipe:
    """Where classes come from: one of ``classifier``, ``profiles``, ``column`` and ``labels``.

    Attributes
    ----------
    classifier
        A folder: a few-shot classifier that was saved, or a fine-tuned model.
    profiles
        Reference profiles; ``per_class`` clear cells of each section are its labels.
    column
        An obs column of every section.
    labels
        A CSV of cell_id and class, for sections that hold those cells.
    shares
        "section": the classes' shares are estimated anew in each section; "fitted": those of the first one.
    tumour_classes
        Which classes are tumour; by default those whose name says so. A classifier brings its own.
    """

    classifier: Path | None = None
    profiles: str | None = None
    column: str | None = None
    labels: Path | None = None
    per_class: int = 40
    shares: Literal["section", "fitted"] = "section"
    tumour_classes: tuple[str, ...] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        given = [name for name in ("classifier", "profiles", "column", "labels") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"give one of classifier, profiles, column and labels, not {' and '.join(given) or 'none of them'}"
            )
        if self.per_class < 1:
            raise ValueError("per_class must be 1 or more")


@dataclass(frozen=True)
class RunRecipe:
    """What is done to every section.

    Attributes
    ----------
    classify, embed
        How cells get classes, and the vectors before.
    exports
        Files of each section: "h5ad", "explorer", "geojson", "zarr".
    report
        Also the one-page summary.
    colours
        ``{class: "#RRGGBB"}``.
    sections, out
        Paths with wildcards, and the output folder; the command line's go first.
    stplm
        The recipe's format, 1.
    """

    classify: ClassifyRecipe
    embed: EmbedRecipe = field(default_factory=EmbedRecipe)
    exports: tuple[Literal["h5ad", "explorer", "geojson", "zarr"], ...] = ("h5ad", "explorer")
    report: bool = True
    colours: dict[str, str] = field(default_factory=dict)
    sections: tuple[Path, ...] = ()
    out: Path | None = None
    stplm: int = _FORMAT

    def __post_init__(self) -> None:
        if self.stplm != _FORMAT:
            raise ValueError(f"it is of format {self.stplm}, this version reads {_FORMAT}")
        if not self.exports and not self.report:
            raise ValueError("nothing would be written: give exports, or report: true")


def read_run_recipe(path: str | Path) -> RunRecipe:
    """Read and check a recipe. Raises RecipeError, with the line, for what is misspelt, missing or not there."""
    path = Path(path)
    recipe = read_recipe(path, RunRecipe)
    for what, place in (("classifier", recipe.classify.classifier), ("label file", recipe.classify.labels)):
        if place is not None and not place.exists():
            raise RecipeError(f"The {what} of the recipe is not there.", where=place, mend="Copy it beside the recipe.")
    return recipe


def write_run_recipe(recipe: RunRecipe, path: str | Path, *, overwrite: bool = True) -> Path:
    """Write a recipe; what is as by default is left out, and paths are relative to it where they can be."""
    path = Path(path)

    def plain(value: Any) -> Any:
        if isinstance(value, Path):
            inside = value.is_relative_to(path.parent)
            return (value.relative_to(path.parent) if inside else value).as_posix()
        if isinstance(value, dict):
            return {key: plain(entry) for key, entry in value.items()}
        return [plain(entry) for entry in value] if isinstance(value, tuple | list) else value

    content: dict[str, Any] = {"stplm": recipe.stplm}
    for part in fields(recipe):
        value = getattr(recipe, part.name)
        if part.name in ("classify", "embed"):
            started = EmbedRecipe() if part.name == "embed" else None
            value = {k: v for k, v in asdict(value).items() if v is not None and v != getattr(started, k, None)}
            if part.name == "classify":
                value = {k: v for k, v in value.items() if v != ClassifyRecipe.__dataclass_fields__[k].default}
        if part.name != "stplm" and (part.name == "exports" or value not in (None, {}, ())):
            content[part.name] = plain(value)
    with staged_file(path, overwrite=overwrite) as stage:
        body = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
        stage.write_text(_HEAD.format(name=path.name) + body, encoding="utf-8")
    return path


def find_sections(patterns: Sequence[str | Path], out: Path) -> tuple[list[Path], list[Path]]:
    """Sections that patterns match, and files among them that are none. Raises RecipeError."""
    found = [path for path in expand(tuple(map(Path, patterns))) if path.resolve() != out.resolve()]
    left_out = [path for path in found if path.is_file() and path.suffix.lower() not in _SUFFIXES]
    sections = [path for path in found if path not in left_out]
    if not sections:
        raise RecipeError(
            "There is no section among the files.", where=str(patterns[0]), found=f"{len(left_out)} files"
        )
    return sections, left_out


def run_recipe(
    recipe: RunRecipe,
    sections: Sequence[str | Path],
    out: str | Path,
    *,
    resume: bool = True,
    on_change: Callable[[int, SectionRun], object] | None = None,
    progress: Progress = no_progress,
) -> list[SectionRun]:
    """Do what a recipe says to every section; each gets a folder in ``out``, and ``sections.csv`` tells of all.

    Parameters and outcome are those of :func:`stplm.tasks.batch.apply_to_sections`: what is done already is left out,
    a section that fails is put on record and the next one's turn comes.

    Raises
    ------
    StplmError
        The classifier or the labels cannot be read, or ``out`` cannot be made: before any section is begun.
    Cancelled
        When ``progress`` raises it. What was done stays.
    """
    out = make_folder(out)
    how = recipe.classify
    common: dict[str, Any] = {
        "exports": recipe.exports,
        "report": recipe.report,
        "colours": recipe.colours,
        "resume": resume,
    }
    embedding = {k: v for k, v in asdict(recipe.embed).items() if k not in ("model", "device")}
    if how.classifier is not None:
        runs = apply_to_sections(
            sections,
            out,
            how.classifier,
            model=recipe.embed.model,
            embedding=embedding,
            shares=how.shares,
            device=recipe.embed.device,
            on_change=on_change,
            progress=progress,
            **common,
        )
    else:
        about = {"embed": {"model": recipe.embed.model, **embedding}, "classify": _about(how)}

        def one(run: SectionRun, tell: Progress) -> SectionRun:
            def work(table: AnnData, tell: Progress) -> None:
                _call_cells(table, recipe, tell)

            return process_section(run.section, run.folder, work, about, progress=tell, **common)

        runs = run_sections(sections_in(sections, out), one, on_change=on_change, progress=progress)
    _write_overview(runs, out / OVERVIEW)
    return runs


def _call_cells(table: AnnData, recipe: RunRecipe, progress: Progress) -> None:
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
