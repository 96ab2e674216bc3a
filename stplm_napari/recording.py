"""A session's steps as a file: what is in them now, and the job that writes them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stplm_napari.jobs import Job, Slot
from stplm_napari.recipe import recipe_of, write_recipe
from stplm_napari.script import write_script
from stplm_napari.session import Session
from stplm_napari.steps import Step

if TYPE_CHECKING:
    from stplm.progress import Progress
    from stplm_napari.workspace import Workspace


def steps_now(session: Session) -> list[Step]:
    """The steps of a session, with classes, labels and regions as they are now, undo and all."""
    own = session.annotations
    labels = own.by_class()
    steps = list(session.steps)
    if labels:
        place = next((i for i, step in enumerate(steps) if step.name not in ("open", "regions")), len(steps))
        classes = [asdict(c) for c in session.classes]
        steps.insert(place, Step("labels", {"classes": classes, "labels": labels}))
    return steps


class Recorder:
    """Writes scripts and notebooks of one viewer's session."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self.writing = Slot()
        self.written: Path | None = None
        """The script, notebook or recipe that was written last."""

    def export(self, path: str | Path) -> Job:
        """Write the steps as a Python script, or as a Jupyter notebook (.ipynb)."""
        path, steps = Path(path), steps_now(self._workspace.session)
        return self._write(path, lambda: write_script(steps, path))

    def save_recipe(self, path: str | Path) -> Job:
        """Write what was done as a recipe for ``stplm run``, with the classifier in a folder beside it."""
        path, session = Path(path).resolve(), self._workspace.session

        def write() -> Path:
            return write_recipe(*recipe_of(session, path), path)

        return self._write(path, write)

    def suggest(self, ending: str) -> Path:
        """Where such a file would go: beside the section."""
        path = self._workspace.session.path
        return self._workspace.exporter.folder() / f"{'section' if path is None else path.stem}_stplm{ending}"

    def _write(self, path: Path, write: Any) -> Job:
        def run(progress: Progress) -> Path:
            progress(0, 0)
            return Path(write())

        def note(written: Path) -> None:
            self.written = written

        job = self._workspace.jobs.start(f"Writing {path.name}", run, note, can_cancel=False)
        return self.writing.take(job)
