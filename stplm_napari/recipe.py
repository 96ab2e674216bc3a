"""A session as a recipe for other sections: ``stplm run``. No Qt."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from stplm.errors import ExportError
from stplm.io.staged import staged_folder
from stplm_napari.runs import KeptModel
from stplm_napari.session import Session

if TYPE_CHECKING:
    from stplm.tasks.cohort import RunRecipe

_FORMATS = ("h5ad", "explorer", "geojson", "zarr")


def recipe_of(session: Session, path: Path) -> tuple[RunRecipe, Any]:
    """What was done to the open section as a recipe, and the classifier to be saved beside it (None: it is saved).

    Raises
    ------
    ExportError
        No cell has a class yet, or the vectors are of a model that was adapted to this section.
    """
    from stplm.tasks.cohort import ClassifyRecipe, EmbedRecipe, RunRecipe

    classifier = session.classifier
    if classifier is None:
        raise ExportError(
            "There is nothing to do again on other sections yet.",
            found="no classifier",
            mend="Label some cells, or classify by reference profiles, in the Classify dock.",
        )
    embedded = next((step.params for step in reversed(session.steps) if step.name == "embed"), {})
    if embedded.get("adapt") and not isinstance(classifier, KeptModel):  # that brings vectors of its own
        raise ExportError(
            "The model was adapted to this section, so the classifier means nothing in another one.",
            mend="Embed again without adapting and classify, then save the recipe.",
        )
    known = {name: embedded[name] for name in ("model", "neighbours", "seed") if name in embedded}
    folder = path.with_name(f"{path.stem}_classifier")
    wanted = {str(step.params.get("what")) for step in session.steps if step.name == "export"}
    exports = tuple(name for name in _FORMATS if name in wanted) or ("h5ad", "explorer")
    recipe = RunRecipe(
        classify=ClassifyRecipe(classifier=folder),
        embed=EmbedRecipe(**known),
        exports=exports,  # type: ignore[arg-type]
        colours={c.name: c.colour for c in session.classes if c.name in set(session.predicted_classes)},
    )
    return recipe, classifier


def write_recipe(recipe: RunRecipe, classifier: Any, path: Path) -> Path:
    """Write the recipe, and the classifier into the folder that it names. Raises ExportError."""
    from stplm.tasks.cohort import write_run_recipe

    folder = recipe.classify.classifier
    if folder is not None and isinstance(classifier, KeptModel):
        with staged_folder(folder, mark="config.json") as stage:
            classifier.save(stage)
    elif folder is not None:
        classifier.save(folder, overwrite=True)
    return write_run_recipe(recipe, path)
