"""A session as a recipe for other sections: ``stplm run``. No Qt."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stplm.errors import ExportError
from stplm.io.staged import staged_folder
from stplm_napari.runs import KeptModel, is_adapted, vectors_model, vectors_settings
from stplm_napari.session import Session

if TYPE_CHECKING:
    from stplm.tasks.cohort import RunRecipe

_FORMATS = ("h5ad", "explorer", "geojson", "zarr")


def recipe_of(session: Session, path: Path) -> tuple[RunRecipe, Any, Path | None]:
    """What was done to the open section as a recipe; the classifier, and the model that was adapted to the section (or
    None), to be saved beside it.

    Raises
    ------
    ExportError
        No cell has a class yet, or the vectors are of a model that was adapted to this section and not kept.
    """
    from stplm.tasks.cohort import ClassifyRecipe, EmbedRecipe, RunRecipe

    classifier = session.classifier
    if classifier is None:
        raise ExportError(
            "There is nothing to do again on other sections yet.",
            found="no classifier",
            mend="Label some cells, or classify by reference profiles, in the Classify dock.",
        )
    known = vectors_settings(session)
    adapted: Path | None = None
    if not isinstance(classifier, KeptModel):  # that brings vectors of its own
        if (model := vectors_model(session)) is None:
            raise ExportError(
                "The model that was adapted to this section is not kept, and the classifier goes with it.",
                mend="Embed again and classify, then save the recipe.",
            )
        if is_adapted(session):
            adapted, model = Path(model), str(path.with_name(f"{path.stem}_model"))
        known["model"] = model
    folder = path.with_name(f"{path.stem}_classifier")
    wanted = {str(step.params.get("what")) for step in session.steps if step.name == "export"}
    exports = tuple(name for name in _FORMATS if name in wanted) or ("h5ad", "explorer")
    recipe = RunRecipe(
        classify=ClassifyRecipe(classifier=folder),
        embed=EmbedRecipe(**known),
        exports=exports,  # type: ignore[arg-type]
        colours={c.name: c.colour for c in session.classes if c.name in set(session.predicted_classes)},
    )
    return recipe, classifier, adapted


def write_recipe(recipe: RunRecipe, classifier: Any, adapted: Path | None, path: Path) -> Path:
    """Write the recipe, and classifier and adapted model into the folders that it names. Raises ExportError."""
    from stplm.tasks.cohort import write_run_recipe

    if adapted is not None:
        with staged_folder(Path(recipe.embed.model), mark="config.json") as stage:
            shutil.copytree(adapted, stage)
    folder = recipe.classify.classifier
    if folder is not None and isinstance(classifier, KeptModel):
        with staged_folder(folder, mark="config.json") as stage:
            classifier.save(stage)
    elif folder is not None:
        classifier.save(folder, overwrite=True)
    return write_run_recipe(recipe, path)
