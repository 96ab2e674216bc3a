"""A recipe for many sections: what was done to one of them, in a YAML file.

:mod:`stplm.tasks.cohort_run` does it to the others, without a window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml

from stplm.io.staged import staged_file
from stplm.tasks.recipes import RecipeError, expand, read_recipe

if TYPE_CHECKING:
    pass

_FORMAT = 1
_HEAD = """# What was done to a section in STPLM, for others: stplm run {name} --sections 'cohort/*' --out results
# Paths are relative to this file. https://yaml.org
"""
_SUFFIXES = frozenset({".h5ad", ".loom", ".zarr", ".h5", ".hdf5", ".xenium"})


@dataclass(frozen=True)
class EmbedRecipe:
    """As :func:`stplm.embed` takes them. ``model``: a bundled name or a folder, the recipe's own place tried first. All
    sections are embedded by that model, unless ``adapt`` makes another one of each."""

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
    beside = path.parent / recipe.embed.model
    if recipe.embed.model != "default" and (beside / "config.json").is_file():
        recipe = replace(recipe, embed=replace(recipe.embed, model=str(beside)))
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
            if Path(value.get("model", "")).is_absolute():
                value["model"] = Path(value["model"])
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
